"""RAY_ADDRESS: what is no address of a cluster ends in one line with exit code 2, within seconds."""

import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
from rich.console import Console

from undertow.cli.entry import enter
from undertow.cluster import address
from undertow.cluster.connection import connect
from undertow.errors import UserError

OTHER_KINDS = {
    "http://127.0.0.1:8265": "the address of the dashboard, which only `ray job submit` takes (--address)",
    "https://head:8265/": "the address of the dashboard, which only `ray job submit` takes (--address)",
    "ray://127.0.0.1:10001": "the address of a Ray Client server, which cannot run a sweep",
    "127.0.0.1": "not an address of the form HOST:PORT",
    "127.0.0.1:": "not an address of the form HOST:PORT",
    "127.0.0.1:0": "not an address of the form HOST:PORT",
    "127.0.0.1:99999": "not an address of the form HOST:PORT",
    "head:ray": "not an address of the form HOST:PORT",
    "redis://head:6379": "not an address of the form HOST:PORT",
    "two words:6379": "not an address of the form HOST:PORT",
    "::1:6379": "not an address of the form HOST:PORT",
}


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(address, "RETRY_SECONDS", 0.1)


class HeadNode(gcs_service_pb2_grpc.NodeInfoGcsServiceServicer):
    """Answers as the control store of a head node does."""

    def __init__(self, *, has_token: bool) -> None:
        self.has_token = has_token

    def CheckAlive(self, request: Any, context: Any) -> Any:
        if self.has_token:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        return gcs_service_pb2.CheckAliveReply()


@contextmanager
def grpc_server(*, is_head: bool, has_token: bool = False) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    if is_head:
        gcs_service_pb2_grpc.add_NodeInfoGcsServiceServicer_to_server(HeadNode(has_token=has_token), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


@contextmanager
def web_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def silent_server() -> Iterator[str]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def closed_port() -> Iterator[str]:
    with silent_server() as place:
        pass
    yield place


@pytest.mark.parametrize(("given", "kind"), OTHER_KINDS.items())
def test_an_address_of_another_kind_is_refused_with_the_one_that_is_wanted(given: str, kind: str) -> None:
    with pytest.raises(UserError) as error:
        address.check_address(given)
    assert str(error.value) == f"RAY_ADDRESS={given}: {kind}; {address.WANTED}"


def test_the_address_of_a_head_node_is_accepted() -> None:
    with grpc_server(is_head=True) as place:
        address.check_address(place)
        address.check_address(place.replace("127.0.0.1", "localhost"))


@pytest.mark.parametrize(
    ("serving", "problem"),
    [
        (closed_port, r"no Ray head node answers there \(Connection refused\)"),
        (silent_server, r"no Ray head node answers there \(.+\)"),
        (web_server, r"no Ray head node answers there \(.+\)"),
        (lambda: grpc_server(is_head=False), "another server than a Ray head node answers"),
    ],
    ids=["closed port", "silent server", "web server", "another gRPC server"],
)
def test_a_place_without_a_head_node_is_refused(serving: Any, problem: str) -> None:
    with serving() as place, pytest.raises(UserError) as error:
        address.check_address(place)
    expected = f"RAY_ADDRESS={place}: {problem}; {re.escape(address.WANTED)}"
    assert re.fullmatch(expected, str(error.value)), error.value


def test_a_head_node_that_wants_a_token_is_refused_with_the_settings_to_change() -> None:
    with grpc_server(is_head=True, has_token=True) as place, pytest.raises(UserError) as error:
        address.check_address(place)
    assert str(error.value) == f"RAY_ADDRESS={place}: InvalidAuthToken; {address.TOKEN}"


def test_a_host_that_does_not_exist_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^RAY_ADDRESS=no-such-host.invalid:6379: no Ray head node answers there"
    ):
        address.check_address("no-such-host.invalid:6379")


@pytest.mark.parametrize("found", ["a stale address", "nothing"])
def test_auto_without_a_ray_on_this_machine_is_refused(monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    with closed_port() as place:
        pass

    def find(given: str) -> str:
        if found == "nothing":
            raise ConnectionError("Could not find any running Ray instance. Please specify one.")
        return place

    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address_or_die", find)
    reason = "Could not find any running Ray instance" if found == "nothing" else "no Ray head node answers"
    with pytest.raises(UserError, match=f"^RAY_ADDRESS=auto.*: {reason}"):
        address.check_address("auto")


@dataclass(frozen=True)
class NoArguments:
    """No options."""


@pytest.mark.parametrize("given", ["http://127.0.0.1:8265", "closed"])
def test_a_program_with_a_wrong_address_exits_with_2_and_one_line(
    given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(arguments: NoArguments, console: Console) -> int:
        with connect():
            return 0

    with closed_port() as place:
        monkeypatch.setenv("RAY_ADDRESS", place if given == "closed" else given)
    monkeypatch.setattr("sys.argv", ["program"])
    with pytest.raises(SystemExit) as exit_:
        enter(main, NoArguments)
    assert exit_.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert re.fullmatch(r"error: RAY_ADDRESS=.*unset RAY_ADDRESS to run on this machine\n", output.err)
