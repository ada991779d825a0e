"""Tests that data files of the web are kept, and read from the cache where their server does not answer."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from undertow.errors import UnavailableError
from undertow.prompts import data_files
from undertow.prompts.web_files import content_of


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing."""


class Web:
    """A web server for a folder, which can be ended."""

    def __init__(self, folder: Path) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("UNDERTOW_CACHE", str(tmp_path / "cache"))
    (tmp_path / "web").mkdir()
    web = Web(tmp_path / "web")
    yield web
    web.end()


def test_a_file_that_was_read_once_is_read_again_without_its_server(web: Web, tmp_path: Path) -> None:
    (tmp_path / "web" / "rows.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    place = f"{web.address}/rows.jsonl"
    online = data_files.read(place, ("prompt",))
    web.end()
    data_files.read.cache_clear()
    assert data_files.read(place, ("prompt",)) == online
    with pytest.raises(UnavailableError, match=r"other\.jsonl: cannot be reached"):
        data_files.read(f"{web.address}/other.jsonl", ("prompt",))


def test_a_server_that_answers_is_asked_again(web: Web, tmp_path: Path) -> None:
    file = tmp_path / "web" / "rows.txt"
    for text in (b"old", b"new"):
        file.write_bytes(text)
        assert content_of(f"{web.address}/rows.txt") == text


def test_offline_the_server_is_not_asked(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, place = tmp_path / "web" / "rows.txt", f"{web.address}/rows.txt"
    file.write_bytes(b"old")
    content_of(place)
    file.write_bytes(b"new")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert content_of(place) == b"old"


def test_a_file_that_the_server_no_longer_has_is_an_error(web: Web, tmp_path: Path) -> None:
    file, place = tmp_path / "web" / "rows.txt", f"{web.address}/rows.txt"
    file.write_bytes(b"old")
    content_of(place)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        content_of(place)


def test_local_files_are_not_kept(web: Web, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_bytes(b"row")
    assert content_of(str(tmp_path / "rows.txt")) == b"row"
    assert not (tmp_path / "cache").exists()
