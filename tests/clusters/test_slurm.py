"""A sweep on a Slurm cluster of two nodes: cancelled, stopped near its time limit, requeued to its end."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clusters.hosts import skip_without, wait_until
from tests.clusters.logs import unreadable
from tests.clusters.slurm import COMMANDS, ROOT, Slurm, running_slurm, short_folder
from undertow.cli.studies import load
from undertow.results import events
from undertow.storage.manifest import Address
from undertow.storage.store import Store
from undertow.sweep.plans import make_plan

STUDY = f"{ROOT / 'tests' / 'sweep' / 'small_study.py'}:study"
LOGGED = ("reference", "teacher", "dataset", "student")  # kinds with an event for each artifact made
SCRIPT = "platform/slurm.sbatch"

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    skip_without(*COMMANDS)
    with short_folder("us") as folder, running_slurm(folder) as slurm:
        yield slurm


@pytest.fixture(scope="module")
def storage(slurm: Slurm) -> Path:
    """A storage that the tests of this file share: each continues what it finds."""
    return slurm.folder / "storage"


def arguments(storage: Path) -> tuple[str, ...]:
    return (SCRIPT, "--study", STUDY, "--seeds", "1", "--storage", str(storage))


def test_a_cancelled_sweep_stops_in_order_and_leaves_no_process(slurm: Slurm, storage: Path) -> None:
    job = slurm.submit("--nodes=2", *arguments(storage))
    job.wait_for("references: done")
    slurm.run("scancel", job.number)
    assert job.wait_for_end() == "CANCELLED", job.all_logs()
    wait_until(lambda: "stopped; finished artifacts are kept" in job.log, 60, lambda: job.log)
    assert "stopping after SIGTERM" in job.log
    assert "Traceback" not in job.log
    assert Store(str(storage)).names("claims/owners") == []
    for host in slurm.hosts:
        host.wait_without("raylet")


def test_a_sweep_at_its_time_limit_twice_continues_on_both_nodes_one_of_them_drained(
    slurm: Slurm, storage: Path
) -> None:
    job = slurm.submit("--nodes=2", "--time=60", *arguments(storage))
    for restarts, wave in enumerate(("teachers", "filters"), start=1):
        job.wait_for(f"{wave}: done")
        # What Slurm does some minutes before the time limit (--signal=B:USR1@240).
        slurm.run("scancel", "--batch", "--signal=USR1", job.number)
        job.wait_for(f"requeued {restarts} times")
        assert job.log.count("the time limit is near: the job is requeued and continues") == restarts
    # An administrator drains a node: Slurm starts no further job there, and the running one goes on.
    slurm.run("scontrol", "update", "NodeName=h2", "State=DRAIN", "Reason=maintenance")
    assert job.wait_for_end() == "COMPLETED", job.all_logs()
    slurm.run("scontrol", "update", "NodeName=h2", "State=RESUME")
    assert job.field("Restarts") == "2"
    assert job.log.count("stopping after SIGTERM") == 2
    assert "Report: " in job.log
    assert "Ray's dashboard: ssh -L 8265:10.77.0.1:" in job.log
    assert f"there make ui STORAGE={storage}, then http://127.0.0.1:5000" in job.log
    assert unreadable(job.log) == []
    store = Store(str(storage))
    plan = make_plan(replace(load(STUDY, ROOT / "jobs" / "studies"), seeds=(0,)), store)
    assert plan.is_complete
    made_on = {store.manifest(Address(a.kind, k)).node for k, a in plan.artifacts.items()}
    assert made_on == {"h1", "h2"}
    of_job = list(slurm.clone.glob(f"ray-{job.number}-*.log"))
    assert of_job == [], "Ray's logs are kept after errors only"


def test_two_jobs_at_once_make_each_shared_artifact_once(slurm: Slurm) -> None:
    """One with a seed, the other with this seed and another, each on one node."""
    storage = slurm.folder / "shared"
    jobs = [
        slurm.submit("--nodes=1", SCRIPT, "--study", STUDY, "--seeds", seeds, "--storage", str(storage))
        for seeds in ("1", "2")
    ]
    for job in jobs:
        assert job.wait_for_end() == "COMPLETED", job.all_logs()
        assert unreadable(job.log) == []
    assert {job.field("BatchHost") for job in jobs} == {"h1", "h2"}
    store = Store(str(storage))
    plan = make_plan(load(STUDY, ROOT / "jobs" / "studies"), store)
    assert plan.is_complete
    made = Counter(
        (event["kind"], event["key"])
        for sweep in store.names("sweeps/small")
        for event in events.read(store, "small", sweep)
        if event["event"] == "made"
    )
    # Engines' work has no such event: completions and evaluations are complete, as the plan is.
    expected = {(artifact.kind, key) for key, artifact in plan.artifacts.items() if artifact.kind in LOGGED}
    assert made == dict.fromkeys(expected, 1)


def test_the_error_of_a_wrong_argument_ends_the_job(slurm: Slurm, storage: Path) -> None:
    job = slurm.submit("--nodes=1", *arguments(storage), "--workers", "0")
    assert job.wait_for_end() == "FAILED", job.all_logs()
    assert job.field("ExitCode") == "2:0"
    assert "error: --workers 0: must be at least 1" in job.log
