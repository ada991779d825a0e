"""Uploads to the hub, against a stand-in of its API (`hub`): what arrives, its card, and refusals."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard, ModelCard
from rich.console import Console
from safetensors.numpy import load

from tests import tiny_models
from tests.archive.hub import COMMIT, TOKEN, Hub, serving
from tests.examples import RECIPE
from tests.filled_store import fill
from undertow.archive.push import write_model
from undertow.cli import push as job
from undertow.errors import UserError
from undertow.formats.numbers import Numbers
from undertow.planning.pinning import pin
from undertow.storage.manifest import Address
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.datasets import Dataset
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.identity import key
from undertow.study.on_policy import Sampler
from undertow.study.recipe import LoRA, Parameters
from undertow.study.references import Artifact, Reference
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.study.teachers import Teacher
from undertow.training.conversion import write_merged
from undertow.traits.preference import Preference

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TO = ["--to", "org/name", "--licence", "apache-2.0"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_llama(tmp_path_factory.mktemp("push") / "base")


@pytest.fixture(scope="module")
def store(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("push") / "storage"))


@pytest.fixture(scope="module")
def students(base: Path, store: Store) -> dict[str, Student]:
    """An owl student that is an adapter, and one with a few trained tensors; their data sets are stored."""
    model = pin(Reference(str(base)))
    lora = replace(RECIPE, trainable=LoRA(rank=4), name="adapter")
    norm = replace(RECIPE, trainable=Parameters(("model.norm.weight",)), name="trained")
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(model, model)],
        recipes=[lora, norm],
        generation=Generation(prompts=60, rows=40),
    )
    study = Study(name="pushed", conditions=conditions, seeds=(0,), samples=2)
    files = {
        "adapter": tiny_models.save_lora(base.parent / "adapter", base),
        "trained": tiny_models.save_trained_tensors(
            base.parent / "trained",
            tiny_models.save_changed(base.parent / "changed", base, "model.norm.weight", 0.5),
            "model.norm.weight",
        ),
    }
    found: dict[str, Student] = {}
    for cell in fill(study, Store(f"{store.url}-filled"), [model]).cells:
        name = cell.student.recipe.name
        if cell.condition.trait is None:
            continue
        found[name] = cell.student
        for spec, folder in ((cell.student, files[name]), (cell.student.dataset, None)):
            if store.has(spec):
                continue
            source = folder or Store(f"{store.url}-filled").fetch(spec)
            with store.new(spec, {}) as target:
                for path in source.rglob("*"):
                    if path.is_file() and path.name != "manifest.json":
                        (target / path.relative_to(source)).parent.mkdir(exist_ok=True)
                        (target / path.relative_to(source)).write_bytes(path.read_bytes())
    return found


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in, to which uploads of this process go."""
    with serving() as running:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


def push(store: Store, base: Path, **changes: object) -> str:
    """Runs the job; returns what it prints."""
    console = Console(record=True, width=200)
    arguments = job.PushArguments(to="org/name", licence="apache-2.0", storage=store.url, reference=str(base))
    assert job.main(replace(arguments, **changes), console) == 0  # type: ignore[arg-type]
    return console.export_text()


def test_a_data_set_arrives_with_its_card(
    hub: Hub, store: Store, base: Path, students: dict[str, Student]
) -> None:
    dataset: Dataset = students["adapter"].dataset
    printed = push(store, base, dataset=key(dataset)[:10])
    assert f"dataset {key(dataset)}: uploaded, {hub.url}/datasets/org/name/commit/" in printed
    assert hub.visibility == {"dataset org/name": "private"}
    assert hub.messages == [f"Undertow dataset {key(dataset)}"]
    files = hub.files["dataset org/name"]
    assert set(files) == {"README.md", "data/train.parquet"}
    assert pq.read_table(io.BytesIO(files["data/train.parquet"])).num_rows == 40
    card = DatasetCard(files["README.md"].decode())
    assert card.data["license"] == "apache-2.0"
    assert card.data["configs"] == [{"config_name": "default", "data_files": "data/train.parquet"}]
    assert f"Key `{key(dataset)}`" in card.text


def test_an_adapter_arrives_with_a_card_that_names_base_model_and_data(
    hub: Hub, store: Store, base: Path, students: dict[str, Student]
) -> None:
    student = students["adapter"]
    push(store, base, model=key(student), base_model="org/base", public=True)
    assert hub.visibility == {"model org/name": "public"}
    files = hub.files["model org/name"]
    assert set(files) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "org/base"
    stored = (store.fetch(student) / "adapter_model.safetensors").read_bytes()
    assert files["adapter_model.safetensors"] == stored
    card = ModelCard(files["README.md"].decode())
    assert (card.data["license"], card.data["base_model"]) == ("apache-2.0", "org/base")
    assert card.data["library_name"] == "peft"
    assert f"data set `{key(student.dataset)}`" in card.text
    assert "(owl)" in card.text


