"""Tests of files on the hub: the local cache comes first, and an answer differs from no answer."""

import socket
from pathlib import Path

import huggingface_hub
import pytest
from httpx2 import ConnectError, ReadTimeout, Request, Response
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from undertow.prompts.hub_files import local_copy, no_answer

COMMIT = "1a2b3c4d" * 5
REQUEST = Request("GET", "https://huggingface.co")


def answered(status: int) -> HfHubHTTPError:
    response = Response(status, request=REQUEST)
    return HfHubHTTPError(f"{status} Error.\n\nSee the log.", response=response, server_message="a reason")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__context__ = cause  # as "from None" leaves it
    error.__suppress_context__ = True
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectError("[Errno -3] Temporary failure in name resolution"), "Temporary failure"),
        (ReadTimeout("The read operation timed out"), "timed out"),
        (ConnectionRefusedError(111, "Connection refused"), "refused"),
        (TimeoutError("no answer in 20 s"), "20 s"),
        (caused(FileNotFoundError("x"), socket.gaierror(-2, "Name or service not known")), "not known"),
        (caused(LocalEntryNotFoundError("look up"), ConnectError("no route to host")), "no route"),
        (answered(503), "log"),
        (answered(404), ""),
        (answered(401), ""),
        (caused(FileNotFoundError("x"), answered(404)), ""),
        (FileNotFoundError("no such file"), ""),
        (ValueError("a bad name"), ""),
    ],
)
def test_an_answer_is_told_apart_from_no_answer(error: Exception, words: str) -> None:
    found = no_answer(error)
    assert words in found
    assert bool(found) == bool(words)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/a.jsonl of the data set org/tasks in the local cache, at the commit of the branch main."""
    repository = tmp_path / "datasets--org--tasks"
    file = repository / "snapshots" / COMMIT / "data" / "a.jsonl"
    for path, text in ((file, "{}"), (repository / "refs" / "main", COMMIT)):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return file


def asked(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[str]:
    """The requests that are sent; each fails with an error."""
    urls: list[str] = []

    def metadata(url: str, **options: object) -> None:
        urls.append(url)
        raise error

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    return urls


@pytest.mark.parametrize(("revision", "requests"), [(COMMIT, 0), ("main", 1)])
def test_without_network_the_cached_file_is_used(
    revision: str, requests: int, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a commit contains never changes, so the hub is not asked."""
    sent = asked(monkeypatch, ConnectError("no network"))
    assert local_copy(f"hf://datasets/org/tasks@{revision}/data/a.jsonl") == str(cached)
    assert len(sent) == requests


def test_a_file_that_is_not_cached_needs_one_request_to_be_reported(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = asked(monkeypatch, ConnectError("no network"))
    with pytest.raises(LocalEntryNotFoundError) as caught:
        local_copy(f"hf://datasets/org/tasks@{COMMIT}/data/b.jsonl")
    assert no_answer(caught.value) == "no network"
    assert len(sent) == 1


@pytest.mark.parametrize("name", ["data", "data/missing.jsonl"])
def test_a_folder_or_a_missing_file_is_left_to_fsspec(
    name: str, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: object, local_files_only: bool, **options: object) -> str:
        raise LocalEntryNotFoundError("not cached") if local_files_only else answered(404)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    asked(monkeypatch, answered(404))
    place = f"hf://datasets/org/tasks@{COMMIT}/{name}"
    assert local_copy(place) == place


@pytest.mark.parametrize(
    "path",
    [
        "tasks.jsonl",
        "s3://bucket/tasks.jsonl",
        "hf://datasets/org/tasks/data/a.jsonl",
        "hf://datasets/org/tasks@main/*.jsonl",
    ],
)
def test_other_places_are_opened_as_given(path: str) -> None:
    assert local_copy(path) == path
