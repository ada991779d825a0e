"""The store: complete artifacts or none, on a local disk and on object stores."""

import json
import os
import pickle
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import fsspec
import numpy as np
import pytest
from botocore.exceptions import NoCredentialsError  # type: ignore[import-untyped]
from pyarrow.fs import LocalFileSystem
from safetensors.numpy import save_file

from undertow.errors import ReadError, StorageError
from undertow.storage.manifest import MANIFEST, Address, Manifest, git_id
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.references import Reference

SPEC = Reference("nano/gpt2-0", "revision", "template")


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("UNDERTOW_CACHE", str(tmp_path / "cache"))
    if request.param == "s3":
        yield Store(request.getfixturevalue("s3_url"))
        return
    name = uuid.uuid4().hex
    yield Store(str(tmp_path / "storage") if request.param == "local" else f"memory://{name}")
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()


def commit(store: Store, spec: Reference = SPEC, text: str = "weights") -> None:
    with store.new(spec, {"rows": 3}) as folder:
        (folder / "sub").mkdir()
        (folder / "model.bin").write_text(text)
        (folder / "sub" / "more.txt").write_text("more")


def test_free_space_is_known_for_local_storages_only(store: Store, tmp_path: Path) -> None:
    free = store.free_bytes()
    assert (free is not None and free > 0) is store.is_local
    assert not (tmp_path / "storage").exists()


def test_a_committed_artifact_is_found_by_its_spec_alone(store: Store) -> None:
    assert not store.has(SPEC)
    assert store.keys("reference") == set()
    commit(store)
    assert store.has(SPEC)
    assert store.keys("reference") == {key(SPEC)}
    folder = store.fetch(SPEC)
    assert (folder / "model.bin").read_text() == "weights"
    assert (folder / "sub" / "more.txt").read_text() == "more"


@pytest.mark.parametrize(
    ("umask", "of_files", "of_folders"),
    [(0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o027, 0o640, 0o750), (0o077, 0o600, 0o700)],
    ids=oct,
)
def test_files_and_folders_have_the_permissions_of_the_umask(
    store: Store, umask: int, of_files: int, of_folders: int
) -> None:
    """safetensors creates its files for their owner alone, and tempfile its folders."""
    before = os.umask(umask)
    try:
        with store.new(SPEC, {}) as folder:
            (folder / "sub").mkdir(0o700)
            save_file({"a": np.zeros(2)}, folder / "sub" / "model.safetensors")
        found = store.fetch(SPEC)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (found, *found.rglob("*"))}
    assert len(modes) == 4
    assert modes == {path: of_folders if path.is_dir() else of_files for path in modes}


def test_the_manifest_names_spec_files_facts_and_versions(store: Store) -> None:
    commit(store)
    manifest = store.manifest(SPEC)
    assert (manifest.kind, manifest.key) == ("reference", key(SPEC))
    assert manifest.spec["name"] == "nano/gpt2-0"
    assert set(manifest.files) == {"model.bin", "sub/more.txt"}
    assert manifest.facts == {"rows": 3}
    assert {"python", "source"} <= manifest.versions.keys()


def test_the_id_of_the_source_is_that_of_git(tmp_path: Path) -> None:
    """On a cluster, the package has no history from which Git could tell it."""
    package = tmp_path / "package"
    for name in ("a/b.py", "a.py", "a0.json", "Z.md", "a/ü.txt"):  # Git sorts "a" as "a/"
        (file := package / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode() * 100)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "--quiet")
    git("add", "package")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.pyc").touch()
    assert git_id(package) == git("rev-parse", f"{git('write-tree')}:package")


def test_an_exception_in_the_block_commits_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.new(SPEC, {}) as folder:
        (folder / "model.bin").write_text("half")
        raise RuntimeError("killed")
    assert not store.has(SPEC)
    assert store.keys("reference") == set()


def test_files_without_a_manifest_are_not_an_artifact_and_do_not_block_one(store: Store) -> None:
    store.write_bytes(f"artifacts/reference/{key(SPEC)}/model.bin", b"left by a killed program")
    assert not store.has(SPEC)
    assert store.keys("reference") == set()
    commit(store)
    assert (store.fetch(SPEC) / "model.bin").read_text() == "weights"


