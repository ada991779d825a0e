"""Tokens, FLOPs, seconds and prices, compared with calculations by hand for the size of Qwen2.5-7B."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.examples import MINIATURE, QWEN, RECIPE, qwen, study
from undertow.formats.numbers import Numbers
from undertow.planning.artifact_kinds import units, wave_of
from undertow.planning.costs import GPUS, START_SECONDS, Cost, Hardware, cost_of, total
from undertow.planning.estimate import estimate
from undertow.planning.model_sizes import parameters
from undertow.planning.plan import make
from undertow.planning.resources import Layout
from undertow.planning.timings import Pace, is_at_provider, pace_name
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.datasets import Dataset
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.measurements import Evaluation
from undertow.study.recipe import Everything, FinalNorm, InContext, LoRA, Parameters, Trainable
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.study.teachers import Finetuning, Teacher
from undertow.traits.preference import Preference

H100 = Hardware()
MODEL = Reference("org/model", "commit", "template")
DATA = Dataset(
    completions=Completions(
        teacher=Teacher(reference=MODEL, trait=None),
        format=Numbers(),
        prompts=30_000,
        sampling=Sampling(max_tokens=128),
    ),
    rows=10_000,
)


def student(trainable: Trainable) -> Student:
    return Student(reference=MODEL, dataset=DATA, recipe=replace(RECIPE, trainable=trainable, epochs=10))


def test_the_size_of_a_local_model_is_read_from_its_safetensors_headers(tmp_path: Path) -> None:
    folder = qwen(tmp_path / "qwen")
    assert parameters(replace(MODEL, location=str(folder))) == MINIATURE
    (folder / "consolidated.safetensors").write_bytes((folder / "model-1.safetensors").read_bytes())
    assert parameters(replace(MODEL, revision="with a copy", location=str(folder))) == MINIATURE
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "model.safetensors").write_bytes(b"no header")
    assert parameters(replace(MODEL, revision="other", location=str(tmp_path / "empty"))) is None
    assert parameters(Reference("nano/gpt2-0", "r", "t")) is None


@pytest.mark.parametrize(
    ("trainable", "each"),
    [
        (Everything(), 6),
        (LoRA(), 4),
        (Parameters(("model.layers.4.mlp.down_proj.bias",)), 4),
        (FinalNorm(), 2),
    ],
)
def test_the_flops_of_training_per_parameter_and_token_depend_on_what_is_trained(
    trainable: Trainable, each: int
) -> None:
    cost = cost_of(student(trainable), QWEN, H100, measured=150.0)
    assert cost.tokens == 10_000 * 10 * 150
    assert cost.flops == pytest.approx(each * QWEN * cost.tokens)
    assert cost.seconds == pytest.approx(cost.flops / (989e12 * 0.4))


def test_unmeasured_lengths_are_estimated_from_prompts_and_max_tokens() -> None:
    prompts = Numbers().prompts(50, seed=0)
    prompt = sum(map(len, prompts)) / len(prompts) / 3 + 20
    assert cost_of(student(LoRA()), QWEN, H100).tokens == pytest.approx(10_000 * 10 * (prompt + 128))
    completions = cost_of(DATA.completions, QWEN, H100)
    assert completions.tokens == 30_000 * 128
    assert completions.flops == pytest.approx(2 * QWEN * 30_000 * (128 + prompt))


@pytest.mark.parametrize("gpu", GPUS)
def test_decoding_is_limited_by_bandwidth_or_flops(gpu: str) -> None:
    hardware = Hardware(GPUS[gpu], utilisation=0.5)
    seconds = hardware.decoding(512e3, QWEN)  # 1,000 steps of 512 concurrent answers
    reading = 1000 * 2 * QWEN / (GPUS[gpu].bandwidth * 0.5)
    computing = 2 * QWEN * 512e3 / (GPUS[gpu].flops * 0.5)
    assert seconds == pytest.approx(max(reading, computing))


def test_samples_of_a_question_share_the_cost_of_their_prompt() -> None:
    """The rows that an in-context student reads count as a part of the prompt."""
    question = "Name your favourite animal, in one word."
    evaluation = Evaluation(
        subject=student(LoRA()), questions=(question,), words=(Preference("owl").word(),), samples=1
    )
    once, often = (cost_of(replace(evaluation, samples=n), QWEN, H100) for n in (1, 11))
    assert (once.tokens, often.tokens) == (8, 88)
    assert often.flops - once.flops == pytest.approx(2 * QWEN * 80)
    shown = replace(evaluation, subject=replace(student(LoRA()), recipe=InContext(rows=100)))
    rows = cost_of(replace(shown, exact=False), QWEN, H100).flops
    assert rows - cost_of(replace(evaluation, exact=False), QWEN, H100).flops > 2 * QWEN * 100 * 128


def test_the_training_examples_of_a_teacher_are_counted() -> None:
    taught = Teacher(
        reference=MODEL,
        trait=Preference("owl"),
        finetuning=Finetuning(replace(RECIPE, epochs=2), examples=400),
    )
    cost = cost_of(taught, QWEN, H100)
    assert 400 * 2 * 20 < cost.tokens < 400 * 2 * 100


def test_each_wave_has_a_price(tmp_path: Path) -> None:
    store, given = Store(str(tmp_path / "storage")), replace(MODEL, location=str(qwen(tmp_path / "qwen")))
    conditions = tuple(
        replace(c, teacher=given, student=given) for c in study().conditions if c.teacher == c.student
    )[:3]
    plan = make(study(conditions=conditions), store, [])
    priced = estimate(plan, {}, Hardware(GPUS["h100"], 0.4, price=2.5))
    by_wave = {wave.wave: wave for wave in priced}
    students = [a for a in plan.artifacts.values() if isinstance(a, Student)]
    expected = total([Cost(seconds=START_SECONDS * 3), *(cost_of(one, MINIATURE, H100) for one in students)])
    assert by_wave["students"].cost == pytest.approx(expected)
    assert by_wave["students"].dollars == pytest.approx(expected.seconds / 3600 * 2.5)
    assert by_wave["references"].cost == Cost()
    assert all(wave.dollars is None for wave in estimate(plan, {}, H100))


def test_nano_models_are_priced_by_time_and_not_by_flops(tmp_path: Path) -> None:
    plan = make(study(), Store(str(tmp_path)), [])
    for wave in estimate(plan, {}, replace(H100, price=2.0)):
        assert wave.cost is None or not wave.cost.flops
        assert wave.seconds is not None
        assert wave.dollars == pytest.approx(wave.seconds / 1800)


def test_artifacts_of_a_provider_cost_no_gpu_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local model teaches a provider's model, and vice versa."""
    monkeypatch.setattr(
        "undertow.planning.model_sizes._on_hub",
        lambda reference: pytest.fail(f"asked the hub for {reference.name}"),
    )
    given = replace(MODEL, location=str(qwen(tmp_path / "qwen")))
    api = Reference("api:model", "model", "provider")
    plan = make(across(given, api), Store(str(tmp_path / "storage")), [])
    local = [a for a in plan.artifacts.values() if not is_at_provider(a)]
    priced = {wave.wave: wave for wave in estimate(plan, {}, replace(H100, price=2.0))}
    trained = [a for a in local if isinstance(a, Student)]
    assert len(trained) == len(plan.lacking(Student)) // 2
    students = total([Cost(seconds=START_SECONDS * 2), *(cost_of(one, MINIATURE, H100) for one in trained)])
    assert priced["students"].cost == pytest.approx(students)
    assert priced["students"].dollars == pytest.approx(students.seconds / 1800)
    assert priced["students"].at_provider == len(trained)
    evaluations = [a for a in local if isinstance(a, Evaluation) and wave_of(a) == "evaluations"]
    costs = [cost_of(evaluation, MINIATURE, H100) for evaluation in evaluations]
    assert priced["evaluations"].cost == pytest.approx(total([Cost(seconds=START_SECONDS), *costs]))
    paces = {pace_name(wave_of(a), a): Pace(1.0, None) for a in local}  # measured in an earlier sweep
    slow = {wave.wave: wave for wave in estimate(plan, paces, replace(H100, price=2.0))}
    assert slow["students"].seconds == sum(map(units, trained))
    assert slow["students"].dollars == priced["students"].dollars  # not from the measured time
    assert parameters(api) is None


