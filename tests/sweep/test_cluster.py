"""A sweep on three Ray nodes that lack this package, with its storage on S3.

The nodes are Ray's own cluster utility's, on this machine; the S3 server is moto's. Everything that makes
artifacts is real, and each artifact says which node made it.
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
class Done:
    code: int
    output: str


@dataclass(frozen=True)
class World:
    """Three nodes, an S3 server, and a sweep that ran on them."""

    folder: Path
    cluster: dict[str, str]
    storage: str
    first: Done

    def sweep(self, storage: str, *arguments: str, joins: bool = True, cwd: Path | None = None) -> Done:
        """The small study from a process beside the cluster, or without it."""
        environment = {
            **os.environ,
            **(self.cluster if joins else {"UNDERTOW_RAY_TMP": str(self.folder / "own")}),
            "PYTHONPATH": str(ROOT / "platform"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "UNDERTOW_CACHE": str(self.folder / "cache"),
            "UNDERTOW_NODE": "driver",
        }
        if not joins:
            environment.pop("RAY_ADDRESS", None)
        command = [sys.executable, str(ROOT / "jobs" / "sweep.py"), "--study", f"{STUDY}:study"]
        command += ["--storage", storage, *arguments]
        done = subprocess.run(
            command, cwd=cwd or self.folder, env=environment, capture_output=True, text=True
        )
        return Done(done.returncode, done.stdout + done.stderr)

    def keys(self, storage: str = "") -> dict[str, set[str]]:
        store = Store(storage or self.storage)
        return {kind: store.keys(kind) for kind in KINDS}

    def written(self, server: dict[str, str]) -> dict[str, int]:
        """How often each manifest was written."""
        versions = s3.versions(server, BUCKET, "undertow/artifacts/")
        return {name: count for name, count in versions.items() if name.endswith("/manifest.json")}

    def effects(self, storage: str = "") -> list[dict[str, str]]:
        """The rows of the newest table of effects."""
        store = Store(storage or self.storage)
        newest = max(store.names("sweeps/small"))
        return list(csv.DictReader(store.read_text(f"sweeps/small/{newest}/effects.csv").splitlines()))


@pytest.fixture(scope="module")
def environment(s3_server: dict[str, str]) -> Iterator[dict[str, str]]:
    """The server, known to this process, to what it starts and to the nodes."""
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
        empty = World(folder, cluster, f"s3://{BUCKET}/undertow", Done(0, ""))
        yield World(folder, cluster, empty.storage, empty.sweep(empty.storage))


def test_every_node_works_and_every_artifact_is_made_once(world: World, environment: dict[str, str]) -> None:
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
    # The nodes generate completions in shards; the sweep's own process joins those.
    assert {node for (kind, _), node in made_on.items() if kind == "completions"} == {"driver"}
    assert set(world.written(environment).values()) == {1}


def test_the_cluster_makes_what_one_machine_makes(world: World) -> None:
    local = str(world.folder / "storage")
    alone = world.sweep(local, joins=False)
    assert alone.code == 0, alone.output
    assert world.keys(local) == world.keys()
    assert world.effects(local) == world.effects()


def test_a_rerun_makes_nothing_anew(world: World, environment: dict[str, str]) -> None:
    before, table = world.written(environment), world.effects()
    again = world.sweep(world.storage)
    assert again.code == 0, again.output
    assert world.written(environment) == before
    assert world.effects() == table


def test_a_worker_group_over_two_nodes_makes_the_student_that_one_worker_made(world: World) -> None:
    table, keys = world.effects(), world.keys()
    store = Store(world.storage)
    gone = min(keys["student"])
    others = {key: store.manifest(Address("student", key)).created for key in keys["student"] - {gone}}
    fs, root = fsspec.core.url_to_fs(f"{world.storage}/artifacts/student/{gone}", use_listings_cache=False)
    fs.rm(root, recursive=True)
    again = world.sweep(world.storage, "--workers", "2")  # each node has one CPU
    assert again.code == 0, again.output
    assert world.keys() == keys
    assert {key: store.manifest(Address("student", key)).created for key in others} == others
    assert world.effects() == table


def test_a_relative_folder_is_refused_before_anything_is_done(world: World) -> None:
    before = sorted(path.name for path in world.folder.iterdir())
    refused = world.sweep("elsewhere")
    assert refused.code == 2
    assert "--storage elsewhere: a relative folder, which ends with the job" in refused.output
    assert "s3://BUCKET/FOLDER" in refused.output
    assert sorted(path.name for path in world.folder.iterdir()) == before


def test_a_node_that_does_not_see_the_storage_is_named(environment: dict[str, str], python: Path) -> None:
    folder = Path(f"/tmp/undertow-blind-{os.getpid()}")
    folder.mkdir()
    blind = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    try:
        with ray_nodes(python, folder, 2, bare_environment(python, **environment), blind) as cluster:
            storage = f"s3://{s3.BUCKET}/blind"
            refused = World(folder, cluster, storage, Done(0, "")).sweep(storage)
        assert refused.code == 2, refused.output
        assert f"--storage {storage}: node " in refused.output
        assert "127.0.0.1:9" in refused.output
        assert "Traceback" not in refused.output
        assert Store(storage).names("") == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
