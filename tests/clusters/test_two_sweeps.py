"""Two jobs at once with overlapping studies on one storage, each on a Slurm node of its own."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clusters.hosts import skip_without, wait_until
from tests.clusters.logs import unreadable
from tests.clusters.slurm import COMMANDS, ROOT, Job, Slurm, running_slurm, short_folder
from undertow.cli.studies import load
from undertow.results import events
from undertow.storage.manifest import Address
from undertow.storage.store import Store
from undertow.study.study import Study
from undertow.sweep.run import make_plan

STUDY = ROOT / "tests" / "sweep" / "small_study.py"
RECORDED = ("reference", "teacher", "dataset", "student", "digit_count")  # kinds whose making is an event

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    skip_without(*COMMANDS)
    with short_folder("uw") as folder, running_slurm(folder) as slurm:
        yield slurm


def start(slurm: Slurm, function: str, storage: Path) -> Job:
    """Submits a sweep of one of the small studies on one node; its files are removed with the test's."""
    arguments = ("--study", f"{STUDY}:{function}", "--seeds", "1", "--storage", str(storage))
    return slurm.submit("--nodes=1", "platform/slurm.sbatch", *arguments)


def study_of(function: str) -> Study:
    return replace(load(f"{STUDY}:{function}", ROOT / "jobs" / "studies"), seeds=(0,))


def made(store: Store) -> Counter[Address]:
    """How often each artifact was made, over the event logs of all sweeps."""
    sweeps = [(study, sweep) for study in store.names("sweeps") for sweep in store.names(f"sweeps/{study}")]
    logged = [event for study, sweep in sweeps for event in events.read(store, study, sweep)]
    return Counter(Address(event["kind"], event["key"]) for event in logged if event["event"] == "made")


def test_two_jobs_at_once_make_each_shared_artifact_once(slurm: Slurm) -> None:
    store = Store(str(slurm.folder / "together"))
    jobs = [start(slurm, function, Path(store.url)) for function in ("study", "extended")]
    for job in jobs:
        assert job.wait_for_end() == "COMPLETED", job.all_logs()
        assert "MLflow is unreachable" not in job.log
        assert "MLflow refused" not in job.log
        assert unreadable(job.log) == []
    plans = [make_plan(study_of(function), store) for function in ("study", "extended")]
    assert all(plan.is_complete for plan in plans)
    artifacts = {Address(a.kind, name) for plan in plans for name, a in plan.artifacts.items()}
    assert made(store) == {place: 1 for place in artifacts if place.kind in RECORDED}
    assert any("that another sweep is making" in job.log for job in jobs), "the sweeps did not overlap"
    assert store.names("claims/owners") == []


def test_a_job_whose_rival_is_killed_makes_the_rest(slurm: Slurm) -> None:
    store = Store(str(slurm.folder / "rivals"))
    jobs = [start(slurm, function, Path(store.url)) for function in ("study", "extended")]

    def training() -> list[Job]:
        return [job for job in jobs if "\nteachers: " in job.log]

    wait_until(training, 600, lambda: "\n".join(job.all_logs() for job in jobs))
    victim = training()[0]
    survivor = next(job for job in jobs if job is not victim)
    (host,) = (host for host in slurm.hosts if host.name == victim.field("NodeList"))
    for process in host.commands("jobs/sweep.py"):
        os.kill(process, signal.SIGKILL)
    assert victim.wait_for_end() == "FAILED", victim.all_logs()
    assert survivor.wait_for_end() == "COMPLETED", survivor.all_logs()
    function = "extended" if survivor is jobs[1] else "study"
    assert make_plan(study_of(function), store).is_complete
