"""Tests of the folders of sweeps: of two statements of a study, the first one counts."""

from pathlib import Path

from tests.examples import study
from undertow.planning.plan import make
from undertow.results import sweep_folders
from undertow.results.sweep_record import Record
from undertow.storage.store import Store


class Late(Store):
    """The storage as a sweep saw it before another one, which started with it, stated the study."""

    def read_text(self, name: str) -> str:
        return ""


def test_the_first_of_two_sweeps_that_start_together_states_the_study(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record = Record.of(make(study(), store, []))
    sweep_folders.state(study(), store)
    first = sweep_folders.stated(record, store)
    sweep_folders.state(study(), Late(str(tmp_path)))
    assert first is not None
    assert sweep_folders.stated(record, store) == first
