"""Trains a group of models in a worker group of Ray Train with DeepSpeed, again if it loses a node.

A node that leaves is not a failure of the models trained on it: the group is trained again, and resumes from
the checkpoints of the training loop. Any other failure is returned as a reason.
"""

import time
from collections.abc import Callable
from typing import Any

from undertow.cluster.worker_failures import LOST_NODES, TRAINING, in_words, lost_node
from undertow.planning.given_models import is_nano
from undertow.planning.resources import Machine
from undertow.stages.training_group import Group, train_group
from undertow.storage.store import Store
from undertow.study.identity import key

# Tokens per micro-batch. Small ones have less padding, which costs a CPU as much as other tokens: with 4,096
# the format tuning of SmolLM2 took 1.4 times as long.
MICRO_TOKENS, CPU_MICRO_TOKENS = 4096, 1024
NODE_LOSS_SECONDS = 30.0  # by its default settings Ray notices a vanished node within 15 seconds


def train_in_workers(group: Group, store: Store, machine: Machine, reports: Any, scratch: str) -> str:
    """Trains a group of models in a Ray Train worker group; returns why it failed, or "".

    Args:
        reports: the queue to which the workers report.
        scratch: the name of the folder of Ray's own state.
    """
    import ray.train

    from undertow.cluster.trainer import make_trainer

    on_gpu = machine.gpus_per_worker > 0
    # Rounding depends on the threads and on the micro-batches, so nano models have the same on every machine.
    nano = is_nano(group.models[0].reference)
    threads = 1 if nano else machine.cpus_per_worker
    micro_tokens = MICRO_TOKENS if nano or on_gpu else CPU_MICRO_TOKENS
    config = {
        "group": group,
        "store": store,
        "reports": reports,
        "threads": threads,
        "micro_tokens": micro_tokens,
    }

    def fit() -> None:
        make_trainer(
            train_group,
            on_gpu=on_gpu,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(
                num_workers=machine.workers,
                use_gpu=on_gpu,
                # As by default, a worker on a GPU reserves no CPU: some nodes have more GPUs than CPUs.
                resources_per_worker={"GPU": 1} if on_gpu else {"CPU": threads},
            ),
            run_config=ray.train.RunConfig(
                name=f"group-{key(group.models[0])}",
                failure_config=ray.train.FailureConfig(max_failures=1),
                **store.for_arrow(scratch),
            ),
        ).fit()

    return attempt(fit, machine.workers)


def attempt(fit: Callable[[], None], workers: int) -> str:
    """Trains a group, and again for each node that is lost; returns why it failed, or ""."""
    reason = ""
    for attempts in range(1, 2 + LOST_NODES):
        before = _nodes()
        try:
            fit()
        except Exception as error:  # from Train, a worker or the controller
            reason = in_words(error, TRAINING, attempts)
            if not (lost_node(error) or (workers > 1 and _lost_any(before))):
                return reason
        else:
            return ""
    return reason


def _nodes() -> set[str]:
    """The ids of the live nodes."""
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _lost_any(before: set[str]) -> bool:
    """Whether one of the nodes has left the cluster.

    The other workers of a group fail at once (their connection breaks), but Ray notices the lost node only
    after missed heartbeats, so that this function waits for up to `NODE_LOSS_SECONDS`.
    """
    deadline = time.monotonic() + NODE_LOSS_SECONDS
    while not (lost := before - _nodes()) and time.monotonic() < deadline:
        time.sleep(1.0)
    return bool(lost)
