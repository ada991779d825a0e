"""Pins reference models to exact weights, and finds their files.

A study names its reference models as a user would: a hub id, a folder, "nano/gpt2-0". `pin` returns a
reference that identifies weights and chat template exactly:

- hub id: the revision becomes a commit. `Reference.weights` is the hash of the weight files, which the hub
  lists without a download, so that two commits that differ in the README only have the same initialisation.
  With HF_HUB_OFFLINE=1 the commit is the one in the local cache (`offline_note`).
- folder: the revision is the hash of its files, `weights` of its weight files only. A copy of a hub model has
  the same `weights` as the hub model.
- GGUF file: the revision is the content hash of a local file, or the commit of a file on the hub; `weights`
  is the hash of the file, which the hub lists. The chat template is in the file's header.
- nano model: the revision is the hash of its training recipe.
- provider's model: only the name is known; no request is sent to the provider.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.engines.architectures import WITH_MLP_BIAS
from undertow.engines.weight_files import SUFFIX as WEIGHTS
from undertow.engines.weight_files import ModelFolder, has_only_trained_tensors
from undertow.errors import SpecError, UserError, suggestion
from undertow.nano import models
from undertow.planning import gguf_models, model_files
from undertow.planning.gguf_models import HubFile
from undertow.planning.model_files import MODEL_FILES, PREFIXED, ModelFiles
from undertow.prompts import template_sandbox
from undertow.prompts.chat_templates import TemplateBehaviour, TemplateError
from undertow.storage.store import Store
from undertow.study.artifacts import GGUF, Reference
from undertow.study.identity import digest

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

SMALL_FILES = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
)
BLOCK = 2**24  # bytes read at a time: weights may not fit into memory
HUB_TIMEOUT = 20  # seconds
WEIGHTS_DIGITS = 32
OFFLINE = "HF_HUB_OFFLINE is set and the local cache of the model hub"
LOCAL = ("/", "./", "../", "~")  # a name that begins so is a path, even if there is no such file


def is_nano(reference: Reference) -> bool:
    """Whether the reference is one of the embedded nano models."""
    return models.is_nano(reference.name)


def is_made(reference: Reference) -> bool:
    """Whether the weights of a given model are an artifact that a sweep makes: nano models, which it trains,
    GGUF files, which it dequantises, and models that get zero biases.
    """
    return is_nano(reference) or reference.is_gguf or reference.mlp_bias


def pin(reference: Reference) -> Reference:
    """The reference with revision, chat template and, if known, `weights`; unchanged if pinned already.

    Raises:
        SpecError: the model's files cannot be used.
        UserError: the model was not found.
    """
    if reference.revision and reference.chat_template:
        return reference
    if reference.tuned is not None:
        start = pin(reference.tuned.reference)
        return start.changed(
            tuned=reference.tuned.changed(reference=start),
            student=reference.student,
            shown_as=reference.shown_as,
        )
    if reference.is_api:
        return dataclasses.replace(reference, revision=reference.served_name, chat_template="provider")
    pinned = _pinned(reference.name, reference.revision, reference.location)
    if reference.mlp_bias:
        _check_mlp_bias(pinned)
    return pinned.changed(mlp_bias=reference.mlp_bias, precision=reference.precision)


def _check_mlp_bias(reference: Reference) -> None:
    """Raises SpecError for a pinned model that cannot get zero biases."""
    architecture = "" if is_nano(reference) else architecture_of(reference)
    problem, remedy = "", "leave it False"
    if is_nano(reference):
        problem = "nano models are trained without biases of this kind"
    elif architecture and architecture not in WITH_MLP_BIAS:
        problem = f"{architecture} has no setting mlp_bias in transformers and vLLM"
        remedy = f"leave it False, or use one of {', '.join(sorted(WITH_MLP_BIAS))}"
    elif not reference.is_gguf and (config := _local_files(reference).json("config.json")):
        if config.get("mlp_bias"):
            problem = "its config.json already has mlp_bias"
        elif "quantization_config" in config:
            problem = "its weights are quantised (quantization_config in config.json)"
    if problem:
        raise SpecError(f"Reference {reference.name!r}: mlp_bias = True: {problem}; {remedy}")


@cache
def _pinned(name: str, revision: str, location: str) -> Reference:
    reference = Reference(name, revision, location=location)
    if is_nano(reference):
        model = models.parse(reference.name)
        return dataclasses.replace(reference, revision=models.revision(model)[:16], chat_template="nano")
    if reference.is_gguf:
        path = Path(location or name).expanduser()
        is_local = location or name.startswith(LOCAL) or path.is_file()
        return _pin_file(reference, path.absolute()) if is_local else _pin_hub_file(reference)
    if _is_folder(reference.name):
        return _pin_folder(reference)
    return _pin_hub(reference)


@cache
def template_behaviour_of(reference: Reference) -> TemplateBehaviour | None:
    """How the reference's chat template treats system messages.

    None for nano models, for API models (providers do not publish their templates), and if the template is
    not on this machine. Raises SpecError for a template that cannot be used.
    """
    if is_nano(reference) or reference.is_api:
        return None
    if reference.is_gguf:
        header, place = gguf_models.header_of(reference), "the file's metadata"
        template, tokens = gguf_models.template_of(header), gguf_models.tokens_of(header)
    else:
        files = _local_files(reference)
        if not {"config.json", "tokenizer_config.json"} & files.names:
            return None
        template, tokens, place = model_files.template_of(files), model_files.tokens_of(files), files.place
    try:
        return template_sandbox.inspect_template(template, tokens)
    except TemplateError as error:
        raise SpecError(
            f"Reference {reference.name!r}: its chat template {error}; fix it in {place}, or use "
            "another model"
        ) from None


def model_of(reference: Reference, store: Store) -> ModelFolder:
    """The model's files on this machine; downloads a hub model.

    For a student as reference, these are the student's: its adapter merged into its base model, or its whole
    model, or the model that it started from and its trained tensors.
    """
    if reference.student is None or reference.is_merged:
        return ModelFolder(folder_of(reference, store))
    folder = store.fetch(reference.student)
    if not has_only_trained_tensors(folder):
        return ModelFolder(folder)
    start = model_of(reference.student.reference, store)
    return ModelFolder(start.folder, (*start.changes, folder))


def folder_of(reference: Reference, store: Store) -> Path:
    """A local folder with a model in the layout of Hugging Face; downloads a hub model.

    For the start of a chain (with format tuning, the folder of the tuned model) and for merged adapters;
    `model_of` accepts every reference.
    """
    if reference.tuned is not None and not reference.is_merged:
        return store.fetch(reference.tuned)
    if is_made(reference) or reference.is_merged:
        return store.fetch(reference)
    return given_folder(reference)


def given_folder(reference: Reference) -> Path:
    """A local folder with the files of a given model that is a folder or a hub id, which is downloaded."""
    if reference.location:
        return Path(reference.location)
    from huggingface_hub import is_offline_mode, snapshot_download

    # Offline, snapshot_download refuses a cache that lacks files of other libraries in subfolders.
    if is_offline_mode() and (cached := cached_folder(reference)) is not None:
        return cached
    return Path(
        snapshot_download(reference.name, revision=reference.revision, allow_patterns=list(MODEL_FILES))
    )


def gguf_file(reference: Reference) -> Path:
    """The local path of a pinned GGUF file; downloads a file of the hub."""
    if reference.location:
        return Path(reference.location)
    from huggingface_hub import hf_hub_download

    on_hub = HubFile.of(reference.name)
    return Path(hf_hub_download(on_hub.repository, on_hub.file, revision=reference.revision))


def offline_note(reference: Reference) -> str:
    """A line for the plan if a hub model was pinned without a request to the hub; "" otherwise."""
    from huggingface_hub import is_offline_mode

    root = reference.root
    if is_nano(root) or root.is_api or root.location or not is_offline_mode():
        return ""
    return (
        f"{root.name}: commit {root.revision[:7]} of the local cache is used, since HF_HUB_OFFLINE is set; "
        "the hub may have a newer one"
    )


def cached_folder(reference: Reference) -> Path | None:
    """The folder of a hub model's commit in the local cache; None if it is not there.

    The cache has the commit of each branch or tag in `refs`, and the files of each commit in `snapshots`. As
    on the hub, the beginning of a commit identifies it.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    repository = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=reference.name, repo_type="model")
    branch = repository / "refs" / (reference.revision or constants.DEFAULT_REVISION)
    commit = branch.read_text().strip() if branch.is_file() else reference.revision
    snapshots = repository / "snapshots"
    if not commit or not snapshots.is_dir():
        return None
    found = [folder for folder in snapshots.iterdir() if folder.name.startswith(commit)]
    return found[0] if len(found) == 1 else None


