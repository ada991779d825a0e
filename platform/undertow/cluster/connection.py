"""Joins or starts Ray, without its log output.

Inside a submitted job (`ray job submit` sets RAY_ADDRESS) the sweep joins that cluster; otherwise it starts a
local Ray, bound to this machine, and shuts it down at the end. It never joins a cluster by accident: a bare
`ray.init()` would join any that runs on the host.

The nodes of a cluster need the locked environment. This package travels with the job, so that every node runs
the code that the driver was started from, whatever it has installed; the code of a user's study file and of
the modules next to it travels by value. Credentials never travel: each node has its own.
"""

import logging
import os
import signal
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from undertow.cluster.address import LOCAL, check_address
from undertow.cluster.ray_messages import print_plainly
from undertow.cluster.user_code import register_modules
from undertow.cluster.web_pages import Access
from undertow.engines.quiet import quiet
from undertow.errors import StorageError, UserError, last_line
from undertow.planning.resources import Layout, Machine, Node, planned, waiting_line
from undertow.storage.store import Store
from undertow.tracking.client import tracking_uri

GPU_TYPE = "accelerator_type:"  # begins the name of the resource by which Ray states the type of GPUs
LATE = "timed out during startup"  # in the error of `ray.init` when its processes are not up in time
STARTS = 3
NODES = "UNDERTOW_NODES"  # set by job scripts that start a fixed number of nodes
JOIN_SECONDS = 600.0  # for all of them to join; importing Python from a shared file system takes minutes

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")


def _set_up_ray_data() -> None:
    """Makes Ray Data quiet, and its actors leave out work for statistics that nothing here reads.

    Ray Data sets its logger up on import: nothing reaches the console, everything reaches its file. What it
    logs as an error, with a screen of tracebacks, it also raises, and the sweep reports that.
    """
    import ray.data

    warnings.filterwarnings("ignore", message=".*will be removed in Ray")  # Ray Data enables its own again
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Adds up the memory of each actor once a second: 4 % of the time of a nano model's engine.
    context.memory_usage_poll_interval_s = None
    for handler in logging.getLogger("ray.data").handlers:
        if type(handler).__name__ == "PlainRayHandler":
            handler.setLevel(logging.CRITICAL)


def check_place(store: Store) -> None:
    """Raises UserError for a relative storage folder in a job on a cluster: it would end with the job."""
    if os.environ.get("RAY_ADDRESS") and store.is_relative:
        raise UserError(
            f"--storage {Path(store.url).name}: a relative folder is deleted with the job on the cluster "
            "that RAY_ADDRESS names; give a URL (s3://BUCKET/FOLDER) or the absolute path of a shared folder"
        )


@contextmanager
def connect(
    layout: Layout = Layout(), store: Store | None = None, report: Callable[[str], object] = print
) -> Iterator[Machine]:
    """Joins the cluster that RAY_ADDRESS names, or starts a local Ray; disconnects when the block ends.

    Raises UserError if RAY_ADDRESS does not lead to a cluster that this process can join, if a local Ray does
    not start in time, if nodes do not join in time, or if the nodes cannot hold the layout, and StorageError
    if one of them cannot read `store`.

    Args:
        report: called with lines about what is waited for, and about Ray's dashboard and MLflow.
    """
    quiet()
    import ray

    address = os.environ.get("RAY_ADDRESS")
    try:
        print_plainly()
        with _without_stderr(), _own_sigterm_handler():
            dashboard = _init(address)
        if address:
            if store is not None:
                head = ray.get_runtime_context().gcs_address.rpartition(":")[0]
                for line in Access.of(head).lines(dashboard, tracking_uri(store)):
                    report(line)
            _wait_for_nodes(report)
        # Imports Ray Data, which Ray's processes need not wait for.
        from undertow.cluster.interrupts import allow_pipelines

        _set_up_ray_data()
        allow_pipelines()
        register_modules()
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if store is not None and len(nodes) > 1:
            check_reach(store, nodes)
        resources = [node["Resources"] for node in nodes]
        offered = [Node(int(has.get("CPU", 0)), int(has.get("GPU", 0)), _gpu_type(has)) for has in resources]
        expected = planned(offered) if address else offered
        if store is not None and expected != offered:
            report(waiting_line(offered, expected))
        yield Machine.of(expected, layout)
    finally:  # also after an error above: a Ray that was started must not outlive the program
        ray.shutdown()


def _gpu_type(resources: Mapping[str, float]) -> str:
    """Ray's name of the type of a node's GPUs ("H100"), which it offers as a resource; "" without one."""
    return next((name.removeprefix(GPU_TYPE) for name in resources if name.startswith(GPU_TYPE)), "")


