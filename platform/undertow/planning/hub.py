"""Models on the Hugging Face hub: what a plan asks the hub, and the local cache, used without network.

The cache takes the hub's place if HF_HUB_OFFLINE is set or the hub does not answer. The hub may then have a
newer commit of a branch, which the plan says in a note (`offline_note`).
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from undertow.engines.weight_files import WEIGHTS
from undertow.errors import SpecError, UnavailableError, UserError, first_line
from undertow.nano import models
from undertow.planning.model_files import weights_hash
from undertow.prompts.hub_files import no_answer
from undertow.storage.manifest import sha256
from undertow.study.references import Reference

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

TIMEOUT = 20  # seconds
OFFLINE = "HF_HUB_OFFLINE is set"

# Why a commit was taken from the cache, by name and commit.
_from_cache: dict[tuple[str, str], str] = {}


class NoAnswerError(Exception):
    """The hub was not asked or did not answer; the message is the reason, as a clause."""


def model_info(repository: str, revision: str) -> "ModelInfo":
    """The hub's list of a model's files, with their hashes.

    Raises NoAnswerError without network, and the client's own errors (bad ids, gated models …).
    """
    from huggingface_hub import HfApi, is_offline_mode

    if is_offline_mode():
        raise NoAnswerError(OFFLINE)
    try:
        return HfApi().model_info(repository, revision=revision or None, timeout=TIMEOUT, files_metadata=True)
    except Exception as error:
        if reason := no_answer(error):
            raise NoAnswerError(unreachable(reason)) from None
        raise


def download(repository: str, name: str, commit: str) -> Path | None:
    """The local path of a model's file; None if the model has no such file. Raises NoAnswerError."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, name, revision=commit))
    except LocalEntryNotFoundError as error:  # a subclass of EntryNotFoundError, raised without an answer
        raise NoAnswerError(unreachable(no_answer(error))) from None
    except EntryNotFoundError:
        return None


def unreachable(reason: str) -> str:
    """The clause that says why the hub was not used."""
    return f"the model hub cannot be reached ({reason})"


def refused(reference: Reference, error: Exception) -> UserError:
    """The error for a model that the hub does not provide."""
    return UserError(
        f"Reference {reference.name!r}: not a local {_kind(reference)}, and the model hub reports: "
        f"{first_line(error)}; check the name, the network and HF_TOKEN, {_instead(reference)}"
    )


def not_cached(reference: Reference, reason: str, lacks: str = "does not have it") -> UnavailableError:
    """The error for a model that the cache does not provide in the hub's place."""
    offline = "unset HF_HUB_OFFLINE to download it"
    remedy = offline if reason == OFFLINE else "check the name, the network and HF_TOKEN"
    return UnavailableError(
        f"Reference {reference.name!r}: not a local {_kind(reference)}; {reason}, and the local cache of the "
        f"model hub {lacks}; {remedy}, {_instead(reference)}"
    )


def _instead(reference: Reference) -> str:
    """What else the user can give, or may have meant."""
    nano = f"nano/{reference.name}"
    try:
        models.parse(nano)
    except SpecError:
        return f"or give a local {_kind(reference)}"
    return f"or write {nano!r} for the nano model"


def _kind(reference: Reference) -> str:
    return "file" if reference.is_gguf else "folder"


def cached_folder(repository: str, revision: str) -> Path | None:
    """The folder of a hub model's commit in the local cache; None if it is not there.

    The cache has the commit of each branch or tag in `refs`, and the files of each commit in `snapshots`. As
    on the hub, the beginning of a commit identifies it.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    place = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    branch = place / "refs" / (revision or constants.DEFAULT_REVISION)
    commit = branch.read_text().strip() if branch.is_file() else revision
    snapshots = place / "snapshots"
    if not commit or not snapshots.is_dir():
        return None
    found = [folder for folder in snapshots.iterdir() if folder.name.startswith(commit)]
    return found[0] if len(found) == 1 else None


def record_source(reference: Reference, commit: str, reason: str) -> None:
    """Records for `offline_note` why the commit of a reference is the cached one; "" if the hub named it.

    A reference that states its commit has that commit in any case.
    """
    _from_cache.pop((reference.name, commit), None)
    if reason and not (reference.revision and commit.startswith(reference.revision)):
        _from_cache[reference.name, commit] = reason


def offline_note(reference: Reference) -> str:
    """A line for the plan if the commit of a hub model is the cached one, not asked of the hub; else ""."""
    root = reference.root
    reason = _from_cache.get((root.name, root.revision))
    if not reason:
        return ""
    return (
        f"{root.name}: commit {root.revision[:7]} of the local cache is used, since {reason}; "
        "the hub may have a newer one"
    )


def listed_weights(siblings: "Iterable[RepoSibling]") -> str:
    """The hash of the weight files that the hub lists; "" if it lists no SHA-256 for one of them.

    Files in subfolders are other formats of the model (ONNX …), which are not loaded.
    """
    files = [s for s in siblings if s.rfilename.endswith(WEIGHTS) and "/" not in s.rfilename]
    hashes = {file.rfilename: file.lfs.sha256 for file in files if file.lfs is not None}
    return weights_hash(hashes) if hashes and len(hashes) == len(files) else ""


def blob_hash(path: Path) -> str:
    """The SHA-256 of a cached weight file, which is usually the name of the blob that it links to."""
    if re.fullmatch(r"[0-9a-f]{64}", blob := path.resolve().name):
        return blob
    return sha256(path)  # a cache on a file system without symbolic links