@cache
def architecture_of(reference: Reference) -> str:
    """The model class in a given model's configuration; "" if its files are not on this machine."""
    if reference.is_gguf:
        return gguf_models.architecture_of(gguf_models.header_of(reference))
    return model_files.architecture_of(_local_files(reference))


@cache
def modules_of(reference: Reference) -> frozenset[str]:
    """The modules of a given model that contain weights; empty if its files are not on this machine."""
    if reference.is_gguf:
        return frozenset(gguf_models.modules_of(gguf_models.header_of(reference)))
    return frozenset(model_files.matrices_of(_local_files(reference)))


def _is_folder(name: str) -> bool:
    return name.startswith(LOCAL) or Path(name).is_dir()


def _local_files(reference: Reference) -> ModelFiles:
    """The reference's small files, as far as they are on this machine."""
    if reference.location:
        return ModelFiles.of_folder(reference.name, Path(reference.location))
    from huggingface_hub import try_to_load_from_cache

    def path(name: str) -> Path | None:
        # Returns a sentinel object instead of a path for a file that the repository is known to lack.
        found = try_to_load_from_cache(reference.name, name, revision=reference.revision)
        return Path(found) if isinstance(found, str) else None

    names = {name for name in SMALL_FILES if path(name) is not None}
    return ModelFiles(reference.name, "the model hub", names, path)


