"""A sweep without barriers (`--overlap`): a student starts when its data set is complete.

An evaluation starts when its student is trained, and engines stay up while there is work for them. What runs
when is decided by `schedule.Overlapping`, which follows from the graph of the plan; `session` runs it on Ray.
Specs, stages, leases, failure rules and stored bytes are those of `waves`.

Sweeps of models that a provider samples or trains run in waves: `provider_jobs` follows a fixed list of jobs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from undertow.cluster.connection import cpu_count
from undertow.engines.registry import engine_for
from undertow.errors import UserError
from undertow.planning import timings
from undertow.planning.artifact_kinds import runs_on, wave_of
from undertow.planning.costs import START_SECONDS, Hardware, cost_of
from undertow.planning.given_models import is_nano
from undertow.planning.model_sizes import parameters
from undertow.planning.plan import Plan
from undertow.planning.resources import Machine
from undertow.planning.timings import Pace
from undertow.storage.leases import Leases
from undertow.study.identity import key
from undertow.study.references import Artifact, Reference
from undertow.sweep.executors import Executors, leased_by
from undertow.sweep.graph import graph, step_of
from undertow.sweep.progress import print_line
from undertow.sweep.schedule import Overlapping
from undertow.sweep.scheduled_jobs import Capacity


def reason_for_waves(plan: Plan, machine: Machine) -> str:
    """Why a sweep must run in waves; "" if it can overlap."""
    local = _on_workers(plan)
    if any(map(_is_called, local)):
        return "models of a provider are called"
    # Threads change rounding. In waves, the number of threads follows from the models of a whole step.
    if machine.whole is not None and len(set(map(is_nano, local))) > 1:
        return "nano and larger models share CPUs"
    # Engines that wait for the students of a worker group could each hold a part of a GPU or a node. The
    # group would find no whole one and never start.
    used = machine.for_models(tiny=all(map(is_nano, local)))
    if 0 < used.gpus_per_engine < 1 or used.cpus_per_engine < used.cpus_per_worker:
        return "engines take parts of GPUs or nodes, and worker groups need whole ones"
    return ""


def _is_called(reference: Reference) -> bool:
    """Whether the driver calls the model instead of loading it on a worker."""
    try:
        return reference.is_api or engine_for(reference).runs_in_driver
    except UserError:  # no engine serves it, which is a failure of its artifacts
        return False


def _on_workers(plan: Plan) -> list[Reference]:
    """The reference models that the missing artifacts train or run on engines."""
    found = (runs_on(artifact) for artifact in plan.lacking(Artifact) if step_of(artifact).by != "tasks")
    return list(dict.fromkeys(reference for reference in found if reference is not None))


@dataclass(frozen=True)
class OverlappingSweep:
    """Makes a plan's missing artifacts, each once, also if other sweeps work on the same storage.

    Attributes:
        hardware: for estimates of work whose speed was not measured on the storage.
    """

    executors: Executors
    leases: Leases
    hardware: Hardware

    def make(self, machine: Machine) -> None:
        """Makes everything that this sweep can lease, until nothing is missing that can be made."""
        from undertow.sweep.session import Session

        self.executors.events.gpus = machine.gpus
        machine = machine.for_models(tiny=all(map(is_nano, _on_workers(self.executors.plan))))
        capacity = Capacity.of(machine)
        if not machine.gpus:  # `--engines 1 --trainings 1` on two CPUs: one of each at the same time
            capacity = replace(capacity, places=max(capacity.places, cpu_count()))
        paces = timings.read(self.executors.store)

        def seconds(artifact: Artifact) -> float:
            return estimated_seconds(artifact, paces, machine, capacity, self.hardware)

        def make(mine: Sequence[Artifact]) -> None:
            artifacts = {key(artifact): artifact for artifact in mine}
            works = [work for work in graph(self.executors.plan, seconds) if work.key in artifacts]
            schedule = Overlapping(works, capacity, self._start_seconds(machine))
            Session(self.executors, machine, schedule, artifacts).run()

        def report(line: str) -> None:
            print_line(line, self.executors.console)

        missing = self.executors.plan.lacking(Artifact)
        possible = partial(self.executors.possible, missing)
        self.leases.share(possible, make, report, by=leased_by, choose=_makeable)

    def _start_seconds(self, machine: Machine) -> float:
        """The estimated seconds of the start of an engine or a worker group."""
        if all(map(is_nano, _on_workers(self.executors.plan))):
            return timings.NANO["students"].start * machine.slots  # as in a step, in which all start at once
        return START_SECONDS


def _makeable(mine: list[Artifact], missing: list[Artifact]) -> list[Artifact]:
    """Those of `mine` that no artifact that another sweep makes is an input of, directly or not."""
    elsewhere = set(map(key, missing)) - set(map(key, mine))
    if not elsewhere:
        return mine
    return [a for a in mine if not any(key(b) in elsewhere for b in a.with_ancestors() if b.is_stored)]


def estimated_seconds(
    artifact: Artifact, paces: Mapping[str, Pace], machine: Machine, capacity: Capacity, hardware: Hardware
) -> float:
    """The time of one engine or worker group for an artifact, for the order and the shares of a schedule.

    From the speed that was measured on the storage, else from the model's size, else the number of units.
    """
    size, by = timings.expected_units(artifact), step_of(artifact).by
    if pace := timings.pace_of(wave_of(artifact), artifact, paces):
        return pace.seconds * size * (machine.slots if by == "training" else machine.actors)
    reference = runs_on(artifact)
    count = parameters(reference) if reference else None
    if not size or count is None:
        return float(size)
    places = capacity.per_group if by == "training" else capacity.per_engine
    return cost_of(artifact, count, hardware).seconds / places