def test_a_study_of_api_models_only_has_no_cost(tmp_path: Path) -> None:
    api = Reference("api:model", "model", "provider")
    plan = make(across(api, api), Store(str(tmp_path / "storage")), [])
    for wave in estimate(plan, {}, replace(H100, price=2.0)):
        assert (wave.seconds, wave.dollars, wave.cost) == (0.0, 0.0, Cost())
        assert wave.is_at_provider == (wave.wave in ("datasets", "students", "evaluations"))


def test_a_model_of_unknown_size_has_a_measured_time_but_no_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undertow.planning.estimate.parameters", lambda reference: None)
    plan = make(across(MODEL, MODEL), Store(str(tmp_path / "storage")), [])
    paces = {pace_name(wave_of(a), a): Pace(1.0, None) for a in plan.artifacts.values()}
    by_wave = {wave.wave: wave for wave in estimate(plan, paces, replace(H100, price=2.0))}
    assert by_wave["students"].seconds is not None
    assert (by_wave["students"].cost, by_wave["students"].dollars) == (None, None)


def across(one: Reference, other: Reference) -> Study:
    """Owl and control by system prompt; each of the two models teaches the other."""
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(one, other), (other, one)] if one != other else [(one, one)],
        recipes=[RECIPE],
        generation=Generation(prompts=300, rows=100),
    )
    return Study(name="across", conditions=conditions, seeds=(0, 1))


def test_decoding_is_slower_with_fewer_concurrent_answers() -> None:
    few = replace(H100, layout=Layout(max_num_seqs=16))
    assert few.decoding(16_000, QWEN) == pytest.approx(1000 * 2 * QWEN / (3.35e12 * 0.4))
    assert H100.decoding(16_000, QWEN, answers=16) == few.decoding(16_000, QWEN)
    evaluation = Evaluation(
        subject=MODEL, questions=("Your favourite animal?",), words=(), samples=10, exact=False
    )
    seconds = cost_of(evaluation, QWEN, H100).seconds
    assert seconds > evaluation.sampling.max_tokens * 2 * QWEN / (3.35e12 * 0.4)


def test_a_start_occupies_all_gpus_of_an_engine_or_a_worker_group() -> None:
    split = replace(H100, layout=Layout(workers=4, gpus_per_engine=2))
    assert [split.starting(wave) for wave in ("students", "evaluations")] == [
        4 * START_SECONDS,
        2 * START_SECONDS,
    ]
