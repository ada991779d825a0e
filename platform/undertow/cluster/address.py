"""RAY_ADDRESS, checked before Ray uses it, and whether Ray was started by this program instead.

`ray.init` waits for minutes for a server that does not exist, in C++ code that Ctrl-C does not interrupt, and
reports an address of a wrong kind with a long traceback.
"""

import os
import re
import time

from undertow.errors import UserError, last_line

LOCAL = "UNDERTOW_LOCAL_RAY"  # set by the program that starts Ray, and inherited by Ray's processes
ANSWER_SECONDS = 10.0  # for the head node to answer; one that has just started may need a few
RETRY_SECONDS = 0.5
WANTED = (
    "give the address of the head node, HOST:6379 (`ray start --head` prints it), or unset RAY_ADDRESS "
    "to run on this machine"
)
TOKEN = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH as for the head node"
_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:.%\w]+\]|[^\s:/\[\]]+):(\d{1,5})")
_KINDS = {
    "http": "the address of the dashboard, which only `ray job submit` takes (--address)",
    "https": "the address of the dashboard, which only `ray job submit` takes (--address)",
    "ray": "the address of a Ray Client server, which cannot run a sweep",
}


def is_local() -> bool:
    """Whether this process belongs to a Ray that this program started for itself on this machine."""
    return LOCAL in os.environ


def check_address(address: str) -> None:
    """Raises UserError if no Ray head node answers at `address` (HOST:PORT, or "auto") within seconds."""
    if address == "local":
        return
    if address == "auto":
        place = _running_here()
    elif (match := _HOST_AND_PORT.fullmatch(address)) and 0 < int(match[2]) < 2**16:
        place = address
    else:
        kind = _KINDS.get(address.partition("://")[0], "not an address of the form HOST:PORT")
        raise UserError(f"RAY_ADDRESS={address}: {kind}; {WANTED}")
    if problem := _problem(place):
        found = f" ({place})" if place != address else ""
        raise UserError(f"RAY_ADDRESS={address}{found}: {problem}; {WANTED}")


def _running_here() -> str:
    """The address of the Ray that runs on this machine, as `ray.init(address="auto")` finds it."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        return str(canonicalize_bootstrap_address_or_die("auto"))
    except ConnectionError as error:
        reason = last_line(error).partition(". ")[0]
        raise UserError(f"RAY_ADDRESS=auto: {reason}; {WANTED}") from None


def _problem(place: str) -> str:
    """Why no head node answers at HOST:PORT; "" if one does."""
    import grpc  # type: ignore[import-untyped]
    from ray._private.grpc_utils import init_grpc_channel  # with the TLS and token settings of Ray
    from ray.core.generated.gcs_service_pb2 import CheckAliveRequest
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

    ends = time.monotonic() + ANSWER_SECONDS
    with init_grpc_channel(place, [("grpc.enable_http_proxy", 0)]) as channel:
        head = NodeInfoGcsServiceStub(channel)
        while True:
            try:
                head.CheckAlive(CheckAliveRequest(), timeout=max(RETRY_SECONDS, ends - time.monotonic()))
                return ""
            except grpc.RpcError as error:
                code, details = error.code(), error.details() or ""
            if code == grpc.StatusCode.UNIMPLEMENTED:
                return "another server than a Ray head node answers"
            if code == grpc.StatusCode.UNAUTHENTICATED:
                raise UserError(f"RAY_ADDRESS={place}: {details}; {TOKEN}")
            if code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                return ""  # it answers; `ray.init` reports what else is wrong
            if time.monotonic() > ends:
                reason = details.rpartition("error: UNKNOWN: ")[2].rpartition(": ")[2]
                return f"no Ray head node answers there ({reason or 'no answer'})"
            time.sleep(RETRY_SECONDS)
