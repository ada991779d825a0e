"""How the CPUs and GPUs of a machine or a cluster are divided among engines and training workers.

Arithmetic alone, without Ray: what there is (`Node`), what was asked for (`Layout`), and what follows
(`Machine`). All of it says how fast; but for rounding none of it says what comes out, so none is in a key.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from undertow.errors import UserError

ON_DEMAND = "UNDERTOW_GPUS"  # set by the cluster's own file, where machines with GPUs start on demand


@dataclass(frozen=True)
class Node:
    """What one node of the cluster offers, in whole CPUs and GPUs."""

    cpus: int
    gpus: int = 0


@dataclass(frozen=True)
class Layout:
    """What was asked for on the command line.

    Attributes:
        workers: Ray Train workers a training run.
        engines: engines at work at the same time, at most; None for as many as there is room for.
        trainings: worker groups that train at the same time, likewise.
        gpus_per_engine: above 1 a whole number, over which each layer is split (tensor parallelism); below 1
            a share (1/2, 1/3 …), for small models that are better off several to a GPU.
        max_num_seqs: answers that an engine generates at the same time; None for the engine's default.
    """

    workers: int = 1
    engines: int | None = None
    trainings: int | None = None
    gpus_per_engine: float = 1.0
    max_num_seqs: int | None = None

    def __post_init__(self) -> None:
        for flag, number in (
            ("--workers", self.workers),
            ("--engines", self.engines),
            ("--trainings", self.trainings),
            ("--max-num-seqs", self.max_num_seqs),
        ):
            if number is not None and number < 1:
                raise UserError(f"{flag} {number}: at least 1 is needed")
        share = self.gpus_per_engine
        if share <= 0 or (share % 1 if share > 1 else abs(round(1 / share) * share - 1) > 0.02):
            raise UserError(
                f"--gpus-per-engine {share:g}: a whole number of GPUs, or a share of one as 0.5, 0.33, 0.25"
            )

    def engines_on(self, node: Node) -> int:
        """How many engines a node's GPUs hold; each has a CPU too."""
        share = self.gpus_per_engine
        on_gpus = node.gpus // int(share) if share >= 1 else node.gpus * round(1 / share)
        return min(on_gpus, node.cpus)


@dataclass(frozen=True)
class Machine:
    """How much is at work at the same time, and on what.

    Attributes:
        actors: vLLM engines.
        slots: worker groups that train, each of `workers` workers.
        ahead: groups whose driver starts while the others are at work, and then waits for room; none where
            fewer groups were asked for than there is room for.
        gpus_per_engine: see `Layout`; 0 on CPUs.
        gpus: all that there are.
    """

    actors: int
    slots: int
    workers: int
    cpus_per_engine: int = 1
    gpus_per_engine: float = 0
    gpus_per_worker: int = 0
    gpus: int = 0
    max_num_seqs: int | None = None
    ahead: int = 1

    @classmethod
    def of(cls, nodes: Sequence[Node], layout: Layout) -> "Machine":
        """GPUs, where there are any, go to engines and workers; else CPUs do, one each.

        An engine lies on one node, a worker group may span several. Raises UserError for a layout that the
        nodes have no room for.
        """
        gpus = sum(node.gpus for node in nodes)
        units, what = (gpus, "GPUs") if gpus else (sum(node.cpus for node in nodes), "CPUs")
        if layout.workers > units:
            raise UserError(
                f"--workers {layout.workers}: the machine has {units} {what}; ask for at most {units}"
            )
        room = sum(map(layout.engines_on, nodes)) if gpus else units
        if not room:
            most = max(node.gpus for node in nodes)
            raise UserError(
                f"--gpus-per-engine {layout.gpus_per_engine:g}: no node has more than {most} GPUs, and an "
                f"engine lies on one; ask for at most {most}"
            )
        slots = units // layout.workers
        return cls(
            actors=min(room, layout.engines or room),
            slots=min(slots, layout.trainings or slots),
            workers=layout.workers,
            gpus_per_engine=layout.gpus_per_engine if gpus else 0,
            gpus_per_worker=1 if gpus else 0,
            gpus=gpus,
            max_num_seqs=layout.max_num_seqs,
            ahead=int(layout.trainings is None or layout.trainings > slots),
        )

    def share(self, parts: int) -> "Machine":
        """A part of the engines, for pipelines that run side by side."""
        return replace(self, actors=max(1, self.actors // parts))

    def engine_settings(self) -> dict[str, Any]:
        """What an engine's `runtime.Settings` take from here."""
        chosen: dict[str, Any] = {"max_num_seqs": self.max_num_seqs} if self.max_num_seqs else {}
        if self.gpus_per_engine > 1:
            chosen["tensor_parallel"] = int(self.gpus_per_engine)
        elif 0 < self.gpus_per_engine < 1:
            chosen["gpu_share"] = self.gpus_per_engine
        return chosen


def planned(up: Sequence[Node], environment: Mapping[str, str] | None = None) -> list[Node]:
    """The nodes to plan for: those that are up or, where they are more, those that UNDERTOW_GPUS declares.

    A cluster that starts its GPUs on demand has none when a sweep begins, and Ray tells nobody what it could
    start. So the cluster's own file says it: "8x1" is eight nodes of one GPU each. Raises UserError.
    """
    text = (os.environ if environment is None else environment).get(ON_DEMAND, "")
    if not text:
        return list(up)
    count, _, each = text.partition("x")
    if not (count.isdecimal() and each.isdecimal() and int(count) and int(each)):
        raise UserError(f"{ON_DEMAND} = {text!r}: write NODESxGPUS, such as 8x1 for 8 nodes of 1 GPU each")
    declared = int(count) * int(each)
    if declared <= sum(node.gpus for node in up):
        return list(up)
    return [Node(cpus=sys.maxsize, gpus=int(each))] * int(count)  # GPUs are what is scarce there
