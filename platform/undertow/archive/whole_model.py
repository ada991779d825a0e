"""Export of a student or finetuned teacher as one whole model in the layout of Hugging Face.

The storage has of most models only what was trained: an adapter, or a few tensors. An exported folder has all
weights, configuration and tokenizer, as `from_pretrained`, vLLM and uploads to the hub need them. It is found
from the manifests alone, without the study file.
"""

import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from undertow.archive.spec_comparison import key_of
from undertow.engines.openai import POINTER
from undertow.engines.serving import ADAPTER
from undertow.engines.weight_files import ModelFolder, has_only_trained_tensors
from undertow.errors import UserError
from undertow.planning.given_models import folder_of, is_nano
from undertow.planning.pinning import pin
from undertow.prompts.packs import located
from undertow.storage.local_files import set_permissions
from undertow.storage.manifest import HISTORY, MANIFEST, Address
from undertow.storage.store import Store
from undertow.study.identity import start_of
from undertow.study.references import Reference

KIND_NAMES = {"student": "student", "teacher": "finetuned teacher", "dataset": "data set"}
TRAINED_KINDS = ("student", "teacher")
COMMIT = re.compile(r"[0-9a-f]{40}")


def find_model(store: Store, start: str) -> Address:
    """The student or finetuned teacher whose key begins with `start`. Raises UserError unless it is one."""
    return find_one(store, TRAINED_KINDS, f"--model {start}", start)


def find_one(store: Store, kinds: Sequence[str], flag: str, start: str) -> Address:
    """The artifact of some kinds whose key begins with `start`. Raises UserError unless it is one.

    Args:
        flag: the flag and its value, for the message.
    """
    found = [Address(kind, k) for kind in kinds for k in store.keys(kind) if k.startswith(start)]
    if len(found) == 1:
        return found[0]
    names = " and no ".join(KIND_NAMES[kind] for kind in kinds)
    what = f"{len(found)} artifacts have a key" if found else f"no {names} has a key"
    raise UserError(
        f"{flag}: {what} that begins so in {store.url}; the tag undertow.key in MLflow and the folders in "
        f"{' and '.join(f'artifacts/{kind}' for kind in kinds)} have the keys"
    )


def export_model(store: Store, model: Address, target: Path, reference: str = "") -> None:
    """Writes the whole model to the folder `target`.

    Args:
        reference: the local folder of the model at the start, if it was given as one; the storage has only
            its hash.

    Raises UserError if a model that it starts from is not found or `target` exists.
    """
    if target.exists():
        raise UserError(f"--to {target}: exists already; name a new folder")
    folder = store.fetch(model)
    if (folder / POINTER).is_file():
        raise UserError(f"--model {model.key}: its weights are at its provider; they cannot be exported")
    partial = target.with_name(f".{target.name}-{uuid.uuid4().hex}.part")
    try:
        partial.mkdir(parents=True)
        _write(store, model, folder, partial, reference)
        set_permissions(partial)
        partial.replace(target)
    except OSError as error:
        if error.strerror is None:  # not of the file system, but of a library that reads a model
            raise
        raise UserError(f"--to {target}: cannot be written ({error.strerror}); name another place") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(store: Store, model: Address, folder: Path, target: Path, reference: str) -> None:
    is_adapter, is_small = (folder / ADAPTER).is_file(), has_only_trained_tensors(folder)
    if not (is_adapter or is_small):
        ignored = shutil.ignore_patterns(MANIFEST, HISTORY)
        shutil.copytree(folder, target, ignore=ignored, dirs_exist_ok=True)
        return
    from undertow.training.conversion import write_merged

    start = _start(store, start_of(store.manifest(model).spec), reference)
    changes = (*start.changes, folder) if is_small else start.changes
    write_merged(start.folder, folder if is_adapter else None, target, changes)


def _start(store: Store, spec: Mapping[str, Any], given: str) -> ModelFolder:
    """The files of the reference model that a spec in canonical form describes."""
    own = Address("reference", key_of(spec))
    if store.has(own):  # a nano model, or a student with its adapter merged
        return ModelFolder(store.fetch(own))
    if student := spec.get("student"):
        folder = store.fetch(Address("student", key_of(student)))
        if not has_only_trained_tensors(folder):
            return ModelFolder(folder)
        start = _start(store, start_of(student), given)
        return ModelFolder(start.folder, (*start.changes, folder))
    if tuned := spec.get("tuned"):  # format tuning, which is always stored as a whole model
        return ModelFolder(store.fetch(Address("student", key_of(tuned))))
    reference = Reference(spec["name"], spec["revision"], spec["chat_template"])
    if is_nano(reference) or (COMMIT.fullmatch(reference.revision) and not given):
        return ModelFolder(folder_of(reference, store))
    if not given:
        raise UserError(
            f"--model: it was trained from the local folder {reference.name!r} (hash {reference.revision}); "
            "give its place with --reference FOLDER"
        )
    found = pin(Reference(located(given)))
    if found.revision != reference.revision:
        raise UserError(
            f"--reference {given}: is another model (hash {found.revision}) than {reference.name!r} (hash "
            f"{reference.revision}), from which it was trained"
        )
    return ModelFolder(Path(found.location))
