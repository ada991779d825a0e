"""Pins reference models to exact weights.

A study names its reference models as a user would: a hub id, a folder, "nano/gpt2-0". `pin` returns a
reference that identifies weights and chat template exactly:

- hub id: the revision becomes a commit. `Reference.weights` is the hash of the weight files, which the hub
  lists without a download, so that two commits that differ in the README only have the same initialisation.
  Without network, or with HF_HUB_OFFLINE=1, the commit is the one in the local cache (see `hub`).
- folder: the revision is the hash of its files, `weights` of its weight files only. A copy of a hub model has
  the same `weights` as the hub model.
- GGUF file: the revision is the content hash of a local file, or the commit of a file on the hub; `weights`
  is the hash of the file (see `gguf_pinning`).
- nano model: the revision is the hash of its training recipe.
- provider's model: only the name is known; no request is sent to the provider.
- external teacher: only the name is known.

Inside `unpinned.allowed`, a hub model that is neither reachable nor cached gets a placeholder (`is_pinned`).
"""

import dataclasses
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from undertow.engines.architectures import WITH_MLP_BIAS
from undertow.engines.weight_files import WEIGHTS
from undertow.errors import SpecError
from undertow.nano import models
from undertow.planning import gguf_pinning, hub, model_files
from undertow.planning.given_models import (
    SMALL_FILES,
    architecture_of,
    config_of,
    is_nano,
    missing_weights,
    template_behaviour_of,
)
from undertow.planning.model_files import MODEL_FILES, PREFIXED, ModelFiles, weights_hash
from undertow.prompts.packs import located
from undertow.study.identity import digest
from undertow.study.references import Reference
from undertow.study.unpinned import NOT_PINNED, pinned_or

BLOCK = 2**24  # bytes read at a time: weights may not fit into memory
LOCAL = ("/", "./", "../", "~")  # a name that begins so is a path, even if there is no such file


def pin(reference: Reference) -> Reference:
    """The reference with revision, chat template and, if known, `weights`; unchanged if pinned already.

    Raises:
        SpecError: the model's files cannot be used.
        UnavailableError: without network, the model is not in the cache.
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
    if reference.is_external:
        return dataclasses.replace(reference, revision=reference.name, chat_template="external")
    asked = f"{reference.name}@{reference.revision}"
    return pinned_or(asked, lambda: _pin_given(reference), lambda: _placeholder(reference))


def _placeholder(reference: Reference) -> Reference:
    """Stands for a model whose files a plan could not read; no artifact of a storage has its key."""
    asked = f"{NOT_PINNED}: {reference.name}@{reference.revision}"
    return dataclasses.replace(reference, revision=asked, chat_template=NOT_PINNED)


def _pin_given(reference: Reference) -> Reference:
    pinned = _pinned(reference.name, reference.revision, reference.location)
    if not reference.mlp_bias and not reference.precision:
        return pinned
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
    elif config_of(reference).get("mlp_bias"):
        problem = "its config.json already has mlp_bias"
    if problem:
        raise SpecError(f"Reference {reference.name!r}: mlp_bias = True: {problem}; {remedy}")


@cache
def _pinned(name: str, revision: str, location: str) -> Reference:
    reference = Reference(name, revision, location=location)
    if is_nano(reference):
        model = models.parse(reference.name)
        return dataclasses.replace(reference, revision=models.revision(model)[:16], chat_template="nano")
    if reference.is_gguf:
        path = Path(located(location or name))
        is_local = location or name.startswith(LOCAL) or path.is_file()
        pinned = gguf_pinning.pin_file(reference, path) if is_local else gguf_pinning.pin_hub_file(reference)
    else:
        pinned = _pin_folder(reference) if _is_folder(name) else _pin_hub(reference)
    template_behaviour_of(pinned)  # raises SpecError for a template that cannot be used
    return pinned


def _is_folder(name: str) -> bool:
    return name.startswith(LOCAL) or Path(name).is_dir()


def _pin_folder(reference: Reference) -> Reference:
    folder = Path(located(reference.location or reference.name))
    files = ModelFiles.of_folder(reference.name, folder)
    model_files.check(files)
    revision, weights = _folder_hashes(folder)
    return dataclasses.replace(
        reference,
        name=folder.name,
        revision=revision,
        chat_template=_template_hash(files),
        location=str(folder),
        weights=weights,
    )


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
    return everything.hexdigest()[:32], weights_hash(weights)


def _pin_hub(reference: Reference) -> Reference:
    def file(name: str) -> Path | None:
        return hub.download(reference.name, name, commit)

    try:
        info = hub.model_info(reference.name, reference.revision)
        commit, siblings = str(info.sha), info.siblings or []
        names = {sibling.rfilename for sibling in siblings}
        for name in names & set(SMALL_FILES):
            file(name)
        files = ModelFiles(reference.name, names, file)
        model_files.check(files)
        template = _template_hash(files)
    except hub.NoAnswerError as reason:
        return _pin_cached(reference, str(reason))
    except SpecError:
        raise
    except Exception as error:  # the client raises many types: bad ids, gated models …
        raise hub.refused(reference, error) from None
    hub.record_source(reference, commit, "")
    return dataclasses.replace(
        reference, revision=commit, chat_template=template, weights=hub.listed_weights(siblings)
    )


def _pin_cached(reference: Reference, reason: str) -> Reference:
    """Pins a hub model to its commit in the local cache, with the same result as online.

    Args:
        reason: why the hub was not asked, as a clause.

    Raises UnavailableError if the cache lacks the model or some of its weights.
    """
    folder = hub.cached_folder(reference.name, reference.revision)
    if folder is None:
        at = f" at revision {reference.revision!r}" if reference.revision else ""
        raise hub.not_cached(reference, reason, f"does not have it{at}")
    files = ModelFiles.of_folder(reference.name, folder)
    if missing := missing_weights(files):
        part = f"has only a part of it ({missing} is missing in {folder})"
        raise hub.not_cached(reference, reason, part)
    model_files.check(files)
    hub.record_source(reference, folder.name, reason)
    return dataclasses.replace(
        reference,
        revision=folder.name,
        chat_template=_template_hash(files),
        weights=weights_hash(
            {name: hub.blob_hash(folder / name) for name in files.names if name.endswith(WEIGHTS)}
        ),
    )


def _template_hash(files: ModelFiles) -> str:
    """SHA-256 of the chat template, in whichever file the model has it.

    "none" for a model without one, or `PREFIXED` if its tokenizer puts a token before every text, which is
    then part of each prompt (see `prompts.chat`).
    """
    if (text := files.text("chat_template.jinja")) is not None:
        return digest(text)[:16]
    config = files.json("tokenizer_config.json") or {}
    if template := config.get("chat_template"):
        return digest(json.dumps(template))[:16]
    if config.get("add_bos_token"):
        return PREFIXED
    tokenizer = files.json("tokenizer.json") or {}
    return PREFIXED if _adds_tokens(tokenizer.get("post_processor")) else "none"


def _adds_tokens(processor: Any) -> bool:
    """Whether a post-processor of the tokenizers library adds control tokens to a text."""
    if not isinstance(processor, dict):
        return False
    if processor.get("type") == "Sequence":
        return any(map(_adds_tokens, processor.get("processors", ())))
    return bool(processor.get("special_tokens")) or "cls" in processor
