"""MLflow away at the start, in the middle, at the end: a real server, killed and started again.

What follows the waves is run from a store that is filled by hand, and epochs are told as a training tells
them: where MLflow is away nothing waits, and everything has arrived when the next run ends.
"""

import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from tests.examples import REFERENCES, study
from tests.filled_store import fill
from tests.tracking_server import Server
from undertow.planning.plan import Plan
from undertow.results.events import EventLog
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.artifacts import Student
from undertow.study.identity import key
from undertow.sweep.run import Ending, link_of
from undertow.tracking import client as runs
from undertow.tracking import link as links
from undertow.tracking.link import Link
from undertow.tracking.tracker import Tracker

STUDY = replace(study(seeds=(0,)), conditions=study().conditions[:3])
EPOCH = {"loss": 1.0, "learning_rate": 0.1, "tokens_per_second": 1.0, "probabilities": {"owl": 0.5}}

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setattr(links, "PAUSE", 1.0)
    yield server
    server.kill()


class Run:
    """One sweep of a study whose artifacts are there: its link, and what it printed."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.printed = io.StringIO()
        self.console = Console(file=self.printed, width=160)
        self.record = Record.of(plan)
        self.journal = EventLog(self.record, store)
        # Two sweeps of one second would share a folder.
        self.journal.name += f"-{len(store.names('sweeps/small'))}"
        self.journal.folder = f"sweeps/small/{self.journal.name}"
        store.write_bytes(f"{self.journal.folder}/plan.json", self.record.to_json().encode())
        self.link: Link = link_of(STUDY, store, self.journal, self.console)

    def epochs(self, *numbers: int) -> None:
        student = self.plan.cells[0].student
        for number in numbers:
            self.link.tell(partial(_epoch, student=student, number=number))

    def end(self) -> str:
        ending = Ending(self.plan, self.record, self.store, self.link, self.journal)
        assert ending.report(self.console).failed_conditions == {}
        return self.printed.getvalue()


def _epoch(tracker: Tracker, student: Student, number: int) -> None:
    tracker.epoch(student, {**EPOCH, "epoch": number})


def told(server: Server) -> dict[str, tuple[str, int]]:
    """By an artifact's key its run's status and number of epochs; "" is the parent's."""
    client = runs.client_of(server.url)
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    found: dict[str, tuple[str, int]] = {}
    for run in client.search_runs([experiment.experiment_id]):
        name = run.data.tags.get("undertow.key", "")
        assert name not in found, "a second run of an artifact"
        steps = client.get_metric_history(run.info.run_id, "p_owl")
        found[name] = (run.info.status, len({metric.step for metric in steps}))
    return found


def whole(plan: Plan) -> dict[str, tuple[str, int]]:
    """What MLflow has of a study that was told to the end; a history has three epochs."""
    expected: dict[str, tuple[str, int]] = {"": ("FINISHED", 0)}
    for cell in plan.cells:
        for model in (cell.student, *([cell.teacher] if cell.teacher.finetuning else [])):
            expected[key(model)] = ("FINISHED", 3)
        expected[key(cell.student.dataset)] = ("FINISHED", 0)
    return expected


def test_away_in_the_middle_and_back_before_the_end(server: Server, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    plan = fill(STUDY, store, REFERENCES)
    server.start()
    sweep = Run(plan, store)
    sweep.epochs(0)
    server.kill()
    sweep.epochs(1, 2)
    server.start()
    output = sweep.end()
    assert output.count("MLflow is away") == 1
    assert told(server) == whole(plan)


def test_away_from_the_start_to_the_end_and_told_by_the_next_run(server: Server, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    plan = fill(STUDY, store, REFERENCES)
    away = Run(plan, store)
    away.epochs(0, 1, 2)
    output = away.end()
    assert output.count("MLflow is away") == 1
    assert (tmp_path / "storage" / away.journal.folder / "report.html").exists()
    server.start()
    assert "MLflow is away" not in Run(plan, store).end()
    assert told(server) == whole(plan)


def test_away_at_the_end_of_a_sweep_that_made_a_student_anew(server: Server, tmp_path: Path) -> None:
    """The run that is there tells of the student's earlier making, and is finished: it has to be replaced."""
    store = Store(str(tmp_path / "storage"))
    plan = fill(STUDY, store, REFERENCES)
    server.start()
    Run(plan, store).end()
    before = run_ids(server)
    student = plan.cells[0].student
    store.set_aside(student)
    fill(STUDY, store, REFERENCES)
    second = Run(replace(plan, missing=frozenset({key(student)})), store)
    server.kill()
    second.end()
    server.start()
    Run(plan, store).end()
    after = run_ids(server)
    assert {name for name in after if after[name] != before[name]} == {key(student)}
    assert told(server) == whole(plan)


def run_ids(server: Server) -> dict[str, str]:
    client = runs.client_of(server.url)
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    found = client.search_runs([experiment.experiment_id])
    return {run.data.tags.get("undertow.key", ""): run.info.run_id for run in found}
