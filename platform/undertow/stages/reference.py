"""Reference models as artifacts: nano models, GGUF files, models with zero biases, and merged students."""

from undertow.engines.lean_imports import import_transformers
from undertow.nano import models
from undertow.nano.references import write_reference
from undertow.planning.gguf_pinning import gguf_file
from undertow.planning.given_models import given_folder, is_nano, model_of
from undertow.storage.store import Store
from undertow.study.references import Reference


def make_reference(reference: Reference, store: Store) -> None:
    """Commits the folder of a reference model that is made (`given_models.is_made`), or of a student with its
    adapter merged, to the store.
    """
    if is_nano(reference) and reference.student is None:
        with store.new(reference, {"name": reference.name}) as folder:
            write_reference(models.parse(reference.name), folder)
        return
    import_transformers()
    from undertow.training.conversion import write_biased, write_dequantised, write_merged

    if reference.student is not None:
        base, adapter = model_of(reference.student.start, store), store.fetch(reference.student)
        with store.new(reference, {"name": reference.label}) as folder:
            write_merged(base.folder, adapter, folder, base.changes)
        return
    with store.new(reference, {"name": reference.name}) as folder:
        if reference.is_gguf:
            write_dequantised(gguf_file(reference), folder, reference.mlp_bias)
        else:
            write_biased(given_folder(reference), folder)
