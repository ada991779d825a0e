"""platform/slurm.sbatch on a real Slurm, with stand-ins for Ray and the sweep that take no time.

The stand-in for `ray start` runs until it is killed, but fails once if there is a file `late`; that of the
sweep runs until SIGTERM or a file `finish`.
"""

from collections.abc import Iterator

import pytest

from tests.clusters.hosts import skip_without
from tests.clusters.slurm import COMMANDS, Slurm, running_slurm, short_folder

RAY = """#!/bin/bash
case "$*" in *--head*)
  [ ! -e late ] || { rm late; exit 1; }
  echo "Ray runtime started." ;;
esac
sleep 1000 &
exec sleep 1000
"""
SWEEP = """
import os, signal, sys, time

def stop(*_):
    print("stopping after SIGTERM")
    time.sleep(2)
    sys.exit(143)

signal.signal(signal.SIGTERM, stop)
names = ("RAY_ADDRESS", "UNDERTOW_NODES", "RAY_AUTH_MODE")
print("sweep", *sys.argv[1:], *(os.environ[name] for name in names), len(os.environ["RAY_AUTH_TOKEN"]))
while not os.path.exists("finish"):
    time.sleep(0.2)
"""

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    skip_without(*COMMANDS)
    with short_folder("us") as folder, running_slurm(folder) as slurm:
        for name in ("jobs", ".venv"):
            (slurm.clone / name).unlink()
        ray = slurm.clone / ".venv" / "bin" / "ray"
        for place, text in ((slurm.clone / "jobs" / "sweep.py", SWEEP), (ray, RAY)):
            place.parent.mkdir(parents=True)
            place.write_text(text)
        ray.chmod(0o755)
        yield slurm


def leftovers(slurm: Slurm) -> list[str]:
    """The processes of Ray's stand-in on both hosts, and the temporary folders on the first one."""
    found = [line for host in slurm.hosts for line in host.processes("sleep 1000")]
    listed = slurm.hosts[0].run("ls", str(slurm.folder / "local"), environment=slurm.environment)
    return found + listed.stdout.split()


def test_a_job_at_its_time_limit_is_requeued_until_the_sweep_is_finished(slurm: Slurm) -> None:
    limit = ("--nodes=2", "--time=2", "--signal=B:USR1@60")
    job = slurm.submit(*limit, "platform/slurm.sbatch", "--study", "mine", "--storage", "/shared")
    job.wait_for("sweep --study mine --storage /shared 10.77.0.1:", 60)
    assert " 2 token 64\n" in job.log
    job.wait_for("the time limit is near: the job is requeued and continues", 180)
    job.wait_for("requeued 1 times", 60)
    (slurm.clone / "finish").touch()
    try:
        assert job.wait_for_end(120) == "COMPLETED", job.all_logs()
    finally:
        (slurm.clone / "finish").unlink()
    assert job.field("Restarts") == "1"
    assert job.log.count("stopping after SIGTERM") == 1
    assert leftovers(slurm) == []
    assert list(slurm.clone.glob("ray-*.log")) == [], "Ray's logs are kept after errors only"


def test_scancel_lets_the_sweep_stop_and_does_not_requeue(slurm: Slurm) -> None:
    job = slurm.submit("--nodes=2", "platform/slurm.sbatch", "--study", "mine")
    job.wait_for("sweep --study mine", 60)
    slurm.run("scancel", job.number)
    job.wait_for("stopping after SIGTERM", 60)
    assert job.wait_for_end(60) == "CANCELLED"
    for host in slurm.hosts:
        host.wait_without("sleep 1000", 60)
    assert leftovers(slurm) == []


def test_a_head_that_ray_does_not_start_in_time_is_started_again(slurm: Slurm) -> None:
    for name in ("late", "finish"):
        (slurm.clone / name).touch()
    job = slurm.submit("--nodes=1", "platform/slurm.sbatch", "--study", "mine")
    try:
        assert job.wait_for_end(120) == "COMPLETED", job.all_logs()
    finally:
        (slurm.clone / "finish").unlink()
    assert not (slurm.clone / "late").exists()
    assert leftovers(slurm) == []
