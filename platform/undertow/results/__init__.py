"""The result files of a sweep, and their readers. `open` returns the results as pandas frames."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from undertow.results.frames import SweepResults


def open(storage: str, study: str, sweep: str = "") -> "SweepResults":
    """The results of a sweep, for notebooks and other programs.

    Args:
        storage: the folder or fsspec URL that the sweep wrote to.
        study: the study's name.
        sweep: the folder name of one of its sweeps; by default the newest.

    Raises:
        UserError: there is no such sweep.
        StorageError: its record does not exist or cannot be parsed.
    """
    from undertow.results.frames import SweepResults

    return SweepResults.read(storage, study, sweep)
