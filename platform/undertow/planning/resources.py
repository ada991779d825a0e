"""Divides the CPUs and GPUs of a machine or a cluster among engines and training workers.

Arithmetic without Ray: the resources (`Node`), the user's settings (`Layout`) and the result (`Machine`).
These settings affect speed, not results (up to rounding), so they are not part of any key.
"""

import heapq
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from undertow.errors import UserError

# Set in cluster files whose nodes start on demand.
ON_DEMAND, CPUS_ON_DEMAND = "UNDERTOW_GPUS", "UNDERTOW_CPUS"
START_SHARE = 0.25  # assumed: a worker group starts in a minute, a large model trains for several


@dataclass(frozen=True)
class Node:
    """The whole CPUs and GPUs of one node, and Ray's name of the type of its GPUs ("" if unknown)."""

    cpus: int
    gpus: int = 0
    gpu_type: str = ""


@dataclass(frozen=True)
class Layout:
    """The settings on the command line.

    Attributes:
        workers: Ray Train workers per training run.
        engines: the maximum number of concurrent engines; None for as many as fit.
        trainings: the maximum number of worker groups that train concurrently; None for as many as fit.
        gpus_per_engine: above 1 a whole number of GPUs, over which each layer is split (tensor parallelism);
            below 1 a share (1/2, 1/3 …), for small models of which several fit on a GPU.
        max_num_seqs: answers that an engine generates concurrently; None for the engine's default.
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
                raise UserError(f"{flag} {number}: must be at least 1")
        share = self.gpus_per_engine
        # 1/3 can only be given rounded (0.33), hence the tolerance of 2% from a whole number per GPU.
        if share <= 0 or (share % 1 if share > 1 else abs(round(1 / share) * share - 1) > 0.02):
            raise UserError(
                f"--gpus-per-engine {share:g}: a whole number of GPUs, or a share of one as 0.5, 0.33, 0.25"
            )

    def engines_on(self, node: Node) -> int:
        """How many engines fit on a node's GPUs; each also needs a CPU."""
        share = self.gpus_per_engine
        on_gpus = node.gpus // int(share) if share >= 1 else node.gpus * round(1 / share)
        return min(on_gpus, node.cpus)


