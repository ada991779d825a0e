"""Pins GGUF files: a local file to the hash of its content, a file on the hub to a commit.

The chat template and the tokenizer are in the file's header. Of a file on the hub, only the header is
downloaded before a sweep.
"""

import dataclasses
from pathlib import Path

from undertow.errors import SpecError, UserError, suggestion
from undertow.planning import gguf_models, hub
from undertow.planning.gguf_models import HubFile
from undertow.planning.model_files import weights_hash
from undertow.prompts.hub_files import no_answer
from undertow.storage.manifest import sha256
from undertow.study.references import GGUF, Reference


def pin_file(reference: Reference, path: Path) -> Reference:
    """Pins a local file. Raises SpecError for one that cannot be used."""
    header = gguf_models.local_header(reference.name, path)
    gguf_models.check(reference.name, header)
    hexdigest = sha256(path)
    return dataclasses.replace(
        reference,
        name=path.stem,
        revision=hexdigest[:32],
        chat_template=gguf_models.template_hash(header),
        location=str(path),
        weights=weights_hash({path.name: hexdigest}),
    )


def pin_hub_file(reference: Reference) -> Reference:
    """Pins a file on the hub; without network, the one in the local cache.

    Raises SpecError for a file that cannot be used, UserError for one that neither hub nor cache has.
    """
    on_hub = HubFile.of(reference.name)
    try:
        info = hub.model_info(on_hub.repository, reference.revision)
    except hub.NoAnswerError as reason:
        return _pin_cached(reference, on_hub, str(reason))
    except Exception as error:  # the client raises many types: bad ids, gated models …
        raise hub.refused(reference, error) from None
    files = {s.rfilename: s for s in info.siblings or () if s.rfilename.lower().endswith(GGUF)}
    if on_hub.file not in files:
        raise UserError(
            f"Reference {reference.name!r}: {on_hub.repository} on the model hub has no file "
            f"{on_hub.file}; {suggestion(on_hub.file, files)}"
        )
    large = files[on_hub.file].lfs
    return _pinned(reference, on_hub, str(info.sha), large.sha256 if large else "")


def _pin_cached(reference: Reference, on_hub: HubFile, reason: str) -> Reference:
    folder = hub.cached_folder(on_hub.repository, reference.revision)
    if folder is None or not (path := folder / on_hub.file).is_file():
        raise hub.not_cached(reference, reason)
    return _pinned(reference, on_hub, folder.name, hub.blob_hash(path), reason)


def _pinned(
    reference: Reference, on_hub: HubFile, commit: str, hexdigest: str, reason: str = ""
) -> Reference:
    pinned = dataclasses.replace(reference, revision=commit)
    try:
        header = gguf_models.header_of(pinned)
    except SpecError:
        raise
    except Exception as error:
        if words := no_answer(error):
            raise hub.not_cached(reference, hub.unreachable(words)) from None
        raise hub.refused(reference, error) from None
    gguf_models.check(reference.name, header)
    hub.record_source(reference, commit, reason)
    return dataclasses.replace(
        pinned,
        chat_template=gguf_models.template_hash(header),
        weights=weights_hash({on_hub.file: hexdigest}) if hexdigest else "",
    )


def gguf_file(reference: Reference) -> Path:
    """The local path of a pinned GGUF file; downloads a file of the hub."""
    if reference.location:
        return Path(reference.location)
    from huggingface_hub import hf_hub_download

    on_hub = HubFile.of(reference.name)
    return Path(hf_hub_download(on_hub.repository, on_hub.file, revision=reference.revision))
