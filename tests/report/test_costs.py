"""Planned and actual costs by wave, on the console and on the page, from the storage alone."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.examples import REFERENCES, study
from undertow.planning.estimate import estimate
from undertow.planning.plan import make
from undertow.report import page_tables, plan_tables
from undertow.report.gather import ReportData, WaveCost
from undertow.results import events as event_log
from undertow.results import sweep_folders
from undertow.results.events import EventLog
from undertow.results.sweep_record import Record
from undertow.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    return store


def planned(store: Store) -> Record:
    """The record of a small study; its students have tokens and GPU-hours like those of real models."""
    plan = make(study(), store, REFERENCES)
    record = Record.of(plan, estimate(plan, {}))
    waves = [
        replace(wave, tokens=9e6, gpu_hours=4.0) if wave.wave == "students" else wave for wave in record.waves
    ]
    return replace(record, waves=tuple(waves))


def kept(record: Record, store: Store, gpus: int = 0) -> list[WaveCost]:
    """The costs of a sweep with waves of one minute, read back from its folder."""
    book = EventLog(record, store)
    book.gpus = gpus
    steps = {"datasets": 2_000, "filters": 0, "students": 6_000_000, "evaluations": 500}
    for name, tokens in steps.items():
        book.wave(name, 1, 60.0, tokens, part_of="datasets" if name == "filters" else name)
    store.write_bytes(f"{book.folder}/{sweep_folders.PLAN}", record.to_json().encode())
    book.write()
    again = sweep_folders.read(store, record.study.name, book.name)
    assert again == record
    events = event_log.read(store, record.study.name, book.name)
    return ReportData(again, store, events).costs


def printed(costs: list[WaveCost]) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(plan_tables.costs_table(costs))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_tables_compare_planned_with_actual_costs(store: Store) -> None:
    costs = kept(planned(store), store, gpus=8)
    by_wave = {cost.plan.wave: cost for cost in costs}
    assert by_wave["datasets"].seconds == 120.0  # includes the filters, which are part of this wave
    assert by_wave["teachers"].seconds is None
    assert by_wave["students"].tokens == 6_000_000
    assert by_wave["students"].gpu_hours == pytest.approx(8 * 60 / 3600)
    sheet = page_tables.costs(costs)
    names = [column.name for column in sheet.columns]
    students = dict(zip(names, next(row for row in sheet.rows if row[0] == "students"), strict=True))
    assert students["planned"] == "20 s"  # two worker groups, 36 students, 36,000 row passes
    assert students["this sweep"] == "1 min 0 s"
    assert (students["tokens, planned"], students["tokens"]) == ("9.0M", "6.0M")
    assert (students["GPU-hours, planned"], students["GPU-hours"]) == ("4.0", "0.1")
    text = printed(costs)
    assert "students 36 20 s 1 min 0 s 9.0M 6.0M 4.0 0.1" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100


def test_an_unknown_quantity_has_no_column(store: Store) -> None:
    record = planned(store)
    nano = replace(record, waves=tuple(replace(w, tokens=None, gpu_hours=None) for w in record.waves))
    costs = kept(nano, store)
    names = [column.name for column in page_tables.costs(costs).columns]
    assert names == ["wave", "artifacts", "to make", "planned", "this sweep", "all sweeps", "tokens"]
    assert "GPU-hours" not in printed(costs)


def test_a_plan_without_tokens_from_an_older_version_can_be_read(store: Store) -> None:
    record = planned(store)
    data = json.loads(record.to_json())
    for wave in data["waves"]:
        for newer in ("units", "tokens", "gpu_hours", "dollars"):
            del wave[newer]
    older = Record.from_json(json.dumps(data), "plan.json")
    assert [wave.tokens for wave in older.waves] == [None] * 5
    assert [wave.missing for wave in older.waves] == [wave.missing for wave in record.waves]
