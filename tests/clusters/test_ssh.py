"""A sweep on two machines over SSH, with the commands of docs/cluster.md and platform/ssh-cluster.yaml."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.clusters.hosts import skip_without, wait_until
from tests.clusters.slurm import short_folder
from tests.clusters.ssh import COMMANDS, ROOT, STUDY_FILE, Laptop, ssh_machines
from undertow.cli.studies import load
from undertow.storage.manifest import Address
from undertow.storage.store import Store
from undertow.sweep.plans import make_plan

EXAMPLE = "--study owls --storage /shared/undertow"

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def laptop() -> Iterator[Laptop]:
    skip_without(*COMMANDS)
    with short_folder("ussh") as folder, ssh_machines(folder) as laptop:
        yield laptop


def documented() -> list[str]:
    """The commands under "Machines over SSH", one line per command."""
    _, _, rest = (ROOT / "docs" / "cluster.md").read_text().partition("\n## Machines over SSH\n")
    section, _, _ = rest.partition("\n## ")
    block = "\n".join(re.findall(r"^    (.+)$", section, re.MULTILINE))
    return block.replace("\\\n", "").splitlines()


def test_the_documented_commands_run_a_sweep_on_both_machines_and_stop_ray(laptop: Laptop) -> None:
    token, up, dashboard, submit, down = documented()
    storage = laptop.folder / "storage"

    assert laptop.run(token).returncode == 0
    started = laptop.run(up.replace("ray up", "ray up --yes"), seconds=600)
    assert started.returncode == 0, f"{started.stdout}{started.stderr}{laptop.logs()}"
    assert "[setup]" not in started.stdout, "the environment was complete"

    # Forwards the port until the hosts end.
    forwarding = laptop.start(dashboard, laptop.folder / "dashboard.log")
    wait_until(
        lambda: laptop.run(": </dev/tcp/127.0.0.1/8265").returncode == 0 or forwarding.poll() is not None,
        120,
        laptop.logs,
    )
    assert forwarding.poll() is None, laptop.logs()

    assert EXAMPLE in submit
    study = f"--study {STUDY_FILE}:study --seeds 1 --storage {storage}"
    job = laptop.run(submit.replace(EXAMPLE, study), seconds=1500)
    assert job.returncode == 0, f"{job.stdout}{job.stderr}{laptop.logs()}"
    assert "Report: " in job.stdout
    assert "Ray's dashboard: ssh -L 8265:127.0.0.1:8265 root@10.77.0.1, then" in job.stdout
    store = Store(str(storage))
    plan = make_plan(
        replace(load(f"{ROOT / STUDY_FILE}:study", ROOT / "jobs" / "studies"), seeds=(0,)), store
    )
    assert plan.is_complete
    made_on = {store.manifest(Address(a.kind, k)).node for k, a in plan.artifacts.items()}
    assert made_on == {"h1", "h2"}
    assert store.names("claims/owners") == []

    stopped = laptop.run(down.replace("ray down", "ray down --yes"), seconds=300)
    assert stopped.returncode == 0, f"{stopped.stdout}{stopped.stderr}"
    for host in laptop.hosts:
        # `ray down` stops the head. The others stop when they have not reached it for a minute.
        host.wait_without("raylet", 180)