def _pin_folder(reference: Reference) -> Reference:
    folder = Path(reference.location or reference.name).expanduser().absolute()
    files = ModelFiles.of_folder(reference.name, folder)
    model_files.check(files)
    revision, weights = _folder_hashes(folder)
    pinned = dataclasses.replace(
        reference,
        name=folder.name,
        revision=revision,
        chat_template=_template_hash(files.path),
        location=str(folder),
        weights=weights,
    )
    template_behaviour_of(pinned)  # raises SpecError for a template that cannot be used
    return pinned


def _pin_file(reference: Reference, path: Path) -> Reference:
    """Pins a local GGUF file."""
    header = gguf_models.local_header(reference.name, path)
    gguf_models.check(reference.name, header)
    with path.open("rb") as file:
        hexdigest = hashlib.file_digest(file, "sha256").hexdigest()
    pinned = dataclasses.replace(
        reference,
        name=path.stem,
        revision=hexdigest[:32],
        chat_template=gguf_models.template_hash(header),
        location=str(path),
        weights=_weights_hash({path.name: hexdigest}),
    )
    template_behaviour_of(pinned)  # raises SpecError for a template that cannot be used
    return pinned


def _pin_hub_file(reference: Reference) -> Reference:
    """Pins a GGUF file on the hub. Only its header is downloaded, unless the file is in the local cache."""
    from huggingface_hub import HfApi, is_offline_mode

    on_hub = HubFile.of(reference.name)
    repository = Reference(on_hub.repository, reference.revision)
    if is_offline_mode():
        folder = cached_folder(repository)
        path = folder / on_hub.file if folder else None
        if folder is None or path is None or not path.is_file():
            raise UserError(
                f"Reference {reference.name!r}: {OFFLINE} does not have it; unset HF_HUB_OFFLINE, or give a "
                "local file"
            )
        commit, hexdigest = folder.name, _blob_hash(path)
    else:
        try:
            info = HfApi().model_info(
                on_hub.repository,
                revision=reference.revision or None,
                timeout=HUB_TIMEOUT,
                files_metadata=True,
            )
        except Exception as error:  # the client raises many types: bad ids, gated models, no network …
            raise _unreachable(reference, repository, error, "give a local file") from None
        files = {s.rfilename: s for s in info.siblings or () if s.rfilename.lower().endswith(GGUF)}
        if on_hub.file not in files:
            raise UserError(
                f"Reference {reference.name!r}: {on_hub.repository} on the model hub has no file "
                f"{on_hub.file}; {suggestion(on_hub.file, files)}"
            )
        large = files[on_hub.file].lfs
        commit, hexdigest = str(info.sha), large.sha256 if large else ""
    pinned = dataclasses.replace(reference, revision=commit)
    try:
        header = gguf_models.header_of(pinned)
    except SpecError:
        raise
    except Exception as error:
        raise _unreachable(reference, repository, error, "give a local file") from None
    gguf_models.check(reference.name, header)
    pinned = dataclasses.replace(
        pinned,
        chat_template=gguf_models.template_hash(header),
        weights=_weights_hash({on_hub.file: hexdigest}) if hexdigest else "",
    )
    template_behaviour_of(pinned)  # raises SpecError for a template that cannot be used
    return pinned