def _wait_for_nodes(report: Callable[[str], object]) -> None:
    """Waits until the cluster has as many nodes as UNDERTOW_NODES says; returns at once if it is not set.

    The nodes of a Slurm job start one after the other, and a sweep divides the machine among engines and
    trainings once, at its start: nodes that join later would be idle and paid for. Raises UserError.
    """
    import ray

    text = os.environ.get(NODES, "")
    if not text:
        return
    if not (text.isdecimal() and int(text)):
        raise UserError(f"{NODES} = {text!r}: write the number of nodes of the cluster, or unset it")
    deadline, before = time.monotonic() + JOIN_SECONDS, -1
    while (joined := sum(node["Alive"] for node in ray.nodes())) < int(text):
        if time.monotonic() > deadline:
            raise UserError(
                f"{NODES} = {text}: {joined} nodes have joined after {JOIN_SECONDS:.0f} seconds; see the "
                "logs of `ray start` on the others, or set it to the number of nodes that there are"
            )
        if joined != before:
            report(f"waiting for Ray's nodes: {joined} of {text} have joined")
        before = joined
        time.sleep(1.0)


@contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Restores this program's handler of SIGTERM when the block ends.

    `ray.init` replaces it with one that exits with code 15 and without a message.
    """
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # Without a handler of the program, Ray's is better than none: it lets `finally` blocks run.
        if callable(handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Context manager that discards what is written to the file descriptor of stderr, also by C++ code.

    Ray's core announces there that its log level was set. Errors of `ray.init` are exceptions.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _init(address: str | None) -> str:
    """Joins or starts Ray. Returns HOST:PORT of its dashboard; "" if it has none."""
    import ray

    if address:
        os.environ.pop(LOCAL, None)
        check_address(address)
        try:
            context = ray.init(
                address=address,
                runtime_env={"py_modules": [str(Path(__file__).parents[1])]},
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        # The address is the only input: another version of Ray or Python, a missing token, a full disk.
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise UserError(f"RAY_ADDRESS={address}: {' '.join(str(error).split())}") from error
        return context.dashboard_url or ""
    _start_local()
    return ""


def _start_local() -> None:
    """Starts a local Ray, again if its processes were not up within the 30 seconds that Ray allows.

    They are late on a machine that other programs keep busy. The next attempt finds their files in memory.
    Processes of a failed attempt end with this program (Ray's exit handler). Raises UserError.
    """
    import ray

    os.environ[LOCAL] = "1"
    # Saves one process per worker group; a local Ray cannot be preempted.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    for _ in range(STARTS):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=os.environ.get("UNDERTOW_RAY_TMP"),
            )
        except Exception as error:  # Ray raises no narrower class
            if LATE not in str(error):
                raise
        else:
            return
    raise UserError(
        f"Ray did not start within 30 seconds, {STARTS} times: the machine is busy; end other programs, "
        "then run the same command again"
    )


def cpu_count() -> int:
    """The CPUs of all nodes of the cluster."""
    import ray

    return int(ray.cluster_resources().get("CPU", 1))


def places_up(machine: Machine) -> float:
    """The GPUs of all nodes that are up now, or their CPUs if the sweep uses no GPUs."""
    import ray

    return float(ray.cluster_resources().get("GPU" if machine.gpus else "CPU", 0))


def check_reach(store: Store, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Raises StorageError naming a node that cannot read what this process writes into the storage.

    A folder that is not shared, a missing package or missing credentials would otherwise show hours later, on
    the first node that makes an artifact.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    scratch = f"reach-{uuid.uuid4().hex}"
    name = f"partial/{scratch}"
    store.write_bytes(name, name.encode())
    task = ray.remote(num_cpus=0, max_retries=0)(_cannot_read)
    answers = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            store, name
        )
        for node in nodes
    ]
    try:
        for node, answer in zip(nodes, answers, strict=True):
            try:
                reason = ray.get(answer)
            except ray.exceptions.RayError as error:  # the node lacks packages, or left
                reason = last_line(error) if _is_alive(node) else ""
            if reason:
                name_of_node = f"{node['NodeManagerHostname']} ({node['NodeID'][:8]})"
                raise StorageError(f"--storage {store.url}: node {name_of_node} cannot use it: {reason}")
    finally:
        store.drop_scratch(scratch)


def _is_alive(node: Mapping[str, Any]) -> bool:
    """Whether a node is still in the cluster; one that left needs no storage."""
    import ray

    return any(now["Alive"] for now in ray.nodes() if now["NodeID"] == node["NodeID"])


def _cannot_read(store: Store, name: str) -> str:
    """Why this node does not find a file of the storage; "" if it does."""
    try:
        found = store.read_bytes(name) == name.encode()
    except Exception as error:  # every filesystem has its own errors
        return last_line(error)
    return (
        "" if found else "a file that the driver wrote is missing there; share the storage between all nodes"
    )


def spread(function: Callable[[Shared, Item], Result], shared: Shared, items: Sequence[Item]) -> list[Result]:
    """Calls `function(shared, item)` for every item over Ray, on one CPU each; results in order of the items.

    `shared` is sent once. The first failure ends the call.
    """
    with connect():
        import ray

        task = ray.remote(num_cpus=1)(function)
        shared_ref = ray.put(shared)
        results: list[Result] = ray.get([task.remote(shared_ref, item) for item in items])
        return results
