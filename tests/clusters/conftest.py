"""What the tests on clusters share. They take minutes, so a run must ask for them."""

import os
import subprocess
import sys

import pytest

from tests.chaos.checks import Made, made
from tests.clusters.slurm import ROOT, short_folder
from undertow.storage.manifest import Address


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "clusters" not in config.option.markexpr:
        for item in items:
            if item.get_closest_marker("clusters"):
                item.add_marker(pytest.mark.skip(reason="only with make test-clusters (-m clusters)"))


@pytest.fixture(scope="session")
def undisturbed() -> dict[Address, Made]:
    """The artifacts of a sweep of the small study on this machine alone, with one seed."""
    with short_folder("uu") as folder:
        environment = {name: os.environ[name] for name in ("PATH", "HOME")}
        environment |= {"PYTHONPATH": str(ROOT / "platform"), "UNDERTOW_RAY_TMP": str(folder / "ray")}
        command = [sys.executable, str(ROOT / "jobs" / "sweep.py"), "--seeds", "1"]
        command += ["--study", f"{ROOT / 'tests' / 'sweep' / 'small_study.py'}:study"]
        command += ["--storage", str(folder / "storage"), "--engines", "1", "--trainings", "1"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return made(folder / "storage")
