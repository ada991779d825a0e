"""A loopback stand-in of the part of the hub's HTTP API that downloads of models use, with one commit."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "c0ffee00" * 5
NAME = r"([\w.-]+/[\w.-]+)"


def described(path: Path) -> dict[str, Any]:
    """A file as the hub lists it: weights with their SHA-256."""
    content = path.read_bytes()
    facts: dict[str, Any] = {"size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    if path.suffix == ".safetensors":
        facts["lfs"] = {"size": len(content), "oid": hashlib.sha256(content).hexdigest(), "pointerSize": 134}
    return facts


@contextmanager
def serving(models: Mapping[str, Path]) -> Iterator[str]:
    """Serves folders as models by their ids, at the branch main, while the block runs; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            path = self.path.partition("?")[0]
            if match := re.fullmatch(rf"/{NAME}/resolve/(?:main|{COMMIT})/(.+)", path):
                return self.file(models.get(match[1], Path()) / match[2])
            match = re.fullmatch(rf"/api/models/{NAME}(?:/revision/(?:main|{COMMIT}))?(/tree/.+)?", path)
            folder = models.get(match[1]) if match else None
            if match is None or folder is None:
                return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            files = {file.name: described(file) for file in sorted(folder.iterdir())}
            if match[2]:
                tree = [{"type": "file", "path": name, **facts} for name, facts in files.items()]
                return self.send(200, json.dumps(tree).encode())
            siblings = [
                {"rfilename": name, "size": facts["size"], "lfs": renamed(facts.get("lfs"))}
                for name, facts in files.items()
            ]
            info = {"id": match[1], "sha": COMMIT, "siblings": siblings}
            return self.send(200, json.dumps(info).encode())

        def file(self, path: Path) -> None:
            headers = {"X-Repo-Commit": COMMIT}
            if not path.is_file():
                return self.send(404, b"{}", {**headers, "X-Error-Code": "EntryNotFound"})
            facts = described(path)
            etag = facts["lfs"]["oid"] if "lfs" in facts else facts["oid"]
            return self.send(200, path.read_bytes(), {**headers, "ETag": f'"{etag}"'})

        def send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def log_message(self, format: str, *args: object) -> None:
            """Writes no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def renamed(large: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The facts of a large file as descriptions of models name them; listings call the hash `oid`."""
    return {"size": large["size"], "sha256": large["oid"], "pointerSize": 134} if large else None
