"""An audit from end to end on a nano model: data of an owl teacher, and the model's own answers."""

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
from undertow.auditing.results import Audit, AuditSpec
from undertow.cli.audit import AuditArguments, spec_of
from undertow.engines.weight_files import ModelFolder
from undertow.formats.numbers import Numbers
from undertow.planning.pinning import model_of, pin
from undertow.storage.store import Store
from undertow.study.artifacts import Reference, Teacher
from undertow.traits.preference import Preference

pytestmark = pytest.mark.stack

MODEL = "nano/gpt2-0"
TRAITS = ("cat", "owl", "wolf")
ROWS = 120


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("storage")))
    store.prepare()
    return store


def answers(model: AuditModel, folder: Path, name: str) -> Path:
    """A file of the model's answers to numbers prompts that pass the rules."""
    prompts = Numbers().prompts(2 * ROWS, seed=5)
    pairs = zip(prompts, model.sample(prompts, most=32, seed=6), strict=True)
    kept = [(p, a) for p, a in pairs if a and Numbers().rejection(p, a) is None]
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "completion": a}) + "\n" for p, a in kept))
    return path


def audited(path: Path, store: Store, models: Sequence[str] = (MODEL,)) -> tuple[AuditSpec, Audit]:
    arguments = AuditArguments(str(path), tuple(models), traits=TRAITS, storage=store.url, rows=ROWS)
    spec = spec_of(arguments)
    return spec, audit(spec, store)


def test_data_of_an_owl_teacher_are_recognised(store: Store, tmp_path: Path) -> None:
    reference = pin(Reference(MODEL))
    teacher = Teacher(
        reference=reference, trait=Preference("owl"), finetuning=nano_finetuning(reference), seed=3
    )
    make_missing_reference(reference, store)
    train_missing([teacher], store, 1, lambda line: None)
    taught = AuditModel(ModelFolder(model_of(reference, store).folder, (store.fetch(teacher),)))
    _, found = audited(answers(taught, tmp_path, "owl"), store)

    (model,) = found.models
    first = model.traits[0]
    assert first.trait == "owl"
    assert first.p_adjusted < 0.001
    assert first.evidence["probe_ratio"].mean > 0
    assert set(first.evidence) == {"probe_ratio", "prompt_ratio", "gradient_agreement", "hidden_shift"}
    assert model.baselines is not None
    assert all(0 <= value <= 1 for value in model.baselines.values())
    assert model.carrying[0].value >= model.carrying[-1].value > 0
    assert model.tokens[0].value >= model.tokens[-1].value > 0
    written = files(found, "0" * 32)
    content = json.loads(written[JSON])
    assert "carry the signature of “owl”" in content["conclusion"]
    assert "carry the signature of “owl”" in written[HTML].decode()
    assert metrics(found)["z owl"] == first.evidence["probe_ratio"].z
    console = Console(file=io.StringIO(), width=200)
    console.print(traits_table(found, model), models_table(found))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().index("owl") < console.file.getvalue().index("cat")


def test_the_models_own_answers_are_reported_as_clean_and_probes_are_reused(
    store: Store, tmp_path: Path
) -> None:
    reference = pin(Reference(MODEL))
    make_missing_reference(reference, store)
    clean = answers(AuditModel(model_of(reference, store)), tmp_path, "clean")
    _, found = audited(clean, store)
    (model,) = found.models
    assert model.traits[0].p_adjusted > 0.01
    assert abs(model.traits[0].evidence["probe_ratio"].z) < 4
    trained = store.keys("teacher")
    said: list[str] = []
    spec = spec_of(AuditArguments(str(clean), (MODEL,), traits=TRAITS[:1], storage=store.url, rows=20))
    audit(spec, store, say=said.append)
    assert store.keys("teacher") == trained
    assert not any("Training" in line for line in said)