def test_a_second_commit_of_the_same_spec_leaves_a_complete_artifact(store: Store) -> None:
    commit(store)
    commit(store)
    store.fetch(SPEC)
    assert store.keys("reference") == {key(SPEC)}


def test_concurrent_writers_leave_one_complete_artifact(store: Store) -> None:
    threads = [threading.Thread(target=commit, args=(store, SPEC, f"writer {i}")) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folder = Store(store.url).fetch(SPEC)
    assert (folder / "model.bin").read_text().startswith("writer ")
    assert store.names("partial/aside") == []
    if store.url.startswith("s3"):  # the files of all writers but one were removed
        assert len(store.names(f"artifacts/reference/{key(SPEC)}")) == 2


def test_an_artifact_of_another_process_is_visible_immediately(store: Store) -> None:
    assert store.keys("reference") == set()
    other = (
        "import sys, pathlib; from undertow.storage.store import Store\n"
        "from undertow.study.references import Reference\n"
        "store, spec = Store(sys.argv[1]), Reference('nano/gpt2-0', 'revision', 'template')\n"
        "with store.new(spec, {}) as folder: (folder / 'model.bin').write_text('theirs')"
    )
    if store.url.startswith("memory"):
        commit(store, text="theirs")
    else:
        subprocess.run([sys.executable, "-c", other, store.url], check=True)
    assert store.keys("reference") == {key(SPEC)}
    assert (store.fetch(SPEC) / "model.bin").read_text() == "theirs"


def test_an_artifact_that_was_deleted_and_made_again_is_not_read_from_the_cache(store: Store) -> None:
    commit(store, text="first")
    assert (store.fetch(SPEC) / "model.bin").read_text() == "first"
    fs, root = fsspec.core.url_to_fs(store.url, use_listings_cache=False)
    fs.rm(f"{root}/artifacts", recursive=True)
    commit(store, text="second")
    assert (Store(store.url).fetch(SPEC) / "model.bin").read_text() == "second"


def test_a_second_writer_on_an_object_store_keeps_the_files_of_the_first(s3_url: str) -> None:
    store = Store(s3_url)
    commit(store, text="first")
    commit(store, text="second")
    assert store.content(SPEC, "model.bin") == b"first"


def test_a_manifest_names_the_machine_that_made_the_artifact(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERTOW_NODE", "gpu-7")
    commit(store)
    assert store.manifest(SPEC).node == "gpu-7"


def test_ray_writes_to_the_store(store: Store) -> None:
    place = store.for_arrow("ray")
    filesystem = place.get("storage_filesystem", LocalFileSystem())
    filesystem.create_dir(place["storage_path"])
    with pickle.loads(pickle.dumps(filesystem)).open_output_stream(f"{place['storage_path']}/state") as file:
        file.write(b"state")
    assert store.read_bytes("partial/ray/state") == b"state"
    store.drop_scratch("ray")
    assert store.names("partial") == []


@pytest.mark.parametrize(("url", "remedy"), [("s3://b/c", 'pip install -e ".[aws]"'), ("gs://b/c", "gcsfs")])
def test_a_client_that_is_not_installed_is_named_with_its_remedy(url: str, remedy: str) -> None:
    program = (
        "import sys; sys.modules['s3fs'] = sys.modules['gcsfs'] = None\n"
        "from undertow.errors import StorageError; from undertow.storage.store import Store\n"
        "try: Store(sys.argv[1]).prepare()\n"
        "except StorageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True)
    assert done.stdout.startswith(f"--storage {url}: its client is not installed; "), done.stderr
    assert remedy in done.stdout


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_damaged_file_is_named_before_it_is_used(tmp_path: Path, damage: str) -> None:
    store = Store(str(tmp_path))
    commit(store)
    file = tmp_path / "artifacts" / "reference" / key(SPEC) / "model.bin"
    if damage == "flip":
        file.write_text("weightz")
    else:
        file.unlink()
    with pytest.raises(StorageError, match=r"model\.bin: .*--repair"):
        store.fetch(SPEC)


def test_a_check_keeps_no_copy_and_names_a_damaged_file(store: Store, tmp_path: Path) -> None:
    commit(store)
    store.check(SPEC)
    assert store.size(store.manifest(SPEC)) == len("weights") + len("more")
    assert not (tmp_path / "cache").exists()
    file = Path(store.place(store.manifest(SPEC)).removeprefix(store.url).lstrip("/"), "model.bin")
    store.write_bytes(str(file), b"weightz")
    store.check(SPEC)  # once per process
    with pytest.raises(StorageError, match=r"model\.bin: .*--repair"):
        Store(store.url).check(SPEC)


def test_a_missing_artifact_is_named_with_its_remedy(store: Store) -> None:
    with pytest.raises(StorageError, match="run the sweep"):
        store.fetch(SPEC)


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "", "a/../../b"])
def test_a_manifest_cannot_point_outside_its_folder(name: str) -> None:
    fields = {"kind": "reference", "key": "k", "files": {name: "0"}, "seconds": 0, "created": 0}
    empty: dict[str, object] = {part: {} for part in ("spec", "inputs", "versions", "facts")}
    with pytest.raises(StorageError, match="leaves the artifact's folder"):
        Manifest.from_json(json.dumps({**fields, **empty}), "here")


@pytest.mark.parametrize("address", [("student", "../../x"), ("../..", "1f"), ("student", ""), ("a/b", "1f")])
def test_no_address_points_outside_the_storage(store: Store, address: tuple[str, str]) -> None:
    for read in (store.has, store.fetch, store.manifest):
        with pytest.raises(StorageError, match="are not the kind and key of an artifact"):
            read(Address(*address))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "x"}', "\x00"])
