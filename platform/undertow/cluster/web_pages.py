"""How to open the web pages of a cluster, Ray's dashboard and MLflow, on the user's machine.

Both usually listen on addresses that only the cluster reaches. The lines for the log therefore name the
command that forwards a port: `ssh` through the machine that the user logs in to, or `kubectl`.
"""

import getpass
import ipaddress
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from undertow.api.connections import is_loopback
from undertow.storage.redaction import redacted

DASHBOARD, MLFLOW = 8265, 5000  # the ports on the user's machine


@dataclass(frozen=True)
class Access:
    """The way from the user's machine to a cluster.

    Attributes:
        login: the machine that the user reaches over SSH, as USER@HOST; "" for this machine.
        pod: the Kubernetes pod in which the sweep runs; "" elsewhere.
        has_token: whether Ray asks for a token.
    """

    login: str = ""
    pod: str = ""
    has_token: bool = False

    @classmethod
    def of(cls, head: str, environment: Mapping[str, str] | None = None) -> "Access":
        """The way to the cluster of this process; `head` is the address of its head node."""
        variables = os.environ if environment is None else environment
        has_token = variables.get("RAY_AUTH_MODE") == "token"
        if variables.get("KUBERNETES_SERVICE_HOST"):
            return cls(pod=socket.gethostname(), has_token=has_token)
        host = variables.get("SLURM_SUBMIT_HOST") or ("" if is_loopback(head) else head)
        user = ""
        with suppress(KeyError, OSError):  # a container without an entry for its user
            user = f"{getpass.getuser()}@"
        return cls(login=f"{user}{host}" if host else "", has_token=has_token)

    def lines(self, dashboard: str, tracking_uri: str) -> list[str]:
        """The lines for the log. `dashboard` is HOST:PORT, or "" without one."""
        return [line for line in (self.dashboard(dashboard), self.mlflow(tracking_uri)) if line]

    def dashboard(self, url: str) -> str:
        """The line about Ray's dashboard at `url` (HOST:PORT); "" if there is none."""
        if not url:
            return ""
        token = " (its token: ray get-auth-token)" if self.has_token else ""
        host, _, port = url.rpartition(":")
        return f"Ray's dashboard: {self._forwarded(host, int(port), DASHBOARD)}{token}"

    def mlflow(self, uri: str) -> str:
        """The line about MLflow with this tracking URI."""
        server = urlsplit(uri)
        if server.scheme == "http" and _is_private(server.hostname or "") and not self.pod:
            return f"MLflow: {self._forwarded(server.hostname or '', server.port or 80, MLFLOW)}"
        folder = uri.removeprefix("sqlite:///").removesuffix("/mlflow.db")
        if uri != f"sqlite:///{folder}/mlflow.db" or self.pod:
            return f"MLflow: {redacted(uri)}"
        serve = f"make ui STORAGE={folder}"
        page = f"http://127.0.0.1:{MLFLOW}"
        if self.login:
            serve = f"ssh -L {MLFLOW}:127.0.0.1:{MLFLOW} {self.login}, there {serve}"
        # Two programs that open an SQLite database at once are safe only with reliable locks.
        return f"MLflow, after the sweep: {serve}, then {page}"

    def _forwarded(self, host: str, port: int, local: int) -> str:
        """The command that forwards a port of the cluster, and the address to open then."""
        page = f"http://127.0.0.1:{local}"
        if self.pod:
            return f"kubectl port-forward pod/{self.pod} {local}:{port}, then {page}"
        if not self.login:
            return f"http://{host}:{port}"
        # A server that listens on the loopback address of the head is reached from the head itself.
        return f"ssh -L {local}:{host}:{port} {self.login}, then {page}"


def _is_private(host: str) -> bool:
    """Whether a host is an address that only its own network reaches. Names are taken for public ones."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_private
    return host == "localhost"