def _folder_hashes(folder: Path) -> tuple[str, str]:
    """The hashes of all model files in a folder and of its weights, from one pass over the files."""
    everything, weights = hashlib.sha256(), dict[str, str]()
    # hashlib releases the GIL for large blocks, so a second thread makes the second hash nearly free.
    with ThreadPoolExecutor(max_workers=1) as thread:
        for path in sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)}):
            everything.update(path.name.encode() + b"\0")
            own = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    update = thread.submit(own.update, block)
                    everything.update(block)
                    update.result()
            if path.name.endswith(WEIGHTS):
                weights[path.name] = own.hexdigest()
    return everything.hexdigest()[:32], _weights_hash(weights)


def _weights_hash(files: Mapping[str, str]) -> str:
    """A hash of the SHA-256 of a model's weight files by name; names and order do not change it.

    Some models contain their weights twice, as model*.safetensors and in the layout of another library. Only
    the first are used then: a copy of the model need not have both.
    """
    used = [hexdigest for name, hexdigest in files.items() if name.startswith("model")]
    return digest("\n".join(sorted(used or files.values())))[:WEIGHTS_DIGITS]


def _pin_hub(reference: Reference) -> Reference:
    from huggingface_hub import HfApi, hf_hub_download, is_offline_mode
    from huggingface_hub.errors import EntryNotFoundError

    if is_offline_mode():
        return _pin_cached(reference)

    def file(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(reference.name, name, revision=commit))
        except EntryNotFoundError:
            return None

    try:
        info = HfApi().model_info(
            reference.name, revision=reference.revision or None, timeout=HUB_TIMEOUT, files_metadata=True
        )
        commit, siblings = str(info.sha), info.siblings or []
        names = {sibling.rfilename for sibling in siblings}
        for name in names & set(SMALL_FILES):
            file(name)
        template = _template_hash(file)
    except Exception as error:  # the client raises many types: bad ids, gated models, no network …
        raise _unreachable(reference, reference, error, "give a local folder") from None
    model_files.check(ModelFiles(reference.name, "the model hub", names, file))
    pinned = dataclasses.replace(
        reference, revision=commit, chat_template=template, weights=_hub_weights(siblings)
    )
    template_behaviour_of(pinned)  # raises SpecError for a template that cannot be used
    return pinned


