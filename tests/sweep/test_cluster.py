"""Tests of a sweep on three Ray nodes without this package, with its storage on S3.

The nodes run on this machine (Ray's cluster utility), and the S3 server is moto. Everything that makes
artifacts is real, and each manifest names the node that made the artifact.
"""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest

from tests import s3
from tests.sweep.bare import bare_environment, bare_python
from tests.sweep.nodes import ray_nodes
from undertow.storage.manifest import Address
from undertow.storage.store import Store

ROOT = Path(__file__).parent.parent.parent
STUDY = Path(__file__).parent / "small_study.py"
BUCKET = "three-nodes"
KINDS = ("reference", "teacher", "completions", "dataset", "student", "evaluation")

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Completed:
    code: int
    output: str


@dataclass(frozen=True)
class World:
    """Three nodes, an S3 server, and a sweep that ran on them."""

    folder: Path
    cluster: dict[str, str]
    storage: str
    first: Completed

    def sweep(self, storage: str, *arguments: str) -> Completed:
        """Runs the small study as a job of the cluster."""
        environment = {
            **os.environ,
            **self.cluster,
            "PYTHONPATH": str(ROOT / "platform"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "UNDERTOW_CACHE": str(self.folder / "cache"),
            "UNDERTOW_NODE": "driver",
        }
        command = [sys.executable, str(ROOT / "jobs" / "sweep.py"), "--study", f"{STUDY}:study"]
        command += ["--storage", storage, *arguments]
        process = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        return Completed(process.returncode, process.stdout + process.stderr)

    def keys(self, storage: str = "") -> dict[str, set[str]]:
        store = Store(storage or self.storage)
        return {kind: store.keys(kind) for kind in KINDS}

    def manifest_writes(self, server: dict[str, str]) -> dict[str, int]:
        """How often each manifest was written, by its name."""
        versions = s3.versions(server, BUCKET, "undertow/artifacts/")
        return {name: count for name, count in versions.items() if name.endswith("/manifest.json")}

    def effects(self, storage: str = "") -> list[dict[str, str]]:
        """The rows of the newest table of effects."""
        store = Store(storage or self.storage)
        newest = max(store.names("sweeps/small"))
        return list(csv.DictReader(store.read_text(f"sweeps/small/{newest}/effects.csv").splitlines()))


@pytest.fixture(scope="module")
def environment(s3_server: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment variables of the S3 server, also set in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.items():
            patch.setenv(name, value)
        yield s3_server


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    folder = Path(f"/tmp/undertow-nodes-{os.getpid()}")  # Ray's sockets need a short path
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def python(folder: Path) -> Path:
    return bare_python(folder / "bare")


@pytest.fixture(scope="module")
def world(environment: dict[str, str], folder: Path, python: Path) -> Iterator[World]:
    s3.make_versioned_bucket(environment, BUCKET)
    with ray_nodes(python, folder, 3, bare_environment(python, **environment)) as cluster:
        empty = World(folder, cluster, f"s3://{BUCKET}/undertow", Completed(0, ""))
        yield World(folder, cluster, empty.storage, empty.sweep(empty.storage))


def test_all_nodes_make_artifacts_and_each_artifact_is_made_once(
    world: World, environment: dict[str, str]
) -> None:
    assert world.first.code == 0, world.first.output
    store, made_on = Store(world.storage), {}
    for kind, keys in world.keys().items():
        assert keys, kind
        for key in keys:
            made_on[kind, key] = store.manifest(Address(kind, key)).node
    assert {node for (kind, _), node in made_on.items() if kind != "completions"} == {
        "node-0",
        "node-1",
        "node-2",
    }
    # Engines on the nodes generate shards of completions; the driver joins them.
    assert {node for (kind, _), node in made_on.items() if kind == "completions"} == {"driver"}
    assert set(world.manifest_writes(environment).values()) == {1}


def test_a_rerun_makes_nothing_again(world: World, environment: dict[str, str]) -> None:
    before, table = world.manifest_writes(environment), world.effects()
    again = world.sweep(world.storage)
    assert again.code == 0, again.output
    assert world.manifest_writes(environment) == before
    assert world.effects() == table


def test_a_worker_group_on_two_nodes_trains_the_same_student_as_one_worker(world: World) -> None:
    table, keys = world.effects(), world.keys()
    store = Store(world.storage)
    deleted = min(keys["student"])
    others = {key: store.manifest(Address("student", key)).created for key in keys["student"] - {deleted}}
    fs, root = fsspec.core.url_to_fs(f"{world.storage}/artifacts/student/{deleted}", use_listings_cache=False)
    fs.rm(root, recursive=True)
    again = world.sweep(world.storage, "--workers", "2")  # each node has one CPU
    assert again.code == 0, again.output
    assert world.keys() == keys
    assert {key: store.manifest(Address("student", key)).created for key in others} == others
    assert world.effects() == table


def test_a_relative_storage_is_rejected_before_anything_is_written(world: World) -> None:
    before = sorted(path.name for path in world.folder.iterdir())
    rejected = world.sweep("elsewhere")
    assert rejected.code == 2
    assert "--storage elsewhere: a relative folder is deleted with the job" in rejected.output
    assert "s3://BUCKET/FOLDER" in rejected.output
    assert sorted(path.name for path in world.folder.iterdir()) == before


def test_the_error_names_a_node_that_cannot_read_the_storage(
    environment: dict[str, str], python: Path
) -> None:
    folder = Path(f"/tmp/undertow-blind-{os.getpid()}")
    folder.mkdir()
    blind = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    try:
        with ray_nodes(python, folder, 2, bare_environment(python, **environment), blind) as cluster:
            storage = f"s3://{s3.BUCKET}/blind"
            rejected = World(folder, cluster, storage, Completed(0, "")).sweep(storage)
        assert rejected.code == 2, rejected.output
        assert f"--storage {storage}: node " in rejected.output
        assert "127.0.0.1:9" in rejected.output
        assert "Traceback" not in rejected.output
        assert Store(storage).names("") == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
