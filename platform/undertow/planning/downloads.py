"""Downloads the models of a study, so that machines without network can run it.

Planning reads names and small files of a model on the hub, and the first engine or training downloads its
weights, on the node where it runs. The compute nodes of many clusters have no network. There, `--fetch` fills
the cache on a machine that has one. The data files of a study are read, and thereby kept, when it is planned.
"""

from collections.abc import Iterator
from pathlib import Path

from undertow.planning import hub
from undertow.planning.gguf_models import HubFile
from undertow.planning.given_models import is_nano
from undertow.planning.model_files import MODEL_FILES
from undertow.planning.pinning import pin
from undertow.prompts.hub_files import no_answer
from undertow.study.references import Reference
from undertow.study.study import Study


def fetch_models(study: Study) -> Iterator[tuple[str, Path]]:
    """Downloads the reference models on the hub that a study names; yields name and local place of each.

    Args:
        study: as its file gives it, with branches in place of commits.

    Raises SpecError or UserError for a model that cannot be used or downloaded.
    """
    given = dict.fromkeys(reference.untuned for c in study.all_conditions for reference in c.models)
    for reference in given:
        pinned = pin(reference)
        if not (is_nano(pinned) or pinned.is_api or pinned.is_external or pinned.location):
            yield reference.name, _downloaded(reference)


def _downloaded(reference: Reference) -> Path:
    """The local folder or file of a model on the hub, downloaded by the name of its branch.

    By its commit, as `pin` returns it, the hub client would not store which commit the branch has, and
    pinning without network would not find the model.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    revision = reference.revision or None
    try:
        if reference.is_gguf:
            on_hub = HubFile.of(reference.name)
            return Path(hf_hub_download(on_hub.repository, on_hub.file, revision=revision))
        return Path(snapshot_download(reference.name, revision=revision, allow_patterns=list(MODEL_FILES)))
    except Exception as error:  # the client raises many types: gated models, a lost connection, a full disk
        if reason := no_answer(error):
            raise hub.not_cached(reference, hub.unreachable(reason)) from None
        raise hub.refused(reference, error) from None
