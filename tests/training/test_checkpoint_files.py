"""Which checkpoint is used after a kill, in a folder and on an object store; the processes are one."""

from pathlib import Path
from typing import cast

import fsspec
import pytest
import torch

from undertow.training import checkpoint
from undertow.training.checkpoint_files import CheckpointFiles, checkpoint_files
from undertow.training.workers import join


@pytest.fixture(params=["folder", "object store"])
def files(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheckpointFiles:
    monkeypatch.setenv("LOCAL_RANK", "0")
    join("cpu", torch.get_num_threads())
    return checkpoint_files(str(tmp_path) if request.param == "folder" else f"memory:/{tmp_path}", 0)


def put(files: CheckpointFiles, epoch: int) -> None:
    (files.empty_folder() / "state").write_text(f"of epoch {epoch}")
    files.put(epoch, f"reports of epoch {epoch}")


def test_a_new_checkpoint_replaces_the_older_ones(files: CheckpointFiles) -> None:
    for epoch in (9, 10):
        put(files, epoch)
        assert files.epochs() == [epoch]
        assert files.reports(epoch) == f"reports of epoch {epoch}"
        assert (files.get(epoch) / "state").read_text() == f"of epoch {epoch}"
    files.drop()
    assert files.epochs() == []


def test_the_newest_checkpoint_is_the_last_if_a_kill_left_an_older_one(
    files: CheckpointFiles, tmp_path: Path
) -> None:
    put(files, 9)
    kept = fsspec.filesystem("file" if tmp_path.joinpath("epoch-9").exists() else "memory")
    content = {path: kept.cat_file(path) for path in kept.find(str(tmp_path / "epoch-9"))}
    put(files, 10)
    for path, data in content.items():
        kept.makedirs(path.rpartition("/")[0], exist_ok=True)
        kept.pipe_file(path, data)
    assert files.epochs() == [9, 10]
    put(files, 11)
    assert files.epochs() == [11]


def test_files_that_a_kill_left_are_not_part_of_the_next_checkpoint(files: CheckpointFiles) -> None:
    (files.empty_folder() / "left").write_text("by a killed process")
    put(files, 1)
    assert [path.name for path in files.get(1).iterdir() if path.name != "reports.json"] == ["state"]


class Unreachable:
    """The files of a checkpoint while their store does not answer."""

    def reports(self, epoch: int) -> str:
        raise TimeoutError


def test_a_checkpoint_whose_store_does_not_answer_is_not_taken_for_a_damaged_one() -> None:
    """A damaged one is removed."""
    with pytest.raises(TimeoutError):
        checkpoint._content(cast(CheckpointFiles, Unreachable()), 1)
