"""Object stores: concurrent writers, servers with their own error messages, and an unreachable server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from tests import s3
from tests.s3 import Refusal
from undertow.errors import ReadError, StorageError
from undertow.storage.manifest import MANIFEST
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.references import Reference
from undertow.training.checkpoint_files import checkpoint_files
from undertow.training.workers import join

ROOT = Path(__file__).parents[2]
SPEC = Reference("nano/gpt2-0", "revision", "template")
FOLDER = f"artifacts/reference/{key(SPEC)}"
CONFLICT = Refusal("409 Conflict", "ConditionalRequestConflict")
UNNAMED = Refusal("412 Precondition Failed", "PreconditionFailed")  # S3 also names the failed condition
EXPIRED = Refusal("403 Forbidden", "ExpiredToken")
LOST = Refusal("412 Precondition Failed", "PreconditionFailed", is_written=True)  # the answer to a retry
UNREACHABLE = """
from dataclasses import dataclass
from undertow.cli.entry import enter
from undertow.errors import UserError
from undertow.storage.manifest import Address
from undertow.study.references import Reference
from undertow.storage.store import Store

@dataclass(frozen=True)
class Arguments:
    "No options."

def main(arguments, console):
    store, spec = Store("s3://bucket/storage"), Reference("nano/gpt2-0", "revision", "template")
    calls = {
        "has": lambda: store.has(spec), "keys": lambda: store.keys("reference"),
        "manifest": lambda: store.manifest(spec), "damage": lambda: store.damage(spec),
        "parts": lambda: store.parts(spec), "drop_parts": lambda: store.drop_parts(spec),
        "names": lambda: store.names("sweeps"), "read_text": lambda: store.read_text("timings.json"),
        "write_bytes": lambda: store.write_bytes("timings.json", b""),
        "create": lambda: store.create("claims/x", b""), "remove": lambda: store.remove("claims/x"),
    }
    for name, call in calls.items():
        try:
            print(name, call())
        except UserError as error:
            print(type(error).__name__, name)
    return len(store.names("sweeps"))

enter(main, Arguments)
"""


@pytest.fixture(scope="module")
def s3_server() -> Iterator[dict[str, str]]:
    """A server in this process, which the tests can tell to refuse writes."""
    file_systems = fsspec.get_filesystem_class("s3")
    file_systems.clear_instance_cache()  # cached instances keep the address of the session's server
    with s3.serving_refusals() as environment:
        s3.make_bucket(environment)
        yield environment
    file_systems.clear_instance_cache()


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("UNDERTOW_CACHE", str(tmp_path / "cache"))
    s3.refusals.clear()
    yield Store(
        f"memory://{tmp_path.name}" if request.param == "memory" else request.getfixturevalue("s3_url")
    )
    fsspec.filesystem("memory").store.clear()


def commit(store: Store, text: str) -> None:
    with store.new(SPEC, {}) as folder:
        (folder / "model.bin").write_text(f"{text}'s model")
        (folder / "sub").mkdir()
        (folder / "sub" / "more.txt").write_text(f"{text}'s more")


@pytest.mark.parametrize("after", [1, 2])
def test_of_two_concurrent_writers_the_first_to_finish_wins(
    store: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The second writer commits after the first has uploaded `after` of its two files."""
    fs, _ = fsspec.core.url_to_fs(store.url, use_listings_cache=False)
    put, puts = fs.put_file, []

    def put_file(source: str, target: str, **options: Any) -> None:
        put(source, target, **options)
        puts.append(target)
        if len(puts) == after:
            commit(Store(store.url), "the other")

    monkeypatch.setattr(fs, "put_file", put_file)
    commit(store, "the one")
    assert len(puts) == 4
    assert store.damage(SPEC) == []
    assert (store.fetch(SPEC) / "model.bin").read_text() == "the other's model"
    assert store.names(FOLDER) == sorted([store.manifest(SPEC).writer, MANIFEST])


def test_a_storage_may_be_copied_from_disk_to_an_object_store_and_back(store: Store, tmp_path: Path) -> None:
    disk, back = Store(str(tmp_path / "disk")), Store(str(tmp_path / "back"))
    commit(disk, "disk")
    fs, root = fsspec.core.url_to_fs(store.url, use_listings_cache=False)
    fs.put(f"{disk.root}/", f"{root}/", recursive=True)
    assert store.damage(SPEC) == []
    assert (store.fetch(SPEC) / "sub" / "more.txt").read_text() == "disk's more"
    aside = store.set_aside(SPEC)
    assert store.read_text(f"{aside}/sub/more.txt") == "disk's more"
    assert not store.has(SPEC)
    commit(store, "object store")
    fs.get(f"{root}/", back.root, recursive=True)
    assert back.damage(SPEC) == []
    assert (back.fetch(SPEC) / "sub" / "more.txt").read_text() == "object store's more"
    assert Path(back.place(back.manifest(SPEC)), "model.bin").exists()


def test_a_misspelled_bucket_is_an_error_and_is_not_created(s3_url: str) -> None:
    url = s3_url.replace("undertow", "undertwo")
    with pytest.raises(StorageError, match=r"--storage s3://undertwo/.*: cannot be written .*another place"):
        Store(url).prepare()
    with pytest.raises(StorageError, match="--storage s3://undertwo/"):
        Store(url).write_bytes("file", b"content")
    assert not fsspec.core.url_to_fs(url, use_listings_cache=False)[0].exists("s3://undertwo")


