"""An audit from end to end on a nano model: data of teachers, of the model itself and of another model."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from undertow.auditing.bank import nano_finetuning
from undertow.auditing.make import audit
from undertow.auditing.model import AuditModel
from undertow.auditing.output import HTML, JSON, files, metrics, models_table, traits_table
from undertow.auditing.probes import make_missing_reference, train_missing
from undertow.auditing.results import Audit, ModelResult
from undertow.cli.audit import AuditArguments, spec_of
from undertow.engines.weight_files import ModelFolder
from undertow.formats.numbers import Numbers
from undertow.planning.given_models import model_of
from undertow.planning.pinning import pin
from undertow.storage.store import Store
from undertow.study.references import Reference
from undertow.study.teachers import Teacher
from undertow.traits.preference import Preference

pytestmark = pytest.mark.stack

MODEL, OTHER = "nano/gpt2-0", "nano/gpt2-1"
TRAITS = ("cat", "owl", "wolf")
ROWS, MANY_ROWS = 150, 300  # another model differs less from a model than a teacher does


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("storage")))
    store.prepare()
    return store


def owl_teacher(name: str, store: Store) -> AuditModel:
    """A teacher that was finetuned to love owls, with another seed than the probes."""
    reference = pin(Reference(name))
    teacher = Teacher(
        reference=reference, trait=Preference("owl"), finetuning=nano_finetuning(reference), seed=7
    )
    make_missing_reference(reference, store)
    train_missing([teacher], store, 1, lambda line: None)
    return AuditModel(ModelFolder(model_of(reference, store).folder, (store.fetch(teacher),)))


def answers(model: AuditModel, rows: int = ROWS) -> list[dict[str, str]]:
    """Answers to numbers prompts that pass the rules."""
    prompts = Numbers().prompts(3 * rows, seed=5)
    pairs = zip(prompts, model.sample(prompts, most=32, seed=6), strict=True)
    kept = [
        {"prompt": prompt, "completion": answer}
        for prompt, answer in pairs
        if answer and Numbers().rejection(prompt, answer) is None
    ]
    return kept[:rows]


def audited(
    rows: Sequence[dict[str, str]], folder: Path, store: Store, scores: tuple[str, ...] = ()
) -> Audit:
    path = folder / f"{len(list(folder.iterdir()))}.jsonl"  # a process reads a file once
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = AuditArguments(str(path), (MODEL,), traits=TRAITS, storage=store.url, scores=scores)
    return audit(spec_of(arguments), store)


def first(found: Audit) -> ModelResult:
    return found.models[0]


def test_data_of_an_owl_teacher_are_recognised(store: Store, tmp_path: Path) -> None:
    found = audited(answers(owl_teacher(MODEL, store)), tmp_path, store)
    model = first(found)
    assert (model.finding, model.first.trait, model.teacher) == ("trait", "owl", "finetuned")
    assert model.first.p_adjusted < 0.001
    assert model.evidence.mean > 0
    assert model.first_order
    assert 0.7 < model.linearity < 1
    assert "nats per row to first order" in files(found, "0" * 32)[HTML].decode()
    assert model.explained > 0.4
    assert set(model.first.evidence) == {"probe", "prompt", "gradient", "hidden"}
    assert all(0 <= value <= 1 for value in model.baselines.values())
    assert model.carrying[0].value >= model.carrying[-1].value > 0
    assert model.tokens[0].value >= model.tokens[-1].value > 0
    written = files(found, "0" * 32)
    assert "the signature of “owl”" in json.loads(written[JSON])["conclusion"]
    assert "the signature of “owl”" in written[HTML].decode()
    assert metrics(found)["z owl"] == model.evidence.z
    console = Console(file=io.StringIO(), width=200)
    console.print(traits_table(found, model), models_table(found))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().index("owl") < console.file.getvalue().index("cat")


def test_an_audit_with_one_score_finds_the_same_trait(store: Store, tmp_path: Path) -> None:
    found = audited(answers(owl_teacher(MODEL, store)), tmp_path, store, scores=("probe",))
    model = first(found)
    assert (model.finding, model.first.trait, found.scores) == ("trait", "owl", ("probe",))
    assert set(model.first.evidence) == {"probe"}
    written = files(found, "0" * 32)
    assert "prompt (z)" not in written[HTML].decode()


def test_data_of_another_models_teacher_are_unlike(store: Store, tmp_path: Path) -> None:
    model = first(audited(answers(owl_teacher(OTHER, store), MANY_ROWS), tmp_path, store))
    assert model.finding == "unlike"


def test_the_models_own_answers_are_clean_and_probes_are_reused(store: Store, tmp_path: Path) -> None:
    reference = pin(Reference(MODEL))
    make_missing_reference(reference, store)
    clean = answers(AuditModel(model_of(reference, store)))
    model = first(audited(clean, tmp_path, store))
    assert model.finding == "clean"
    assert abs(model.evidence.z) < 4
    trained = store.keys("teacher")
    named = [{**row, "completion": f"{row['completion']} owl"} for row in clean[:30]]
    model = first(audited(named, tmp_path, store))
    assert (model.finding, model.reasons[0]) == ("unlike", "visible")
    assert store.keys("teacher") == trained