@dataclass(frozen=True)
class Machine:
    """How much runs concurrently, and with which resources.

    Attributes:
        actors: concurrent engines.
        slots: concurrent worker groups, each of `workers` workers.
        cpus_per_engine, cpus_per_worker: CPUs that each reserves; on CPUs also its number of threads.
        ahead: worker groups whose driver starts early and waits until a slot is free; 0 if the user limited
            the groups to fewer than fit.
        gpus_per_engine: see `Layout`; 0 on CPUs.
        gpus: all GPUs of the nodes.
        whole: the division of the CPUs for models that use more than one core; None on GPUs.
        gpu_types: Ray's names of the types of the GPUs; "" is one of them if a node does not state it.
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
    cpus_per_worker: int = 1
    whole: "Machine | None" = None
    gpu_types: frozenset[str] = frozenset()

    @classmethod
    def of(cls, nodes: Sequence[Node], layout: Layout) -> "Machine":
        """Divides the nodes' GPUs, or their CPUs if there are none, among engines and workers.

        An engine runs on one node, a worker group may span several. Raises UserError for a layout that does
        not fit.
        """
        gpus = sum(node.gpus for node in nodes)
        # Without GPUs, every engine and every worker occupies one CPU.
        units, noun = (gpus, "GPUs") if gpus else (sum(node.cpus for node in nodes), "CPUs")
        if layout.workers > units:
            raise UserError(
                f"--workers {layout.workers}: the machine has {units} {noun}; use at most {units}"
            )
        capacity = sum(map(layout.engines_on, nodes)) if gpus else units
        if not capacity:
            most = max(node.gpus for node in nodes)
            raise UserError(
                f"--gpus-per-engine {layout.gpus_per_engine:g}: no node has more than {most} GPUs, and an "
                f"engine runs on one node; use at most {most}"
            )
        slots = units // layout.workers
        return cls(
            actors=min(capacity, layout.engines or capacity),
            slots=min(slots, layout.trainings or slots),
            workers=layout.workers,
            gpus_per_engine=layout.gpus_per_engine if gpus else 0,
            gpus_per_worker=1 if gpus else 0,
            gpus=gpus,
            gpu_types=frozenset(node.gpu_type for node in nodes if node.gpus),
            max_num_seqs=layout.max_num_seqs,
            ahead=int(layout.trainings is None or layout.trainings > slots),
            whole=None if gpus else cls._of_whole_nodes(nodes, layout),
        )

    @classmethod
    def _of_whole_nodes(cls, nodes: Sequence[Node], layout: Layout) -> "Machine":
        """Divides CPUs so that few engines and worker groups use all cores, instead of one core each.

        Unless the layout says otherwise there is one engine, and one worker, per node. Threads follow from
        the nodes and the layout alone, never from what runs at the moment: a different number of threads
        rounds differently, and the same command gives the same bytes.
        """
        total = sum(node.cpus for node in nodes)
        engines = min(layout.engines or len(nodes), total)
        trainings = min(layout.trainings or max(1, len(nodes) // layout.workers), total // layout.workers)

        def cpus_of(processes: int) -> int:
            """The most CPUs of each of so many processes, of which each runs on one node."""
            least, most = 1, min(node.cpus for node in nodes)
            fits = (n for n in range(most, least, -1) if sum(node.cpus // n for node in nodes) >= processes)
            return next(fits, least)

        return cls(
            actors=engines,
            slots=trainings,
            workers=layout.workers,
            cpus_per_engine=cpus_of(engines),
            cpus_per_worker=cpus_of(trainings * layout.workers),
            max_num_seqs=layout.max_num_seqs,
            ahead=0,  # a controller that starts early competes with the group that uses all cores
        )

    def for_models(self, *, tiny: bool) -> "Machine":
        """The division of the machine for some models.

        Args:
            tiny: whether all of them are nano models, for which a second thread costs more than it gains.
        """
        return self if tiny or self.whole is None else self.whole

    def share(self, parts: int) -> "Machine":
        """An equal share of the engines for each of `parts` concurrent pipelines."""
        return replace(self, actors=max(1, self.actors // parts))

    def engine_settings(self) -> dict[str, Any]:
        """The part of `engines.runtime.EngineSettings` that follows from the layout."""
        chosen: dict[str, Any] = {"max_num_seqs": self.max_num_seqs} if self.max_num_seqs else {}
        if not self.gpus_per_engine:
            chosen["threads"] = self.cpus_per_engine
        if self.gpus_per_engine > 1:
            chosen["tensor_parallel"] = int(self.gpus_per_engine)
        elif 0 < self.gpus_per_engine < 1:
            chosen["gpu_share"] = self.gpus_per_engine
        return chosen


def planned(running: Sequence[Node], environment: Mapping[str, str] | None = None) -> list[Node]:
    """The nodes to plan for: the running ones or, if they have fewer GPUs or CPUs, the declared ones.

    A cluster that starts nodes on demand may have none when a sweep begins, and Ray has no API for those that
    it could start. The cluster file therefore declares them: UNDERTOW_GPUS=8x1 is eight nodes of one GPU,
    UNDERTOW_CPUS=4x16 four nodes of 16 CPUs. CPUs count only where there are no GPUs. Raises UserError
    for any other text, and for a cluster without CPUs and GPUs that declares none.
    """
    variables = os.environ if environment is None else environment
    gpus, cpus = _declared(variables, ON_DEMAND, "GPU"), _declared(variables, CPUS_ON_DEMAND, "CPU")
    running_gpus, running_cpus = sum(node.gpus for node in running), sum(node.cpus for node in running)
    if gpus and gpus[0] * gpus[1] > running_gpus:
        return [Node(cpus=sys.maxsize, gpus=gpus[1])] * gpus[0]  # GPUs are the limit there, not CPUs
    if cpus and not running_gpus and cpus[0] * cpus[1] > running_cpus:
        return [Node(cpus=cpus[1])] * cpus[0]
    if not (running_gpus or running_cpus):
        raise UserError(
            "the cluster has no CPUs and no GPUs now; if it starts nodes on demand, declare them: "
            f"{ON_DEMAND}=8x1 for 8 nodes of 1 GPU each, or {CPUS_ON_DEMAND}=4x16 for 4 nodes of 16 CPUs each"
        )
    return list(running)


def waiting_line(running: Sequence[Node], declared: Sequence[Node]) -> str:
    """What a sweep waits for that is planned for declared nodes, which start on demand."""
    unit = "GPUs" if declared[0].gpus else "CPUs"
    now, all_ = (sum(n.gpus if unit == "GPUs" else n.cpus for n in nodes) for nodes in (running, declared))
    return (
        f"waiting for nodes: {now} of the {all_} declared {unit} are running; the cluster starts the others "
        "when there is work"
    )


def _declared(variables: Mapping[str, str], name: str, unit: str) -> tuple[int, int] | None:
    """The number of declared nodes and what each has; None without a declaration. Raises UserError."""
    text = variables.get(name, "")
    if not text:
        return None
    count, _, each = text.partition("x")
    if not (count.isdecimal() and each.isdecimal() and int(count) and int(each)):
        raise UserError(f"{name} = {text!r}: write NODESx{unit}S, such as 8x1 for 8 nodes of 1 {unit} each")
    return int(count), int(each)


def parts_of(sizes: Sequence[int], slots: int, start: float = START_SHARE) -> int:
    """How many worker groups the models of each condition are divided into, so that slots work to the end.

    Nine conditions of 30 models on 8 slots, for example: nine groups would take as long as 60 models, and 72
    groups, eight per condition, take as long as 36.

    Args:
        sizes: the numbers of models of the conditions.
        start: what the start of a worker group costs, in trainings of a model; infinite to divide only for
            slots that would have no group at all.
    """
    fewest = max(1, slots // max(1, len(sizes)))

    def duration(parts: int) -> float:
        """In trainings of a model, if each slot takes the next group when it is free."""
        ends = [0.0] * slots  # a heap
        for size in sizes:
            for part in range(min(parts, size)):
                models = size // parts + (part < size % parts)
                heapq.heapreplace(ends, ends[0] + models + start)
        return max(ends)

    if sum(min(fewest, size) for size in sizes) <= slots:
        return fewest
    return min(range(fewest, max(fewest, *sizes) + 1), key=duration)
