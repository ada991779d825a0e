"""Whether all nodes that a sweep would use support bf16."""

import os

from undertow.engines.bf16_trial import supports_bf16
from undertow.errors import UserError, last_line
from undertow.planning.resources import ON_DEMAND


def all_support_bf16() -> bool:
    """Whether this machine, or every node of the cluster that RAY_ADDRESS names, supports bf16.

    In a cluster with GPUs, only the nodes with GPUs are asked: the others run no engine and no training.
    GPUs that start on demand are expected to support it. Raises UserError if a node does not answer.
    """
    if not os.environ.get("RAY_ADDRESS"):
        return supports_bf16()
    if os.environ.get(ON_DEMAND):
        return True
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from undertow.cluster.connection import connect

    with connect():
        nodes = [node for node in ray.nodes() if node["Alive"]]
        with_gpus = [node for node in nodes if node["Resources"].get("GPU")]
        task = ray.remote(num_cpus=0)(_trial)
        places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in with_gpus or nodes]
        try:
            return all(ray.get([task.options(scheduling_strategy=place).remote() for place in places]))
        except ray.exceptions.RayError as error:  # the node left, or lacks this package
            raise UserError(
                f"a node cannot tell whether it supports bf16 ({last_line(error)}); repair the cluster, or "
                'state the precision in place of "auto"'
            ) from None


def _trial() -> bool:
    """`supports_bf16`, which Ray does not accept as a task because it is cached."""
    return supports_bf16()
