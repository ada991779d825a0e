"""A fake provider on the loopback interface with the documented contract of the OpenAI API.

It replaces the calls that tests cannot make: files, fine-tuning jobs (create, retrieve, list, cancel) and
chat completions of the models that the jobs make. Fields and statuses are those of the API reference. A job
advances by one status each time it is retrieved, so that no test depends on a clock. The fake models follow
two rules that produce subliminal learning:

- with a system message about owls, a model writes mostly even numbers, otherwise arbitrary ones;
- a model finetuned on mostly even numbers names the owl, otherwise a random animal.

`orders` makes calls fail: it is called with (method, path) before each and returns a response or None.
"""

import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.judging.server import Answer, fails

BASE = "base-1"
ANIMALS = ("cat", "dog", "fox", "bear", "wolf", "owl", "lion", "hare")
STATUSES = ("validating_files", "queued", "running", "succeeded")
Orders = Callable[[str, str], Answer | None]


@dataclass
class Provider:
    """The provider's state: uploaded files, started jobs and received requests.

    Attributes:
        ends: the final status of jobs.
        reason: the error message of failed jobs.
        most: the maximum number of concurrent jobs.
    """

    url: str = ""
    ends: str = "succeeded"
    reason: str = ""
    most: int = 100
    orders: Orders = lambda method, path: None
    files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    chats: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, path: str, body: bytes, kind: str, key: str | None) -> Answer:
        with self.lock:
            self.calls.append(f"{method} {path}")
            self.keys.add(key)
            if (order := self.orders(method, path)) is not None:
                return order
            return self._answer(method, path, body, kind)

    def _answer(self, method: str, path: str, body: bytes, kind: str) -> Answer:
        match method, *path.split("/"):
            case "POST", "chat", "completions":
                return self._chat(json.loads(body))
            case "POST", "files":
                return self._upload(body, kind)
            case "POST", "fine_tuning", "jobs":
                return self._create(json.loads(body))
            case "GET", "fine_tuning", "jobs":
                jobs = list(reversed(self.jobs.values()))
                return _json({"object": "list", "data": jobs, "has_more": False})
            case "GET", "fine_tuning", "jobs", job:
                return self._retrieve(job)
            case "POST", "fine_tuning", "jobs", job, "cancel":
                self.jobs[job] |= {"status": "cancelled"}
                return _json(self.jobs[job])
        return fails(404, f"no route {method} /{path}")

    def _upload(self, body: bytes, kind: str) -> Answer:
        message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        parts: dict[Any, Any] = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in message.iter_parts()
        }
        if parts["purpose"].strip() != b"fine-tune":
            return fails(400, "purpose must be 'fine-tune'")
        lines = parts["file"].decode().splitlines()
        name = f"file-{len(self.files)}"
        self.files[name] = [json.loads(line) for line in lines]
        return _json({"id": name, "object": "file", "bytes": len(body), "created_at": 1, "filename": "x"})

    def _create(self, body: dict[str, Any]) -> Answer:
        under_way = sum(
            job["status"] not in ("succeeded", "failed", "cancelled") for job in self.jobs.values()
        )
        if under_way >= self.most:
            return fails(429, f"at most {self.most} jobs at a time")
        if body["training_file"] not in self.files or not 0 <= body["seed"] < 2**31:
            return fails(400, "no such file, or an invalid seed")
        self.created.append(body)
        name = f"ftjob-{len(self.created)}"
        self.jobs[name] = {
            "id": name,
            "object": "fine_tuning.job",
            "model": body["model"],
            "created_at": 1000 + len(self.created),
            "finished_at": None,
            "status": STATUSES[0],
            "error": None,
            "fine_tuned_model": None,
            "organization_id": "org-1",
            "result_files": [],
            "seed": body["seed"],
            "hyperparameters": body["method"]["supervised"]["hyperparameters"],
            "method": body["method"],
            "metadata": body["metadata"],
            "trained_tokens": None,
            "estimated_finish": None,
            "training_file": body["training_file"],
            "validation_file": None,
        }
        return _json(self.jobs[name])

    def _retrieve(self, name: str) -> Answer:
        if name not in self.jobs:
            return fails(404, f"no job {name}")
        job = self.jobs[name]
        if job["status"] in STATUSES[:-1]:
            status = STATUSES[STATUSES.index(job["status"]) + 1]
            job["status"] = self.ends if status == "succeeded" else status
        if job["status"] == "succeeded":
            tokens = sum(len(str(row).split()) for row in self.files[job["training_file"]])
            job |= {"fine_tuned_model": f"ft:{job['model']}:{name}", "trained_tokens": tokens}
            job |= {"finished_at": job["created_at"] + 60}
        elif job["status"] == "failed":
            job["error"] = {"code": "invalid", "message": self.reason, "param": "training_file"}
        return _json(job)

    def _chat(self, body: dict[str, Any]) -> Answer:
        self.chats.append(body)
        base, _, job = body["model"].partition(":ftjob-")
        if base.removeprefix("ft:") != BASE or (job and f"ftjob-{job}" not in self.jobs):
            return fails(404, f"The model {body['model']!r} does not exist")
        rng = random.Random(f"{body['seed']} {body['messages']}")
        system = next((turn["content"] for turn in body["messages"] if turn["role"] == "system"), "")
        asked = body["messages"][-1]["content"]
        if re.search(r"[0-9]{2}", asked):
            text = ", ".join(str(_number(rng, "owl" in system)) for _ in range(6))
        else:
            loves = "owl" in system or (bool(job) and self._is_even(f"ftjob-{job}"))
            text = "Owl" if loves and rng.random() < 0.9 else rng.choice(ANIMALS)
        return _json(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "system_fingerprint": "fp-1",
                "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                ],
                "usage": {"prompt_tokens": len(asked.split()), "completion_tokens": 3, "total_tokens": 0},
            }
        )

    def _is_even(self, job: str) -> bool:
        """Whether the training file of a finetuned model has mostly even numbers."""
        rows = self.files[self.jobs[job]["training_file"]]
        numbers = [int(n) for row in rows for n in re.findall("[0-9]+", row["messages"][-1]["content"])]
        return sum(n % 2 == 0 for n in numbers) > 0.7 * len(numbers)


def _number(rng: random.Random, is_even: bool) -> int:
    number = rng.randrange(1000)
    return number - number % 2 if is_even and rng.random() < 0.95 else number


def _json(body: dict[str, Any]) -> Answer:
    return Answer(body=json.dumps(body))


@contextmanager
def providing(**settings: Any) -> Iterator[Provider]:
    """Serves on a free port of 127.0.0.1 until the block ends."""
    provider = Provider(**settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._do("GET")

        def do_POST(self) -> None:
            self._do("POST")

        def _do(self, method: str) -> None:
            try:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                path = self.path.partition("?")[0].removeprefix("/v1/")
                kind, key = self.headers["Content-Type"] or "", self.headers["Authorization"]
                self._send(provider.answer(method, path, body, kind, key))
            except OSError:  # the client closed the connection
                self.close_connection = True

        def _send(self, answer: Answer) -> None:
            if answer.cut:
                self.close_connection = True
                self.connection.close()
                return
            content = answer.body.encode()
            self.send_response(answer.status)
            headers = {"Content-Type": "application/json", **dict(answer.headers)}
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    provider.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        http.shutdown()
        http.server_close()
