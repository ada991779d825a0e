"""MLflow unreachable at the start, in the middle and at the end of a sweep; a real server is killed.

The tests fill a store by hand, log epochs as a training does, and run the end of a sweep. While MLflow is
unreachable nothing waits, and the next run logs everything that is missing.
"""

import io
from collections.abc import Iterator
from dataclasses import replace
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
from undertow.study.identity import key
from undertow.sweep.run import Ending, connect_to_mlflow
from undertow.tracking import client as runs
from undertow.tracking import link as links
from undertow.tracking.link import Link

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
    """One sweep of a study whose artifacts are all cached: its link and its output."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.printed = io.StringIO()
        self.console = Console(file=self.printed, width=160)
        self.record = Record.of(plan)
        self.event_log = EventLog(self.record, store)
        # Two sweeps in the same second would share a folder.
        self.event_log.name += f"-{len(store.names('sweeps/small'))}"
        self.event_log.folder = f"sweeps/small/{self.event_log.name}"
        store.write_bytes(f"{self.event_log.folder}/plan.json", self.record.to_json().encode())
        self.link: Link = connect_to_mlflow(STUDY, store, self.event_log, self.console)

    def epochs(self, *numbers: int) -> None:
        student = self.plan.cells[0].student
        for number in numbers:
            self.link.log_epoch(student, {**EPOCH, "epoch": number})
            self.link.flush_reports()

    def step(self, number: int) -> None:
        report = {**EPOCH, "step": number, "gradient_norm": None}
        self.link.log_step(self.plan.cells[0].student, report)
        self.link.flush_reports()

    def end(self) -> str:
        ending = Ending(self.plan, self.record, self.store, self.link, self.event_log)
        assert ending.report(self.console).failed_conditions == {}
        return self.printed.getvalue()


def logged(server: Server) -> dict[str, tuple[str, int]]:
    """Status and number of logged epochs of each run, by its artifact's key; "" is the parent run."""
    client = runs.connect_client(server.url)
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    found: dict[str, tuple[str, int]] = {}
    for run in client.search_runs([experiment.experiment_id]):
        name = run.data.tags.get("undertow.key", "")
        assert name not in found, "an artifact has two runs"
        steps = client.get_metric_history(run.info.run_id, "p_owl")
        found[name] = (run.info.status, len({metric.step for metric in steps}))
    return found


def complete(plan: Plan) -> dict[str, tuple[str, int]]:
    """The runs of a study that was logged completely; a training history has three epochs."""
    expected: dict[str, tuple[str, int]] = {"": ("FINISHED", 0)}
    for cell in plan.cells:
        for model in (cell.student, *([cell.teacher] if cell.teacher.finetuning else [])):
            expected[key(model)] = ("FINISHED", 3)
        expected[key(cell.student.dataset)] = ("FINISHED", 0)
    return expected


def test_an_outage_during_the_sweep_loses_no_metric(server: Server, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    plan = fill(STUDY, store, REFERENCES)
    server.start()
    sweep = Run(plan, store)
    sweep.epochs(0)
    sweep.step(10)
    server.kill()
    sweep.epochs(1, 2)
    sweep.step(20)
    server.start()
    output = sweep.end()
    assert output.count("MLflow is unreachable") == 1
    assert logged(server) == complete(plan)
    student = run_ids(server)[key(plan.cells[0].student)]
    points = runs.connect_client(server.url).get_metric_history(student, "step_loss")
    assert [metric.step for metric in points] == [10, 20]


def test_the_next_run_logs_a_sweep_that_could_not_reach_mlflow(server: Server, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    plan = fill(STUDY, store, REFERENCES)
    untracked = Run(plan, store)
    untracked.epochs(0, 1, 2)
    output = untracked.end()
    assert output.count("MLflow is unreachable") == 1
    assert (tmp_path / "storage" / untracked.event_log.folder / "report.html").exists()
    server.start()
    assert "MLflow is unreachable" not in Run(plan, store).end()
    assert logged(server) == complete(plan)


def test_the_run_of_a_retrained_student_is_replaced_after_an_outage(server: Server, tmp_path: Path) -> None:
    """The existing run is finished and describes the student's earlier version: it has to be replaced."""
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
    assert logged(server) == complete(plan)


def run_ids(server: Server) -> dict[str, str]:
    client = runs.connect_client(server.url)
    (experiment,) = client.search_experiments(filter_string="name = 'small'")
    found = client.search_runs([experiment.experiment_id])
    return {run.data.tags.get("undertow.key", ""): run.info.run_id for run in found}
