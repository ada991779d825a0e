"""A sweep without barriers: runs an overlapping schedule on Ray, for machines with GPUs (`--overlap`).

The main thread decides (`sweep.schedule`), and one thread drives each job:

    worker group   Ray Tune and Ray Train (`stages.finetuning`)
    engine         one actor (`cluster.engine_worker`)
    tasks          Ray tasks (`cluster.tasks`)

Threads report through a queue, so that only the main thread changes the schedule, the event log and the link
to MLflow. Failure rules, leases and stored bytes are those of `sweep.waves`. Sweeps that call judges or
providers run in waves: their calls are made from the main thread, where Ctrl-C interrupts them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from undertow.planning import timings
from undertow.planning.costs import Hardware
from undertow.planning.plan import failed_by
from undertow.planning.resources import Machine
from undertow.storage.leases import POLL_SECONDS, Leases
from undertow.study.artifacts import Artifact, Dataset
from undertow.study.identity import key
from undertow.study.measurements import Assessment
from undertow.sweep.executors import Executors
from undertow.sweep.progress import print_line
from undertow.sweep.scheduled_jobs import Capacity


def calls_from_driver(executors: Executors) -> bool:
    """Whether the sweep calls judges or providers, whose calls are made from the main thread."""
    from undertow.stages.judgements import models_of

    missing = [executors.plan.artifacts[k] for k in executors.plan.missing]
    judged = [a for a in missing if isinstance(a, Dataset | Assessment)]
    return any(map(models_of, judged)) or any(map(timings.is_at_provider, missing))


@dataclass(frozen=True)
class OverlappingSweep:
    """Makes a plan's missing artifacts, each once, also if other sweeps work on the same storage."""

    executors: Executors
    leases: Leases
    hardware: Hardware

    def make(self, machine: Machine, places: float) -> None:
        """Makes everything that this sweep can lease, until nothing is missing that can be made.

        Args:
            places: the GPUs of the machine, or its CPUs if it has none.
        """
        from undertow.sweep.session import Session

        executors, capacity = self.executors, replace(Capacity.of(machine), places=places)
        executors.events.gpus = machine.gpus
        tried, is_waiting = set[str](), False
        while todo := [artifact for artifact in self._possible() if key(artifact) not in tried]:
            taken = self.leases.each(self.leases.take, todo)
            held = [artifact for artifact, is_mine in zip(todo, taken, strict=True) if is_mine]
            try:
                # Another sweep may have made an artifact and released its lease since `_possible`.
                made = self.leases.each(executors.store.has, held)
                missing = [artifact for artifact, is_made in zip(held, made, strict=True) if not is_made]
                mine = self._makeable(missing, todo)
                if mine:
                    Session(executors, machine, capacity, self.hardware, mine).run()
            finally:
                self.leases.each(self.leases.release, held)
            tried |= set(map(key, mine))
            if not mine:
                if not is_waiting:
                    line = f"waiting for {len(todo)} artifacts that another sweep is making"
                    print_line(line, executors.console)
                is_waiting = True
                time.sleep(POLL_SECONDS)

    def _possible(self) -> list[Artifact]:
        """The missing artifacts that do not depend on a failed one, in the order of the plan."""
        plan, store, failures = self.executors.plan, self.executors.store, self.executors.events.failures
        missing = [artifact for name, artifact in plan.artifacts.items() if name in plan.missing]
        made = {kind: store.keys(kind) for kind in {artifact.kind for artifact in missing}}
        missing = [artifact for artifact in missing if key(artifact) not in made[artifact.kind]]
        return [artifact for artifact in missing if not failed_by(artifact, failures)]

    @staticmethod
    def _makeable(mine: Sequence[Artifact], missing: Sequence[Artifact]) -> list[Artifact]:
        """Those of `mine` that no artifact that another sweep makes is an input of, directly or not."""
        elsewhere = set(map(key, missing)) - set(map(key, mine))
        if not elsewhere:
            return list(mine)
        return [a for a in mine if not any(key(b) in elsewhere for b in a.with_ancestors() if b.is_stored)]