def test_a_broken_manifest_is_named(text: str) -> None:
    with pytest.raises(StorageError, match="here: not a manifest"):
        Manifest.from_json(text, "here")


def test_a_manifest_with_a_changed_number_is_named(store: Store) -> None:
    commit(store)
    name = f"artifacts/reference/{key(SPEC)}/{MANIFEST}"
    store.write_bytes(name, store.read_text(name).replace('"rows": 3', '"rows": 4').encode())
    with pytest.raises(StorageError, match=r"its manifest was changed since it was written.*--repair"):
        store.manifest(SPEC)


def test_parts_are_kept_until_they_are_damaged_or_dropped(store: Store) -> None:
    assert store.parts(SPEC) == set()
    store.write_part(SPEC, "shard-00000.parquet", b"rows")
    assert store.parts(SPEC) == {"shard-00000.parquet"}
    assert store.read_part(SPEC, "shard-00000.parquet") == b"rows"
    (stored,) = store.names(f"partial/reference/{key(SPEC)}")
    store.write_bytes(f"partial/reference/{key(SPEC)}/{stored}", b"damaged")
    assert store.parts(SPEC) == set()
    with pytest.raises(StorageError, match=r"shard-00000\.parquet: missing or changed"):
        store.read_part(SPEC, "shard-00000.parquet")
    store.drop_parts(SPEC)
    assert store.names(f"partial/reference/{key(SPEC)}") == []
    assert store.parts(SPEC) == set()


