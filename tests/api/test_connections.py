"""The causes of connection errors in words, and proxies."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.judging.server import Answer, says, serving
from undertow.api.client import ChatTask, ask, probe
from undertow.api.connections import cause_of, is_loopback, proxy_of
from undertow.api.endpoint import Endpoint
from undertow.errors import UserError

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def problem(url: str) -> str:
    chat = ChatTask[str]("model-1", "judge", lambda item: {"messages": [{"role": "user", "content": item}]})
    return probe(chat, "one", Endpoint(url, timeout=20, attempts=1))


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of 127.0.0.1 on which nothing listens: it is bound, so that no other process gets it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_closed_port_is_named(host: str) -> None:
    with closed_port() as port:
        words = problem(f"http://{host}:{port}/v1")
    assert f"Connection error: {host}:{port} refused the connection; nothing listens on this port" in words


def test_an_unknown_host_is_named() -> None:
    assert "Connection error: unknown host 'judge.invalid': its name cannot be" in problem(
        "http://judge.invalid/v1"
    )


def test_a_server_that_closes_the_connection_is_named() -> None:
    with serving(lambda *_: Answer(cut=True)) as server:
        assert "Server disconnected without sending a response" in problem(server.url)


def test_a_server_without_tls_is_named() -> None:
    with serving(lambda *_: says("1")) as server:
        words = problem(server.url.replace("http:", "https:"))
    assert "no TLS connection to 127.0.0.1:" in words
    assert "does the server speak http only?" in words


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), "judge.test:8000 refused the connection"),
        (socket.gaierror(-2, "Name or service not known"), "unknown host 'judge.test'"),
        (OSError(101, "Network is unreachable"), "judge.test:8000: Network is unreachable"),
        (ConnectionResetError(104, "reset"), "judge.test:8000: Connection reset by peer"),
        (
            ssl.SSLCertVerificationError(1, "self-signed"),
            "the TLS certificate of judge.test:8000 is not trusted",
        ),
        (RuntimeError("something else"), "something else"),
    ],
)
@pytest.mark.parametrize("grouped", [False, True])
def test_the_cause_is_found_among_the_exceptions_that_led_to_the_error(
    cause: Exception, words: str, grouped: bool
) -> None:
    """A host with several addresses has one error for each."""
    middle = (
        ExceptionGroup("All connection attempts failed", [cause])
        if grouped
        else OSError("All attempts failed")
    )
    middle.__cause__ = None if grouped else cause
    outer = RuntimeError("Connection error.")
    outer.__cause__ = middle
    assert words in cause_of(outer, "https://judge.test:8000/v1")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with closed_port() as port:
        monkeypatch.setenv(variable, f"http://me:planted-c4@127.0.0.1:{port}")
        words = problem("http://judge.invalid/v1")
    assert f"Connection error: the proxy 127.0.0.1:{port} ({variable}) refused the connection" in words
    assert "planted" not in words


def test_an_unknown_host_of_a_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    words = problem("https://judge.test/v1")
    assert "unknown host 'proxy.invalid:3128' of HTTPS_PROXY" in words


def test_errors_of_a_proxy_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda *_: says("1")) as server:  # it closes connections to any other path
        monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))
        words = problem("http://judge.invalid/v2")
    assert "through the proxy 127.0.0.1:" in words


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "ftp://127.0.0.1:9", "http://127.0.0.1:port"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_that_cannot_be_used_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(UserError, match=f"{variable}: not a proxy that can be used") as caught:
        problem("http://judge.invalid/v1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "ftp://nowhere"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_addresses_bypass_proxies(
    monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str, host: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    chat = ChatTask[str]("model-1", "judge", lambda item: {"messages": [{"role": "user", "content": item}]})
    with serving(lambda *_: says("85")) as server:
        tally = ask(chat, ["one"], Endpoint(server.url.replace("127.0.0.1", host)), lambda *_: None)
    assert (tally.replies, tally.trouble) == (1, "")


def test_other_hosts_bypass_proxies_by_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.test:3128")
    assert str(proxy_of("https://judge.test/v1")) == "the proxy proxy.test:3128 (HTTPS_PROXY)"
    assert proxy_of("http://judge.test/v1") is None
    monkeypatch.setenv("NO_PROXY", "judge.test")
    assert proxy_of("https://judge.test/v1") is None


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("judge.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("0.0.0.0", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("128.0.0.1", False),
        ("localhost.test", False),
        ("notlocalhost", False),
        ("", False),
    ],
)
def test_loopback_hosts_are_recognised(host: str, is_own: bool) -> None:
    assert is_loopback(host) == is_own


@pytest.mark.parametrize(
    "url", ["http://host:port/v1", "http://host:99999/v1", "http://[::1/v1", "http:///v1"]
)
def test_an_invalid_url_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("UNDERTOW_JUDGE_URL", url)
    with pytest.raises(UserError, match="UNDERTOW_JUDGE_URL: not a URL"):
        Endpoint.from_environment()