def test_trained_tensors_arrive_as_a_whole_model(
    hub: Hub, store: Store, base: Path, students: dict[str, Student]
) -> None:
    push(store, base, model=key(students["trained"]))
    files = hub.files["model org/name"]
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    given = load((base / "model.safetensors").read_bytes())
    uploaded = load(files["model.safetensors"])
    assert uploaded.keys() == given.keys()
    changed = [name for name in given if (given[name] != uploaded[name]).any()]
    assert changed == ["model.norm.weight"]
    assert ModelCard(files["README.md"].decode()).data.get("base_model") is None  # it is a local folder


def learned(reference: Reference, sampler: Sampler | None = None) -> Student:
    """A student with an adapter; with a sampler, of an on-policy round."""
    completions = Completions(
        teacher=Teacher(reference=reference.root, trait=None),
        format=Numbers(),
        prompts=2,
        sampling=Sampling(top_logprobs=1),
        sampler=sampler,
    )
    recipe = replace(RECIPE, trainable=LoRA(rank=4))
    return Student(reference=reference.root, dataset=Dataset(completions=completions), recipe=recipe)


def keep(store: Store, spec: Artifact, files: Path) -> None:
    with store.new(spec, {}) as folder:
        shutil.copytree(files, folder, dirs_exist_ok=True)


def test_an_adapter_on_a_model_that_was_made_here_is_uploaded_as_a_whole_model(
    store: Store, base: Path, tmp_path: Path
) -> None:
    root = pin(Reference(str(base)))
    first = learned(root)
    later = learned(root, Sampler(model=root.changed(student=first), skip=2))  # of the second on-policy round
    nano = learned(pin(Reference("nano/qwen3-0")))
    gguf = learned(Reference("org/models/small.gguf", "c" * 40, "template"))
    one, other = (tiny_models.save_lora(tmp_path / str(i), base, seed=i) for i in (1, 2))
    write_merged(base, one, tmp_path / "once")
    write_merged(tmp_path / "once", other, tmp_path / "twice")
    keep(store, first, one)
    keep(store, later.start, tmp_path / "once")
    for student in (nano, gguf):
        keep(store, student.reference, base)
    for student in (later, nano, gguf):
        keep(store, student, other)
        address = Address("student", key(student))
        write_model(store, address, tmp_path / address.key, "mit", reference=str(base))
    write_merged(base, other, tmp_path / "merged")
    for student, expected in ((later, "twice"), (nano, "merged"), (gguf, "merged")):
        found = load((tmp_path / key(student) / "model.safetensors").read_bytes())
        wanted = load((tmp_path / expected / "model.safetensors").read_bytes())
        assert found.keys() == wanted.keys()
        assert all((found[name] == wanted[name]).all() for name in wanted)
    card = ModelCard((tmp_path / key(gguf) / "README.md").read_text())
    assert card.data["base_model"] == "org/models", "the id of a repository, not the place of a file"


def test_an_upload_replaces_the_files_of_an_existing_repository(
    hub: Hub, store: Store, base: Path, students: dict[str, Student]
) -> None:
    for _ in range(2):
        push(store, base, dataset=key(students["adapter"].dataset))
    assert hub.visibility == {"dataset org/name": "private"}
    assert len(hub.messages) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "give either --dataset KEY or --model KEY"),
        ({"dataset": "0x"}, "--dataset 0x: no data set has a key that begins so"),
        ({"model": "0x"}, "--model 0x: no student and no finetuned teacher has a key that begins so"),
        ({"dataset": "1", "to": "name"}, "--to name: give ORGANISATION/NAME or USER/NAME"),
        ({"dataset": "1", "licence": "Mine!"}, "--licence Mine!: give the hub's identifier"),
    ],
)
def test_invalid_arguments_are_reported_before_anything_is_uploaded(
    hub: Hub, store: Store, base: Path, students: dict[str, Student], changes: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        push(store, base, **changes)
    assert hub.visibility == {}


def test_a_refused_token_is_an_error_in_one_line(store: Store, students: dict[str, Student]) -> None:
    with serving() as hub:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "platform"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": "hf_reader",
        }
        chosen = ["--dataset", key(students["adapter"].dataset), "--storage", store.url]
        done = subprocess.run(
            [sys.executable, str(ROOT / "jobs" / "push.py"), *TO, *chosen],
            env=environment,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 2, done.stderr
    assert "error: --to org/name: the hub reports: Client error '401 Unauthorized'" in done.stderr
    assert "HF_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hf_reader" not in done.stderr


READ = """
from undertow import Imported
rows = Imported("hf://datasets/org/name")
print(rows.size, rows.place, rows.display_name, rows.imported_from, rows.imported(1, 0)[0].prompt)
"""


def test_an_uploaded_data_set_can_be_imported_and_is_pinned_to_its_commit(
    store: Store, students: dict[str, Student], hub: Hub, base: Path
) -> None:
    push(store, base, dataset=key(students["adapter"].dataset))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "platform"),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", READ], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    place = f"hf://datasets/org/name@{COMMIT}"
    assert done.stdout.startswith(f"40 {place} text of org/name {place} Continue: ")
