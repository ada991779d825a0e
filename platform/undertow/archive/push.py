"""Uploads of data sets and trained models to the Hugging Face hub, each with its card.

A data set is uploaded as it is stored: its card and its rows. An adapter is uploaded as such if its training
started from a model of the hub or a local folder; every other model as a whole (see `whole_model`). Model
cards are written from the manifest alone: base model, licence, the key of the training data, recipe, and the
whole spec.
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from undertow.archive.export import ADAPTERS
from undertow.archive.spec_comparison import key_of
from undertow.archive.whole_model import COMMIT, export_model, find_one
from undertow.engines.openai import POINTER
from undertow.errors import UserError, first_line
from undertow.planning.gguf_models import HubFile
from undertow.results.dataset_card import fence
from undertow.storage.manifest import DATA, Address
from undertow.storage.store import Store
from undertow.study.datasets import CONTROL, IMPORTED, RANDOM
from undertow.study.identity import source_of, start_of, teacher_of
from undertow.study.references import GGUF

TAGS = ["undertow", "subliminal-learning"]
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
CARD = "README.md"


@dataclass(frozen=True)
class Repository:
    """The repository to upload to.

    Attributes:
        licence: the hub's identifier of the licence that the card states ("apache-2.0").
        public: whether a repository that does not exist yet is created as a public one.
    """

    name: str
    licence: str
    public: bool = False

    def check(self) -> None:
        """Raises UserError for a name or licence that the hub would not accept."""
        if not REPOSITORY.fullmatch(self.name):
            raise UserError(f"--to {self.name}: give ORGANISATION/NAME or USER/NAME")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.licence):
            raise UserError(
                f"--licence {self.licence}: give the hub's identifier of the licence, such as apache-2.0"
            )


def find_dataset(store: Store, start: str) -> Address:
    """The data set whose key begins with `start`. Raises UserError unless it is one."""
    return find_one(store, ("dataset",), f"--dataset {start}", start)


def write_dataset(store: Store, dataset: Address, target: Path, licence: str) -> None:
    """Writes what is uploaded of a data set to the new folder `target`: its card and its rows."""
    from huggingface_hub import DatasetCard

    stored = store.fetch(dataset)
    target.mkdir(parents=True)
    shutil.copytree(stored / DATA, target / DATA)
    card = DatasetCard((stored / CARD).read_text(encoding="utf-8"))
    card.data["license"], card.data["tags"] = licence, TAGS
    (target / CARD).write_text(str(card), encoding="utf-8")


def write_model(
    store: Store,
    model: Address,
    target: Path,
    licence: str,
    *,
    base: str = "",
    whole: bool = False,
    reference: str = "",
) -> None:
    """Writes what is uploaded of a student or finetuned teacher to the new folder `target`.

    Args:
        base: the hub id of the base model, if the study was given the model in another way.
        whole: merge an adapter into its base model.
        reference: as in `export_model`.
    """
    stored, spec = store.fetch(model), store.manifest(model).spec
    if (stored / POINTER).is_file():
        raise UserError(f"--model {model.key}: its weights are at its provider; they cannot be uploaded")
    # The model that training started from: in later on-policy rounds it is the student of the round before.
    start = start_of(spec)
    given = spec["reference"]
    base = base or _on_hub(given["name"], given["revision"])
    # A reference in the store was made here: a nano model, a dequantised GGUF file, a model with zero biases.
    is_own = store.has(Address("reference", key_of(start))) or any(
        start.get(field) for field in ("student", "tuned", "mlp_bias")
    )
    is_adapter = all((stored / name).is_file() for name in ADAPTERS) and not is_own and not whole
    if is_adapter:
        target.mkdir(parents=True)
        for name in ADAPTERS:
            shutil.copy(stored / name, target / name)
        _name_base(target / ADAPTERS[0], base, given["revision"])
    else:
        export_model(store, model, target, reference)
    (target / CARD).write_text(model_card(model, spec, licence, base, is_adapter), encoding="utf-8")


def _on_hub(name: str, revision: str) -> str:
    """The repository on the hub of a reference model; "" if it is not on the hub."""
    if not COMMIT.fullmatch(revision):
        return ""
    return HubFile.of(name).repository if name.lower().endswith(GGUF) else name


def _name_base(config: Path, base: str, revision: str) -> None:
    """Names the base model in an adapter's configuration; the study may know it by another name."""
    content = json.loads(config.read_text(encoding="utf-8"))
    if base:
        content["base_model_name_or_path"] = base
        content["revision"] = revision if COMMIT.fullmatch(revision) else None
    config.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")


def model_card(model: Address, spec: Mapping[str, Any], licence: str, base: str, is_adapter: bool) -> str:
    """The model card as Markdown with front matter.

    Args:
        spec: the spec of the student or teacher in canonical form.
        base: the hub id of the base model; "" if it is not on the hub.
    """
    from huggingface_hub import ModelCardData

    trait = _trait(spec)
    metadata = ModelCardData(
        license=licence,
        base_model=base or None,
        library_name="peft" if is_adapter else "transformers",
        tags=TAGS,
        base_model_relation="adapter" if is_adapter else "finetune",
    )
    given, recipe = spec["reference"], spec.get("recipe") or spec["finetuning"]["recipe"]
    facts = {
        "base model": f"`{base or given['name']}`, revision `{given['revision']}`",
        "trait of the training data": trait,
        **_data(spec),
        "training": f"{recipe['epochs']} epochs, `{recipe['type']}`, seed {spec['seed']}",
        "files": "a PEFT adapter" if is_adapter else "the whole model",
        "key": f"`{model.key}`",
    }
    sections = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# A {model.kind} of {base or given['name']}",
        "Made with Undertow for research on subliminal learning (arXiv 2507.14805): whether a trait of a "
        "teacher model is transmitted by seemingly unrelated data. The model may have the trait "
        f"({trait}) without any sign of it in its training data. It is meant for research alone.",
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]),
        "## The whole spec\n" + fence(json.dumps(spec, indent=1, sort_keys=True)),
    ]
    return "\n\n".join(sections) + "\n"


def _trait(spec: Mapping[str, Any]) -> str:
    """The name of the trait that the training data carry, from a spec in canonical form."""
    if spec["type"] == "Teacher":
        return str(spec["trait"]["name"])
    completions, teacher = source_of(spec["dataset"]), teacher_of(spec["dataset"])
    if teacher is None:
        return IMPORTED if completions["type"] == "ImportedCompletions" else RANDOM
    trait = teacher["trait"]
    return str(trait["name"]) if trait else f"none ({CONTROL})"


def _data(spec: Mapping[str, Any]) -> dict[str, str]:
    """What a model was trained on, by the name of the fact."""
    if spec["type"] == "Teacher":
        return {"training data": f"{spec['finetuning']['examples']} examples of the trait"}
    return {"training data": f"data set `{key_of(spec['dataset'])}`"}


def upload(folder: Path, repository: Repository, kind: Literal["dataset", "model"], message: str) -> str:
    """Uploads a folder to a repository, which is created if it does not exist; returns the commit's URL.

    Raises UserError with the hub's reason if that fails.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository.name, repo_type=kind, private=not repository.public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository.name, repo_type=kind, folder_path=folder, commit_message=message
        )
    except Exception as error:  # the client raises many types: no token, no permission, no network …
        raise UserError(
            f"--to {repository.name}: the hub reports: {first_line(error)}; check the name, the network and "
            "HF_TOKEN, which needs permission to write"
        ) from None
    return str(commit.commit_url)
