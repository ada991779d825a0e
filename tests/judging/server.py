"""A loopback server with the documented contract of OpenAI-compatible endpoints, and failures on demand.

It implements POST /v1/chat/completions (fields of request and response, status codes, Retry-After) without a
model, for tests that need specific answers, failures and timings, which a real server cannot produce on
demand. test_vllm_server.py has the tests against a real server.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """The response to one call: status, headers and body after `seconds`, or a closed connection (`cut`)."""

    status: int = 200
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    cut: bool = False


def says(text: object, finish: str = "stop", **more: Any) -> Answer:
    """A chat completion with this content, 11 prompt tokens and 2 completion tokens."""
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "judge-1",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13},
    }
    return Answer(body=json.dumps(body), **more)


def fails(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    """An error response in the API's format. Header names are given with "_" for "-"."""
    body = json.dumps({"error": {"message": message, "type": "x", "param": None, "code": code}})
    return Answer(status, body, tuple((name.replace("_", "-"), value) for name, value in headers.items()))


Behaviour = Callable[[str, int], Answer]


@dataclass
class Server:
    """The requests received, and the function that answers them.

    `behave(message, count)` returns the answer to a message that was received `count` times before.
    """

    behave: Behaviour
    url: str = ""
    messages: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    active_calls: int = 0
    max_active_calls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, body: dict[str, Any], key: str | None) -> Answer:
        message = body["messages"][-1]["content"]
        with self.lock:
            before = self.messages.count(message)
            self.messages.append(message)
            self.requests.append(body)
            self.times.append(time.monotonic())
            self.keys.add(key)
            self.active_calls += 1
            self.max_active_calls = max(self.max_active_calls, self.active_calls)
        return self.behave(message, before)


@contextmanager
def serving(behave: Behaviour) -> Iterator[Server]:
    """Runs a server on a free port of 127.0.0.1 until the block ends."""
    server = Server(behave)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            try:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(server.take(body, self.headers["Authorization"]))
            except (OSError, ValueError):  # the client disconnected, possibly during its request
                self.close_connection = True

        def _answer(self, answer: Answer) -> None:
            try:
                time.sleep(answer.seconds)
            finally:
                with server.lock:
                    server.active_calls -= 1
            if answer.cut or self.path != "/v1/chat/completions":
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
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