def test_a_file_that_is_overwritten_is_never_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    store.write_bytes("sweeps/small/1/events.json", b"[1]")

    def killed(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        store.write_bytes("sweeps/small/1/events.json", b"[1, 2]")
    assert store.read_text("sweeps/small/1/events.json") == "[1]"
    assert store.names("sweeps/small/1") == ["events.json"]


@pytest.mark.parametrize("damage", ["changed", "missing", "unknown"])
def test_a_single_file_is_read_and_verified_without_the_others(tmp_path: Path, damage: str) -> None:
    store, spec = Store(str(tmp_path)), Reference("some/model", "revision", "none")
    with store.new(spec, {}) as folder:
        (folder / "history.json").write_text("[]")
        (folder / "weights").write_text("much")
    assert store.content(spec, "history.json") == b"[]"
    file = tmp_path / "artifacts" / "reference" / key(spec) / "history.json"
    if damage == "changed":
        file.write_text("[1]")
    elif damage == "missing":
        file.unlink()
    with pytest.raises(StorageError, match=damage if damage == "changed" else "missing"):
        store.content(spec, "history.json" if damage != "unknown" else "../manifest.json")


def test_a_store_can_be_pickled(store: Store) -> None:
    commit(store)
    assert pickle.loads(pickle.dumps(store)).has(SPEC)


@pytest.mark.parametrize("url", ["nosuchprotocol://bucket", "/dev/null/storage", "/proc/undertow"])
def test_storage_that_cannot_be_written_is_refused_by_name(url: str) -> None:
    with pytest.raises(StorageError, match="--storage"):
        Store(url).prepare()


def test_an_artifact_without_its_manifest_does_not_exist(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    commit(store)
    (tmp_path / "artifacts" / "reference" / key(SPEC) / MANIFEST).unlink()
    assert not store.has(SPEC)


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("file", "file is a file; name another place"),
        ("file/folder/storage", "file is a file; name another place"),
        ("folder", ""),
        ("folder/new/storage", ""),
        ("x" * 300, "too long; name another place"),
    ],
)
def test_a_plan_checks_that_its_storage_can_be_a_folder(place: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StorageError, match=problem) if problem else nullcontext():
        Store(str(tmp_path / place)).check_folder()
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unknown_kind_of_storage_is_reported_with_those_that_exist() -> None:
    with pytest.raises(
        StorageError, match=r"--storage s4://b/x: there is no storage 's4'; use a folder, s3://"
    ):
        Store("s4://b/x").names("artifacts")


@pytest.mark.parametrize(
    "failure", [PermissionError(13, "Permission denied"), TimeoutError("timed out"), NoCredentialsError()]
)
def test_a_failure_of_the_storage_is_reported_with_place_and_remedy(
    store: Store, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise failure

    commit(store)
    for method in ("cat_file", "rm_file", "makedirs", "pipe_file"):
        monkeypatch.setattr(store._file_system, method, fail)
    with pytest.raises(ReadError, match=r"--storage .*: cannot be read \(.*finished artifacts are kept"):
        store.read_bytes("file")
    with pytest.raises(StorageError, match=r"--storage .*: cannot be written \("):
        store.remove("file")
    with pytest.raises(StorageError, match=r"cannot be written \(.*name another place"):
        store.prepare()


@pytest.mark.parametrize("fault", [TypeError, KeyError, AttributeError, ValueError])
def test_a_fault_of_the_program_keeps_its_type(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise fault("ours")

    with pytest.raises(Exception, match=r"dict|type") as raised:  # the clients differ in its type
        store.write_bytes("file", {"not": "bytes"})  # type: ignore[arg-type]
    assert not isinstance(raised.value, StorageError)
    with pytest.raises(TypeError, match="not JSON serializable"), store.new(SPEC, {"rows": object()}):
        pass
    monkeypatch.setattr("undertow.storage.store.describe", fail)
    with pytest.raises(fault, match="ours"):
        commit(store)
    monkeypatch.setattr(store._file_system, "cat_file", fail)
    with pytest.raises(fault, match="ours"):
        store.read_bytes("file")


def test_a_download_that_fails_leaves_nothing_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UNDERTOW_CACHE", "~/cache")
    name = f"memory://{uuid.uuid4().hex}"
    commit(Store(name))
    store = Store(name)

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(type(fsspec.filesystem("memory")), "get_file", fails)
        with pytest.raises(ReadError):
            store.fetch(SPEC)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert (store.fetch(SPEC) / "model.bin").read_text() == "weights"
    assert (tmp_path / "cache").is_dir()


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert store.keys(SPEC.kind) == set()
    folder = tmp_path / "artifacts" / SPEC.kind
    folder.parent.mkdir()
    folder.symlink_to(folder)  # as root, a test can read every folder
    with pytest.raises(ReadError, match="cannot be read"):
        store.keys(SPEC.kind)


def test_a_place_that_a_user_may_not_access_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, **options: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(store._file_system, "ls", refuse)
    with pytest.raises(ReadError, match=r"cannot be read \(Permission denied: .*/claims\)"):
        store.names("claims")


@pytest.mark.parametrize("url", ["", " "])
def test_an_empty_place_is_not_the_current_folder(url: str) -> None:
    with pytest.raises(StorageError, match="is empty; name a folder or a URL"):
        Store(url)
