"""A loopback stand-in of the part of the hub's HTTP API that uploads and reads of data sets use.

It keeps the files of one commit per repository: creation of repositories, validation of cards, the question
which files are large, uploads of large files by Git LFS, commits, listings and downloads. Transfers by Xet,
which the hub offers in addition, are not part of it.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_writer"
COMMIT = "c0ffee" + "0" * 34
LARGE = (".parquet", ".safetensors")


@dataclass
class Hub:
    """What was uploaded.

    Attributes:
        visibility: of each repository, by its type and name ("dataset org/rows").
        files: the files of each repository.
        messages: the messages of the commits.
    """

    url: str = ""
    visibility: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """The status and the JSON (or the bytes) of a response."""
        if method == "PUT":
            self.large[path.removeprefix("/lfs/")] = body
            return 200, {}
        if method == "GET":
            return self._read(path)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            has_front_matter = json.loads(body)["content"].startswith("---\n")
            return (200, {"errors": [], "warnings": []}) if has_front_matter else (400, {"errors": []})
        if match := re.fullmatch(r"/(?:datasets/)?[\w.-]+/[\w.-]+\.git/info/lfs/objects/batch", path):
            objects = [self._place(asked) for asked in json.loads(body)["objects"]]
            return 200, {"transfer": "basic", "objects": objects}
        if match := re.fullmatch(r"/api/(model|dataset)s/([\w.-]+/[\w.-]+)/(preupload|commit)/main", path):
            repository = f"{match[1]} {match[2]}"
            return self._modes(body) if match[3] == "preupload" else self._commit(repository, body)
        return 404, {"error": f"no such path: {path}"}

    def _read(self, path: str) -> tuple[int, Any]:
        """Describes a data set, lists one of its folders, or returns a file. All revisions are the same."""
        name, revision = r"([\w.-]+/[\w.-]+)", r"(?:main|[0-9a-f]{40})"
        if match := re.fullmatch(rf"/datasets/{name}/resolve/{revision}/(.+)", path):
            content = self.files.get(f"dataset {match[1]}", {}).get(match[2])
            return (404, {"error": "Entry not found"}) if content is None else (200, content)
        listing = rf"(/tree/{revision}(?:/(.+))?)?"
        match = re.fullmatch(rf"/api/datasets/{name}(?:/revision/{revision})?{listing}", path)
        files = self.files.get(f"dataset {match[1]}") if match else None
        if match is None or files is None:
            return 404, {"error": "Repository not found"}
        if not match[2]:
            return 200, {"id": match[1], "sha": COMMIT, "siblings": []}
        start = f"{match[3]}/" if match[3] else ""
        inside = {name.removeprefix(start) for name in files if name.startswith(start)}
        folders = {name.partition("/")[0] for name in inside if "/" in name}
        found: list[dict[str, Any]] = [
            {"type": "directory", "path": start + name, "oid": "0"} for name in sorted(folders)
        ]
        found += [
            {"type": "file", "path": start + name, "oid": "0", "size": len(files[start + name])}
            for name in sorted(inside)
            if "/" not in name
        ]
        return 200, found

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name, kind = f"{asked['organization']}/{asked['name']}", asked.get("type", "model")
        place = f"{self.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if f"{kind} {name}" in self.visibility:
            return 409, {"error": "You already created this repo", "url": place}
        self.visibility[f"{kind} {name}"] = asked.get("visibility", "public")
        return 200, {"url": place}

    def _place(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {**asked, "actions": {"upload": {"href": f"{self.url}/lfs/{asked['oid']}"}}}

    @staticmethod
    def _modes(body: bytes) -> tuple[int, Any]:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        return 200, {"files": files}

    def _commit(self, repository: str, body: bytes) -> tuple[int, Any]:
        files = self.files.setdefault(repository, {})
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.large[value["oid"]]
                assert hashlib.sha256(files[value["path"]]).hexdigest() == value["oid"]
        kind, name = repository.split()
        place = f"{self.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        return 200, {"commitUrl": f"{place}/commit/{COMMIT}", "commitOid": COMMIT}


@contextmanager
def serving() -> Iterator[Hub]:
    """Runs the stand-in in a thread while the block runs."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            is_allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            refusal: tuple[int, Any] = 401, {"error": "Invalid username or password."}
            # Large files go to a signed URL, without a token.
            is_answered = is_allowed or self.command == "PUT"
            status, found = hub.answer(self.command, path, body) if is_answered else refusal
            content = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self._respond()

        def do_POST(self) -> None:
            self._respond()

        def do_PUT(self) -> None:
            self._respond()

        def log_message(self, format: str, *args: object) -> None:
            """Writes no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