def test_the_keys_of_a_kind_take_one_listing(s3_url: str) -> None:
    store = Store(s3_url)
    specs = [Reference(f"nano/gpt2-{number}", "revision", "template") for number in range(3)]
    for spec in specs:
        with store.new(spec, {}) as folder:
            (folder / "data").mkdir()
            (folder / "data" / MANIFEST).write_text("a file of this name that is no manifest")
    s3.queries.clear()
    assert store.keys(SPEC.kind) == set(map(key, specs))
    assert sum("list-type" in query for query in s3.queries) == 1


@pytest.mark.parametrize("refusal", [CONFLICT, UNNAMED])
def test_an_existing_file_is_recognised_whatever_the_server_answers(s3_url: str, refusal: Refusal) -> None:
    store = Store(s3_url)
    assert store.create("claims/x", b"first")
    s3.refusals[:] = [refusal]
    assert not store.create("claims/x", b"second")
    assert s3.refusals == []
    assert store.read_text("claims/x") == "first"


def test_a_conflict_over_a_missing_file_is_retried_once(s3_url: str) -> None:
    store = Store(s3_url)
    s3.refusals[:] = [CONFLICT]
    assert store.create("claims/x", b"first")
    s3.refusals[:] = [CONFLICT, CONFLICT]
    with pytest.raises(StorageError, match="cannot be written"):
        store.create("claims/y", b"first")


@pytest.mark.parametrize("refusal", [CONFLICT, LOST])
def test_an_artifact_is_committed_whatever_the_server_answers(s3_url: str, refusal: Refusal) -> None:
    store = Store(s3_url)
    s3.refusals[:] = [refusal]
    commit(store, "the one")
    assert s3.refusals == []
    assert store.damage(SPEC) == []


def test_what_a_killed_writer_has_uploaded_is_removed_by_the_next_commit(store: Store) -> None:
    for name in ("model.bin", "sub/more.txt"):
        store.write_bytes(f"{FOLDER}/killed/{name}", b"uploaded before the manifest")
    commit(store, "the one")
    assert store.names(FOLDER) == sorted([store.manifest(SPEC).writer, MANIFEST])
    assert store.damage(SPEC) == []


def test_a_storage_that_cannot_be_listed_now_is_not_taken_for_an_empty_one(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a training would start again, and remove its checkpoint with the next one."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    join("cpu", torch.get_num_threads())
    commit(Store(s3_url), "the one")
    checkpoints = checkpoint_files(Store(s3_url).scratch("checkpoints/key"), 0)
    (checkpoints.empty_folder() / "state").write_text("of epoch 9")
    checkpoints.put(9, "reports")
    s3.refused_listings[:] = [EXPIRED]
    with pytest.raises(PermissionError, match="403 Forbidden"):
        checkpoints.epochs()
    s3.refused_listings[:] = [EXPIRED]
    with pytest.raises(ReadError, match=r"cannot be read .*403 Forbidden"):
        Store(s3_url).keys(SPEC.kind)
    assert s3.refused_listings == []
    assert checkpoints.epochs() == [9]


TOO_SMALL_A_CACHE = """
import resource
from tests.storage.test_object_store import SPEC
from undertow.errors import ReadError
from undertow.storage.store import Store

store = Store("memory://storage")
with store.new(SPEC, {}) as folder:
    (folder / "weights").write_bytes(b"x" * 2**20)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
try:
    store.fetch(SPEC)
except ReadError as error:
    print(error)
"""


def test_a_full_cache_is_not_reported_as_an_error_of_the_storage(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = subprocess.run(
        [sys.executable, "-c", TOO_SMALL_A_CACHE],
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}",
            "UNDERTOW_CACHE": str(cache),
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(f"{cache}: the cache of "), done.stderr
    assert "cannot be written (File too large)" in done.stdout
    assert "UNDERTOW_CACHE" in done.stdout
    assert not any(path.is_file() for path in cache.rglob("*"))


def test_a_copy_whose_manifest_is_damaged_is_fetched_again(store: Store) -> None:
    commit(store, "the one")
    copy = store.fetch(SPEC)
    os.truncate(copy / MANIFEST, 0)  # the machine lost its power
    assert (Store(store.url).fetch(SPEC) / "model.bin").read_text() == "the one's model"


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [
        ({"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}, "Could not connect to the endpoint"),
        ({}, "Unable to locate credentials"),
    ],
)
def test_an_unreachable_store_is_reported_and_not_taken_for_mlflow(
    credentials: dict[str, str], reason: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNREACHABLE],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "PYTHONPATH": str(ROOT / "platform"),
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
            "AWS_CONFIG_FILE": str(tmp_path / "none"),
            "AWS_MAX_ATTEMPTS": "1",
            **credentials,
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: --storage s3://bucket/storage: cannot be read ({reason}")
    reads, writes = ("has", "keys", "manifest", "damage", "parts", "names", "read_text"), ("write_bytes",)
    assert {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()} == {
        **dict.fromkeys(reads, "ReadError"),
        **dict.fromkeys((*writes, "drop_parts", "create", "remove"), "StorageError"),
    }
