"""A storage's path is never interpreted as a pattern: nothing outside the storage's own folder is touched."""

import glob
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.storage.test_object_store import SPEC, commit
from undertow.engines.literal_paths import without_pattern
from undertow.errors import UserError
from undertow.storage.files import Files
from undertow.storage.manifest import MANIFEST
from undertow.storage.store import Store
from undertow.tracking.client import tracking_uri
from undertow.training.checkpoint_files import FolderCheckpoints, ObjectStoreCheckpoints, checkpoint_files

# The name of a storage, and a neighbour whose name it matches if it is read as a pattern.
NEIGHBOURS = {
    "run*": "run1",
    "run[12]": "run1",
    "run?": "run1",
    "[!a]un": "run",
    "**": "run1",
    "r{u,v}n": "run",
}
URI_CHARACTERS = {"a::b": "a", "a#b": "a", "a%20b": "a b", "a;b": "a", "~": "home", "file:b": "b"}


@pytest.fixture(params=["local", "memory", "s3"])
def base(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a folder for several storages."""
    monkeypatch.setenv("UNDERTOW_CACHE", str(tmp_path / "cache"))
    urls = {"local": f"{tmp_path}/storages", "memory": f"memory://{tmp_path.name}"}
    yield urls[request.param] if request.param in urls else request.getfixturevalue("s3_url")
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_storage_whose_name_is_a_pattern_leaves_its_neighbour_alone(base: str, name: str) -> None:
    store, neighbour = Store(f"{base}/{name}"), Store(f"{base}/{NEIGHBOURS[name]}")
    commit(neighbour, "the neighbour")
    neighbour.write_bytes("partial/scratch/file", b"the neighbour's")
    assert store.keys(SPEC.kind) == set()
    store.drop_scratch("scratch")
    assert neighbour.read_text("partial/scratch/file") == "the neighbour's"

    commit(store, "the storage")
    store.write_bytes("partial/scratch/sub/file", b"")
    assert store.keys(SPEC.kind) == neighbour.keys(SPEC.kind)
    assert store.content(SPEC, "model.bin") == b"the storage's model"
    store.drop_scratch("scratch")
    assert store.names("partial/scratch") == []
    store.set_aside(SPEC)
    assert not store.has(SPEC)
    assert store.names("damaged/reference")
    assert neighbour.content(SPEC, "model.bin") == b"the neighbour's model"
    assert neighbour.damage(SPEC) == []
    assert neighbour.names("damaged") == []


@pytest.mark.parametrize("name", [*NEIGHBOURS, *URI_CHARACTERS])
def test_a_local_storage_writes_only_into_the_folder_that_was_given(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "storages" / name
    store = Store(str(folder))
    store.prepare()
    commit(store, "the storage")
    assert store.keys(SPEC.kind)
    assert list(folder.glob(f"artifacts/*/*/{MANIFEST}"))
    assert [path.name for path in (tmp_path / "storages").iterdir()] == [name]


@pytest.mark.parametrize("name", ["a?b", "a%20b"])
def test_mlflows_database_is_refused_where_its_uri_would_name_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match=r"with \? or % in its path; choose another folder"):
        tracking_uri(Store(str(tmp_path / name)))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri(Store(str(tmp_path / name))) == "http://127.0.0.1:5000"


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_checkpoints_are_those_of_the_folder_that_was_given(tmp_path: Path, name: str) -> None:
    memory = fsspec.filesystem("memory")
    root, neighbour = f"/{tmp_path.name}/{name}", f"/{tmp_path.name}/{NEIGHBOURS[name]}"
    for epoch in (1, 2):
        memory.pipe_file(f"{neighbour}/epoch-{epoch}/reports.json", b"{}")
    memory.pipe_file(f"{root}/epoch-3/reports.json", b"{}")
    memory.pipe_file(f"{root}/epoch-4/state/rank-0", b"incomplete")
    files = checkpoint_files(f"memory:/{root}", 0)
    assert isinstance(files, ObjectStoreCheckpoints)
    assert files.epochs() == [3]
    files.drop()
    assert files.epochs() == []
    assert memory.find(root) == []
    assert len(memory.find(neighbour)) == 2
    memory.store.clear()


@pytest.mark.parametrize("name", URI_CHARACTERS)
def test_a_local_checkpoint_folder_is_not_interpreted(tmp_path: Path, name: str) -> None:
    files = checkpoint_files(str(tmp_path / name), 0)
    assert isinstance(files, FolderCheckpoints)
    assert files.root == tmp_path / name


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_library_that_globs_a_folder_finds_its_files_and_no_others(tmp_path: Path, name: str) -> None:
    for folder in (name, NEIGHBOURS[name]):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"of {len(folder)}.safetensors").touch()
    path = without_pattern(str(tmp_path / name))
    found = glob.glob(f"{path}/*.safetensors")  # noqa: PTH207 (as vLLM calls it)
    assert [Path(file).resolve() for file in found] == [tmp_path / name / f"of {len(name)}.safetensors"]
    assert without_pattern(str(tmp_path / name)) == path
    assert without_pattern(str(tmp_path / "plain")) == str(tmp_path / "plain")


def test_a_storage_folder_with_a_colon_pair_is_local() -> None:
    assert Files("/data/12::30").is_local
    assert Files("/data/12::30").root == "/data/12::30"
