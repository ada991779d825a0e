"""Reference models pinned to exact weights, and where their files are.

A study names its reference models as people do: a hub id, a folder, "nano/gpt2-0". `pin` returns a reference
that names the weights and the chat template exactly: a hub branch becomes a commit, a folder the hash of its
content, a nano model the hash of its training recipe. For a provider's model only the name is known, and the
provider is not asked. For a student's weights the reference is the student's folder, or a folder with its
adapter merged into the model that it was trained on.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from undertow.errors import SpecError, UserError
from undertow.nano import models
from undertow.planning import model_files
from undertow.planning.model_files import MODEL_FILES, ModelFiles
from undertow.prompts import template_sandbox
from undertow.prompts.chat_templates import Manners, TemplateError
from undertow.storage.store import Store
from undertow.study.artifacts import Reference
from undertow.study.identity import digest

SMALL_FILES = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
)


BLOCK = 2**24  # bytes read at a time from weights that may not fit into memory


def is_made(reference: Reference) -> bool:
    """Whether the weights are an artifact that this program makes (nano), not one that it is given."""
    return models.is_nano(reference.name)


def pin(reference: Reference) -> Reference:
    """The reference with its revision and chat template filled in; one that has them is left as it is."""
    if reference.revision and reference.chat_template:
        return reference
    if reference.is_api:
        return dataclasses.replace(reference, revision=reference.served_name, chat_template="provider")
    return _pinned(reference.name, reference.revision, reference.location)


@cache
def _pinned(name: str, revision: str, location: str) -> Reference:
    reference = Reference(name, revision, location=location)
    if is_made(reference):
        model = models.parse(reference.name)
        return dataclasses.replace(reference, revision=models.revision(model)[:16], chat_template="nano")
    if _is_folder(reference.name):
        return _pin_folder(reference)
    return _pin_hub(reference)


@cache
def manners_of(reference: Reference) -> Manners | None:
    """What the reference's chat template does; None where it is a nano model's, or not on this machine.

    A provider's model has one that nobody is told of.

    Raises SpecError for a template that cannot be used.
    """
    if is_made(reference) or reference.is_api:
        return None
    files = _local_files(reference)
    if not {"config.json", "tokenizer_config.json"} & files.names:
        return None
    try:
        return template_sandbox.learn(model_files.template_of(files), model_files.tokens_of(files))
    except TemplateError as error:
        raise SpecError(
            f"Reference {reference.name!r}: its chat template {error}; mend it in {files.place}, or use "
            "another model"
        ) from None


def folder_of(reference: Reference, store: Store) -> Path:
    """A local folder with the model in Hugging Face's layout."""
    if reference.student is not None and not reference.is_merged:
        return store.fetch(reference.student)
    if is_made(reference) or reference.is_merged:
        return store.fetch(reference)
    if reference.location:
        return Path(reference.location)
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(reference.name, revision=reference.revision, allow_patterns=list(MODEL_FILES))
    )


def _is_folder(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~")) or Path(name).is_dir()


@cache
def architecture_of(reference: Reference) -> str:
    """The class that a given model's configuration names; "" where it is not on this machine."""
    return model_files.architecture_of(_local_files(reference))


@cache
def modules_of(reference: Reference) -> frozenset[str]:
    """The modules of a given model that hold weights; none where they are not on this machine."""
    return frozenset(model_files.matrices_of(_local_files(reference)))


def _local_files(reference: Reference) -> ModelFiles:
    """The reference's small files as far as they are on this machine."""
    if reference.location:
        return ModelFiles.of_folder(reference.name, Path(reference.location))
    from huggingface_hub import try_to_load_from_cache

    def path(name: str) -> Path | None:
        found = try_to_load_from_cache(reference.name, name, revision=reference.revision)
        return Path(found) if isinstance(found, str) else None

    names = {name for name in SMALL_FILES if path(name) is not None}
    return ModelFiles(reference.name, "the model hub", names, path)


def _pin_folder(reference: Reference) -> Reference:
    folder = Path(reference.location or reference.name).expanduser().absolute()
    files = ModelFiles.of_folder(reference.name, folder)
    model_files.check(files)
    hashes = hashlib.sha256()
    for path in sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)}):
        hashes.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                hashes.update(block)
    pinned = dataclasses.replace(
        reference,
        name=folder.name,
        revision=hashes.hexdigest()[:32],
        chat_template=_template_hash(files.path),
        location=str(folder),
    )
    manners_of(pinned)
    return pinned


def _pin_hub(reference: Reference) -> Reference:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def file(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(reference.name, name, revision=commit))
        except EntryNotFoundError:
            return None

    try:
        info = HfApi().model_info(reference.name, revision=reference.revision or None, timeout=20)
        commit, names = str(info.sha), {sibling.rfilename for sibling in info.siblings or ()}
        for name in names & set(SMALL_FILES):
            file(name)
    except Exception as error:  # the hub client has many kinds, from bad ids and gates to no network
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"Reference {reference.name!r}: not a folder here, and the model hub says: {reason}; "
            "check the name, the network and HF_TOKEN, or give a local folder"
        ) from None
    model_files.check(ModelFiles(reference.name, "the model hub", names, file))
    pinned = dataclasses.replace(reference, revision=commit, chat_template=_template_hash(file))
    manners_of(pinned)
    return pinned


def _template_hash(file: Callable[[str], Path | None]) -> str:
    """SHA-256 of the chat template, wherever the model keeps it; "none" for a model without one."""
    if (path := file("chat_template.jinja")) is not None:
        return digest(path.read_text())[:16]
    if (path := file("tokenizer_config.json")) is not None:
        config: dict[str, Any] = json.loads(path.read_text())
        if template := config.get("chat_template"):
            return digest(json.dumps(template))[:16]
    return "none"
