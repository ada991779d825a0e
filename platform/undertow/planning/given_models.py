"""What the files of given models say: where they are, their architecture and tensors, their chat template.

A given model is one that a study names: a nano model, a hub id, a folder, a GGUF file. Before a model of the
hub is downloaded, only the small files are known that `pinning` has read.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from undertow.engines.weight_files import WEIGHTS, ModelFolder, has_only_trained_tensors
from undertow.errors import SpecError
from undertow.nano import models
from undertow.planning import gguf_models, hub, model_files
from undertow.planning.model_files import MODEL_FILES, ModelFiles
from undertow.prompts import template_sandbox
from undertow.prompts.chat_templates import TemplateBehaviour, TemplateError
from undertow.prompts.hub_files import no_answer
from undertow.storage.store import Store
from undertow.study.references import Reference
from undertow.study.unpinned import NOT_PINNED

SMALL_FILES = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    model_files.INDEX,
)
SINGLE_FILE = "model.safetensors"  # the weights of a model that has no index


def is_nano(reference: Reference) -> bool:
    """Whether the reference is one of the embedded nano models."""
    return models.is_nano(reference.name)


def is_made(reference: Reference) -> bool:
    """Whether the weights of a given model are an artifact that a sweep makes: nano models, which it trains,
    GGUF files, which it dequantises, and models that get zero biases.
    """
    return is_nano(reference) or reference.is_gguf or reference.mlp_bias


def is_pinned(reference: Reference) -> bool:
    """Whether a reference that `pin` returned identifies weights, so that it is no placeholder."""
    return reference.chat_template != NOT_PINNED


@cache
def template_behaviour_of(reference: Reference) -> TemplateBehaviour | None:
    """How the reference's chat template treats system messages.

    None for nano models, for API models (providers do not publish their templates), for external teachers,
    and if the template is not on this machine. Raises SpecError for a template that cannot be used.
    """
    if reference.is_external or is_nano(reference) or reference.is_api or not is_pinned(reference):
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
    start = model_of(reference.student.start, store)
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
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(reference.name, revision=reference.revision, allow_patterns=list(MODEL_FILES))
        )
    except Exception as error:
        # Without network, it refuses a cache that lacks files of other libraries in subfolders.
        cached = hub.cached_folder(reference.name, reference.revision) if no_answer(error) else None
        if cached is None or missing_weights(ModelFiles.of_folder(reference.name, cached)):
            raise
        return cached


@cache
def architecture_of(reference: Reference) -> str:
    """The model class in a given model's configuration; "" if its files are not on this machine."""
    if reference.is_gguf:
        return gguf_models.architecture_of(gguf_models.header_of(reference))
    return model_files.architecture_of(_local_files(reference))


@cache
def tensors_of(reference: Reference) -> Mapping[str, tuple[int, ...] | None]:
    """The shape of each tensor of a given model by name, as far as its files are on this machine.

    The shape is None if only an index names the tensor. Empty if the names are unknown or incomplete, as for
    a model on the hub that is not in the local cache and has no index. For GGUF files see
    `gguf_models.tensors_of`.
    """
    if is_nano(reference):
        return models.tensor_shapes(models.parse(reference.name).architecture)
    if reference.is_gguf:
        return gguf_models.tensors_of(gguf_models.header_of(reference))
    if reference.location or (folder := hub.cached_folder(reference.name, reference.revision)) is None:
        return model_files.tensors_of(_local_files(reference))
    files = ModelFiles.of_folder(reference.name, folder)
    if not {model_files.INDEX, SINGLE_FILE} & files.names:
        return {}
    try:
        return model_files.tensors_of(files)
    except ValueError:  # a damaged file of the cache; loading the model reports it
        return {}


@cache
def blocks_of(reference: Reference) -> int | None:
    """The number of a given model's blocks; None if its files do not state it or are not on this machine."""
    if reference.is_gguf:
        return gguf_models.blocks_of(gguf_models.header_of(reference))
    return model_files.blocks_of(_local_files(reference))


@cache
def config_of(reference: Reference) -> Mapping[str, Any]:
    """A given model's config.json; {} for a GGUF file, or if it is not on this machine."""
    return {} if reference.is_gguf else _local_files(reference).json("config.json") or {}


def _local_files(reference: Reference) -> ModelFiles:
    """The reference's small files, as far as they are on this machine."""
    if not is_pinned(reference):
        return ModelFiles(reference.name, frozenset(), lambda name: None)
    if reference.location:
        return ModelFiles.of_folder(reference.name, Path(reference.location))
    from huggingface_hub import try_to_load_from_cache

    def path(name: str) -> Path | None:
        # Returns a sentinel object instead of a path for a file that the repository is known to lack.
        found = try_to_load_from_cache(reference.name, name, revision=reference.revision)
        return Path(found) if isinstance(found, str) else None

    names = {name for name in SMALL_FILES if path(name) is not None}
    return ModelFiles(reference.name, names, path)


def missing_weights(files: ModelFiles) -> str:
    """The first weight file that a cached model lacks; "" if it is complete."""
    weights = {name for name in files.names if name.endswith(WEIGHTS)}
    indexed = set((files.json(model_files.INDEX) or {}).get("weight_map", {}).values())
    return min(indexed - weights, default="" if weights else f"*{WEIGHTS}")
