"""Reference models as artifacts: nano models, and students with their adapter merged."""

from undertow.nano import models
from undertow.planning.pinning import model_of
from undertow.storage.store import Store
from undertow.study.artifacts import Reference


def make_reference(reference: Reference, store: Store) -> None:
    """Commits the folder of a nano model, or of a student with its adapter merged, to the store."""
    if reference.student is not None:
        from undertow.training.merging import write_merged

        base, adapter = model_of(reference.student.reference, store), store.fetch(reference.student)
        with store.new(reference, {"name": reference.label}) as folder:
            write_merged(base.folder, adapter, folder, base.changes)
        return
    from undertow.nano.training import write_reference

    with store.new(reference, {"name": reference.name}) as folder:
        write_reference(models.parse(reference.name), folder)
