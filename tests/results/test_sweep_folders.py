"""Tests of the folders of sweeps: the first statement of a study counts, and a failed sweep is no result."""

from pathlib import Path

import pytest

from tests.examples import study
from undertow.planning.plan import make
from undertow.results import csv_tables, sweep_folders
from undertow.results.sweep_record import Record
from undertow.storage.store import Store

HEADER = ",".join(csv_tables.EFFECT_COLUMNS) + "\n"


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


def test_conditions_are_counted_once_whatever_is_measured() -> None:
    rows = [("owl", "favourite"), ("owl", "stories"), ("cat", "favourite")]
    lines = [f"small,{trait},numbers,a,b,steering" + "," * 22 + measure + ",,,\n" for trait, measure in rows]
    assert csv_tables.conditions_of(HEADER + "".join(lines)) == 2
    assert csv_tables.conditions_of(HEADER) == csv_tables.conditions_of("") == 0


@pytest.mark.parametrize(
    ("newest", "others", "named"),
    [
        (HEADER, {"1": HEADER + "small,owl,numbers", "2": HEADER}, "--sweep 1"),
        (HEADER + "small,owl,numbers", {"1": HEADER + "small,owl,numbers"}, ""),
        ("", {"1": HEADER + "small,owl,numbers"}, ""),  # it has not ended
        (HEADER, {"1": HEADER}, ""),
    ],
)
def test_a_sweep_that_ended_without_effects_names_an_earlier_one_that_has_some(
    newest: str, others: dict[str, str], named: str, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    for name, table in {**others, "3": newest}.items():
        store.write_bytes(f"sweeps/small/{name}/{csv_tables.EFFECTS}", table.encode())
    note = sweep_folders.better_than(store, "small", "3")
    assert note.endswith(named) and bool(note) is bool(named)
