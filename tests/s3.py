"""An S3 server on the loopback address for tests: that of moto, which keeps everything in memory.

python -m tests.s3      prints its port, and serves until its standard input is closed
"""

import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUCKET = "undertow"


@dataclass(frozen=True)
class Refusal:
    """An error in answer to a request. A conditional write writes the object anyway if `is_written`."""

    status: str
    code: str
    is_written: bool = False


refusals: list[Refusal] = []  # answers to the next conditional writes
refused_listings: list[Refusal] = []  # answers to the next listings
queries: list[str] = []  # of all requests to a server in this process


@contextmanager
def serving() -> Iterator[dict[str, str]]:
    """Runs the server in a process of its own; yields the environment by which S3 clients find it.

    Not in this process: the server is a Flask application, whose context-local objects break vLLM's start
    (it reads every attribute of every imported module when it registers its kernels).
    """
    command = [sys.executable, "-m", "tests.s3"]
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            port = next(line for line in server.stdout if line.strip().isdigit())  # moto prints a line too
            yield _environment(int(port))
        finally:
            server.stdin.close()


@contextmanager
def serving_refusals() -> Iterator[dict[str, str]]:
    """Runs the server in this process, where it answers conditional writes with `refusals`."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs one line per request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    assert server._server is not None
    server._server.app = _refusing(server._server.app)
    try:
        _, port = server.get_host_and_port()
        yield _environment(port)
    finally:
        server.stop()


def _environment(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }


def _refusing(app: Any) -> Any:
    """The server's application, with the answers in `refusals` and `refused_listings`."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        queries.append(environ["QUERY_STRING"])
        if "HTTP_IF_NONE_MATCH" in environ and refusals:
            refusal = refusals.pop(0)
        elif "list-type" in environ["QUERY_STRING"] and refused_listings:
            refusal = refused_listings.pop(0)
        else:
            return app(environ, start_response)  # type: ignore[no-any-return]
        if refusal.is_written:
            list(app(environ, lambda *_: None))
        start_response(refusal.status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{refusal.code}</Code><Message>{refusal.status}</Message></Error>".encode()]

    return answer


def make_bucket(environment: dict[str, str]) -> None:
    _client(environment).create_bucket(Bucket=BUCKET)


def make_versioned_bucket(environment: dict[str, str], name: str) -> None:
    """Creates a bucket that keeps every version of an object, so that repeated writes can be counted."""
    client = _client(environment)
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def versions(environment: dict[str, str], bucket: str, prefix: str) -> Counter[str]:
    """The number of times that each object under a prefix was written."""
    pages = _client(environment).get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    return Counter(version["Key"] for page in pages for version in page.get("Versions", []))


def _client(environment: dict[str, str]) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


if __name__ == "__main__":
    with serving_refusals() as environment:
        print(environment["AWS_ENDPOINT_URL"].rsplit(":", 1)[1], flush=True)
        sys.stdin.read()
