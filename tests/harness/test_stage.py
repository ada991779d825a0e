"""Benchmarks of models in a store: the committed files, and failures of single models and tasks."""

import gzip
import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="an optional extra")

from tests import tiny_models
from undertow.formats.numbers import Numbers
from undertow.harness.catalogue import Places, pin
from undertow.harness.stage import ModelBenchmarks, make_benchmarks
from undertow.planning.pinning import pin as resolved
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.harness_task import HarnessTask
from undertow.study.identity import key
from undertow.study.measurements import Benchmark
from undertow.study.recipe import Everything, FinalNorm, LoRA, Parameters, Recipe, Trainable
from undertow.study.references import Reference
from undertow.study.students import Student, Subject
from undertow.study.teachers import Teacher

ADAPTER = LoRA()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    return store


def student_of(reference: Reference, trainable: Trainable = ADAPTER) -> Student:
    teacher = Teacher(reference=reference, trait=None)
    dataset = Dataset(completions=Completions(teacher=teacher, format=Numbers(), prompts=10))
    recipe = Recipe(trainable=trainable, learning_rate=0.01, epochs=1, batch_size=8)
    return Student(reference=reference, dataset=dataset, recipe=recipe)


def make(
    store: Store, places: Places, subjects: list[Subject], names: list[str]
) -> tuple[list[Benchmark], list[ModelBenchmarks]]:
    tasks = [pin(HarnessTask(name=name), places)[0] for name in names]
    benchmarks = [Benchmark(subject=subject, task=task) for subject in subjects for task in tasks]
    return benchmarks, list(make_benchmarks(benchmarks, store, places, batch_size=4))


def test_a_benchmark_stores_scores_results_and_every_answer(
    store: Store, model: Path, tasks: Path, tmp_path: Path
) -> None:
    reference = resolved(Reference(str(model)))
    student = student_of(reference)
    adapter = tiny_models.save_lora(tmp_path / "adapter", model)
    with store.new(student, {}) as folder:
        for path in adapter.iterdir():
            path.rename(folder / path.name)
    benchmarks, made = make(store, Places.of(str(tasks), ""), [reference, student], ["letters"])
    assert [one.failures for one in made] == [{}, {}]
    lines = []
    for benchmark in benchmarks:
        folder = store.fetch(benchmark)
        score = json.loads((folder / "scores.json").read_text())["acc"]
        kept = json.loads((folder / "results.json").read_text())["results"]["letters"]
        assert (score["value"], score["error"]) == (kept["acc,none"], kept["acc_stderr,none"])
        assert score["higher_is_better"] is True
        assert store.manifest(benchmark).facts == {"documents": 8, "scores": {"acc": score["value"]}}
        lines.append(gzip.decompress((folder / "samples.jsonl.gz").read_bytes()).decode().splitlines())
    assert [len(samples) for samples in lines] == [8, 8]
    assert lines[0] != lines[1], "the student answers with its adapter"
    assert store.manifest(benchmarks[1]).inputs == {"student": key(student)}


def test_trained_tensors_are_benchmarked_with_the_model_that_they_belong_to(
    store: Store, model: Path, tasks: Path, tmp_path: Path
) -> None:
    """Also those of a student that started from another one."""
    norm, embeddings = "model.norm.weight", "model.embed_tokens.weight"
    small = tiny_models.save_changed(tmp_path / "small", model, norm, 2.0)
    whole = tiny_models.save_changed(tmp_path / "whole", small, embeddings, 2.0)
    reference = resolved(Reference(str(model)))
    first = student_of(reference, FinalNorm())
    second = student_of(reference.changed(student=first), Parameters((embeddings,)))
    files = {
        first: tiny_models.save_trained_tensors(tmp_path / "first", small, norm),
        second: tiny_models.save_trained_tensors(tmp_path / "second", whole, embeddings),
        student_of(reference, Everything()): whole,
    }
    for student, saved in files.items():
        with store.new(student, {}) as folder:
            for path in saved.iterdir():
                (folder / path.name).write_bytes(path.read_bytes())
    benchmarks, made = make(store, Places.of(str(tasks), ""), [reference, *files], ["letters"])
    assert [one.failures for one in made] == [{}] * 4
    samples = [gzip.decompress((store.fetch(b) / "samples.jsonl.gz").read_bytes()) for b in benchmarks]
    assert samples[2] == samples[3]
    assert len(set(samples)) == 3


def test_a_failed_model_or_task_does_not_stop_others(
    store: Store, model: Path, tasks: Path, data: Path, tmp_path: Path
) -> None:
    narrow = resolved(Reference(str(tiny_models.save_speller(tmp_path / "narrow", window=40))))
    lost = student_of(narrow)
    with store.new(lost, {}) as folder:
        (folder / "adapter_config.json").write_text("{}")
    (store.fetch(lost) / "adapter_config.json").write_text("changed")
    good = resolved(Reference(str(model)))
    places = Places.of(str(tasks), str(data))
    benchmarks, made = make(Store(store.url), places, [lost, narrow, good], ["letters", "truthfulqa_mc1"])
    reasons = [one.failures.get(key(b), "") for one in made for b in one.benchmarks]
    assert ["changed since it was written" in reason for reason in reasons[:2]] == [True, True]
    assert reasons[2:4] == ["", reasons[3]]
    assert "the model's context window has 40" in reasons[3]
    assert reasons[4:] == ["", ""]
    assert [store.has(benchmark) for benchmark in benchmarks] == [False, False, True, False, True, True]


def test_an_unexpected_error_keeps_its_traceback(
    store: Store, model: Path, tasks: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in tasks.iterdir():
        if path.is_file():
            text = path.read_text().replace(str(tasks), str(broken))
            (broken / path.name).write_text(
                text.replace("return {", "raise KeyError('no score')\n    return {")
            )
    _, made = make(store, Places.of(str(broken), ""), [resolved(Reference(str(model)))], ["vowels"])
    (reason,) = made[0].failures.values()
    assert reason.startswith("Traceback")
    assert "KeyError: 'no score'" in reason