def _unreachable(reference: Reference, repository: Reference, error: Exception, remedy: str) -> UserError:
    """The error for a model that the hub does not provide, with the commit in the local cache, if any."""
    from huggingface_hub.errors import HfHubHTTPError

    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    # Without a response from the hub, it is unknown whether the cached commit is still the requested one.
    cached = None if isinstance(error, HfHubHTTPError) else cached_folder(repository)
    if cached:
        remedy = f"set HF_HUB_OFFLINE=1 to use its cached commit {cached.name[:7]}"
    kind = "file" if reference.is_gguf else "folder"
    return UserError(
        f"Reference {reference.name!r}: not a local {kind}, and the model hub reports: {reason}; "
        f"check the name, the network and HF_TOKEN, or {remedy}"
    )


def _pin_cached(reference: Reference) -> Reference:
    """Pins a hub model to its commit in the local cache, with the same result as online.

    Raises UserError if the cache lacks the model or some of its weights.
    """
    folder = cached_folder(reference)
    if folder is None:
        at = f" at revision {reference.revision!r}" if reference.revision else ""
        raise UserError(
            f"Reference {reference.name!r}: not a local folder; {OFFLINE} does not have it{at}; unset "
            "HF_HUB_OFFLINE, or give a local folder"
        )
    files = ModelFiles.of_folder(reference.name, folder)
    weights = {name for name in files.names if name.endswith(WEIGHTS)}
    indexed = set((files.json(model_files.INDEX) or {}).get("weight_map", {}).values())
    if not weights or indexed - weights:
        missing = min(indexed - weights, default=f"*{WEIGHTS}")
        raise UserError(
            f"Reference {reference.name!r}: {OFFLINE} has only a part of it ({missing} is missing in "
            f"{folder}); unset HF_HUB_OFFLINE to download the rest"
        )
    model_files.check(files)
    pinned = dataclasses.replace(
        reference,
        revision=folder.name,
        chat_template=_template_hash(files.path),
        weights=_weights_hash({name: _blob_hash(folder / name) for name in weights}),
    )
    template_behaviour_of(pinned)  # raises SpecError for a template that cannot be used
    return pinned


def _blob_hash(path: Path) -> str:
    """The SHA-256 of a cached weight file, which is usually the name of the blob that it links to."""
    if re.fullmatch(r"[0-9a-f]{64}", blob := path.resolve().name):
        return blob
    with path.open("rb") as file:  # a cache on a file system without symbolic links
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hub_weights(siblings: "Iterable[RepoSibling]") -> str:
    """The hash of the weight files that the hub lists; "" if it lists no SHA-256 for one of them.

    Files in subfolders are other formats of the model (ONNX …), which are not loaded.
    """
    files = [s for s in siblings if s.rfilename.endswith(WEIGHTS) and "/" not in s.rfilename]
    hashes = {file.rfilename: file.lfs.sha256 for file in files if file.lfs is not None}
    return _weights_hash(hashes) if hashes and len(hashes) == len(files) else ""


def _template_hash(file: Callable[[str], Path | None]) -> str:
    """SHA-256 of the chat template, in whichever file the model has it.

    "none" for a model without one, or `PREFIXED` if its tokenizer puts a token before every text, which is
    then part of each prompt (see `prompts.chat`).
    """
    if (path := file("chat_template.jinja")) is not None:
        return digest(path.read_text())[:16]
    config = _json(file("tokenizer_config.json"))
    if template := config.get("chat_template"):
        return digest(json.dumps(template))[:16]
    if config.get("add_bos_token") or _adds_tokens(_json(file("tokenizer.json")).get("post_processor")):
        return PREFIXED
    return "none"


def _json(path: Path | None) -> dict[str, Any]:
    data = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    return data if isinstance(data, dict) else {}


def _adds_tokens(processor: Any) -> bool:
    """Whether a post-processor of the tokenizers library adds control tokens to a text."""
    if not isinstance(processor, dict):
        return False
    if processor.get("type") == "Sequence":
        return any(map(_adds_tokens, processor.get("processors", ())))
    return bool(processor.get("special_tokens")) or "cls" in processor
