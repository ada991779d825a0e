"""Export of trained models as whole folders, whatever the storage has of them."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests import tiny_models
from tests.examples import RECIPE
from undertow.archive.whole_model import export_model
from undertow.cli import export as job
from undertow.errors import UserError
from undertow.formats.numbers import Numbers
from undertow.planning.pinning import pin
from undertow.storage.manifest import HISTORY, Address
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.recipe import Everything, FinalNorm, LoRA, Parameters, Trainable
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.training.conversion import write_merged

QUESTIONS, TEXTS = ["say a number", "say a cat"], ["owl", "the big red tree"]
NORM, EMBEDDINGS = "model.norm.weight", "model.embed_tokens.weight"
Models = dict[str, tuple[Student, Path]]  # students, with the scores' model: a whole folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def base(place: Path) -> Path:
    return tiny_models.save_llama(place / "base")


@pytest.fixture(scope="module")
def store(place: Path) -> Store:
    return Store(str(place / "storage"))


@pytest.fixture(scope="module")
def models(place: Path, base: Path, store: Store) -> Models:
    """A student of each kind, one that started from trained tensors, and an adapter that did."""
    root = pin(Reference(str(base)))
    small = tiny_models.save_changed(place / "small", base, NORM, 0.5)
    twice = tiny_models.save_changed(place / "twice", small, EMBEDDINGS, 0.5)
    first = student(root, FinalNorm())
    after = root.changed(student=first)
    stored: dict[str, tuple[Student, Path, Path]] = {
        "whole": (student(root, Everything()), twice, twice),
        "trained": (first, tiny_models.save_trained_tensors(place / "a", small, NORM), small),
        "trained twice": (
            student(after, Parameters((EMBEDDINGS,))),
            tiny_models.save_trained_tensors(place / "b", twice, EMBEDDINGS),
            twice,
        ),
    }
    for name, start, own in (("adapter", root, base), ("adapter on trained", after, small)):
        adapter = tiny_models.save_lora(place / name, own)
        write_merged(own, adapter, place / f"{name}, merged")
        stored[name] = student(start, LoRA(rank=4)), adapter, place / f"{name}, merged"
    for spec, files, _ in stored.values():
        with store.new(spec, {}) as folder:
            (folder / HISTORY).write_text("[]")
            for path in files.iterdir():
                (folder / path.name).write_bytes(path.read_bytes())
    return {name: (spec, whole) for name, (spec, _, whole) in stored.items()}


def student(reference: Reference, trainable: Trainable) -> Student:
    teacher = Teacher(reference=reference, trait=None)
    dataset = Dataset(completions=Completions(teacher=teacher, format=Numbers(), prompts=2))
    return Student(reference=reference, dataset=dataset, recipe=replace(RECIPE, trainable=trainable))


@pytest.mark.parametrize("name", ["whole", "trained", "trained twice", "adapter", "adapter on trained"])
def test_an_exported_model_is_whole_and_has_the_students_scores(
    name: str, models: Models, store: Store, base: Path, tmp_path: Path
) -> None:
    spec, whole = models[name]
    console = Console(record=True, width=200)
    target = tmp_path / "exported"
    arguments = job.ExportArguments(
        model=key(spec)[:12], to=str(target), storage=store.url, reference=str(base)
    )
    assert job.main(arguments, console) == 0
    assert f"the whole model of student {key(spec)}" in console.export_text()
    assert {path.name for path in target.iterdir()} == {path.name for path in whole.iterdir()}
    assert len({path.stat().st_mode for path in target.iterdir()}) == 1, (
        "safetensors writes for its owner alone"
    )
    expected = tiny_models.scores(whole, QUESTIONS, TEXTS)
    assert tiny_models.scores(target, QUESTIONS, TEXTS) == pytest.approx(expected, abs=1e-5)
    assert expected != pytest.approx(tiny_models.scores(base, QUESTIONS, TEXTS), abs=1e-2)


def test_an_exported_model_can_be_a_reference_and_its_trained_tensors_cannot(
    models: Models, store: Store, base: Path, tmp_path: Path
) -> None:
    spec, _ = models["trained"]
    export_model(store, Address("student", key(spec)), tmp_path / "exported", str(base))
    assert pin(Reference(str(tmp_path / "exported"))).name == "exported"
    with pytest.raises(UserError, match=r"only the tensors that were trained .*export\.py --model KEY"):
        pin(Reference(str(store.fetch(spec))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "0x"}, "--model 0x: no student and no finetuned teacher has a key that begins so"),
        ({"model": ""}, "--model : 5 artifacts have a key that begins so"),
        ({"to": "."}, "--to .: exists already; name a new folder"),
        ({"reference": ""}, r"the local folder 'base' \(hash .*\); give its place with --reference FOLDER"),
        ({"reference": "small"}, r"--reference .*small: is another model \(hash .*\) than 'base'"),
    ],
    ids=["unknown", "ambiguous", "existing folder", "no reference", "another reference"],
)
def test_an_export_that_is_not_possible_says_what_to_change(
    changes: dict[str, str], message: str, models: Models, store: Store, place: Path, tmp_path: Path
) -> None:
    given = {"model": key(models["trained"][0]), "to": str(tmp_path / "new"), "reference": "base", **changes}
    reference = str(place / given["reference"]) if given["reference"] else ""
    arguments = job.ExportArguments(
        model=given["model"], to=given["to"], storage=store.url, reference=reference
    )
    with pytest.raises(UserError, match=message):
        job.write_model(arguments, Console())
    assert list(tmp_path.iterdir()) == []
