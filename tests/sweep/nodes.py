"""Starts several Ray nodes on this machine, with Ray's cluster utility, in a Python without this package.

As a program it starts nodes of one CPU each, prints their address, and stops them at the end of its input:

    python nodes.py FOLDER COUNT [NAME=VALUE ...]       additional variables for the last node's environment
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ray_nodes(
    python: Path, folder: Path, count: int, environment: dict[str, str], last: Mapping[str, str] | None = None
) -> Iterator[dict[str, str]]:
    """Starts `count` nodes; yields the environment variables with which a sweep joins them.

    Args:
        last: additional environment variables of the last node.
    """
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    quiet = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    command = [str(python), __file__, str(folder), str(count)]
    command += [f"{name}={value}" for name, value in (last or {}).items()]
    with (folder / "nodes.log").open("w") as log:
        process = subprocess.Popen(
            command,
            env={**environment, **secret, **quiet, "RAY_TMPDIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            lines = (line.removeprefix("address ").strip() for line in process.stdout if "address " in line)
            address = next(lines, "")
            assert address, (folder / "nodes.log").read_text()
            yield {**secret, **quiet, "RAY_ADDRESS": address}
        finally:
            process.stdin.close()
            process.wait(timeout=120)


def main(folder: str, count: str, *last: str) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for number in range(int(count)):
        name = f"node-{number}"
        os.environ["UNDERTOW_NODE"] = name
        os.environ["UNDERTOW_CACHE"] = f"{folder}/cache-{number}"  # a separate disk for each node
        if number == int(count) - 1:
            for pair in last:
                variable, _, value = pair.partition("=")
                os.environ[variable] = value
        cluster.add_node(
            num_cpus=1,
            resources={name: 1},
            node_ip_address="127.0.0.1",
            temp_dir=f"{folder}/ray",
            include_dashboard=False,
        )
    print(f"address {cluster.address}", flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
