"""What a schedule divides and starts: the places of a machine, the jobs on them, and the actions to apply."""

from collections.abc import Hashable
from dataclasses import dataclass

from undertow.planning.resources import Machine
from undertow.sweep.graph import Step


@dataclass(frozen=True)
class Capacity:
    """The places of a machine (GPUs, or CPUs if it has none), and how many engines and groups occupy.

    Attributes:
        engines, groups: the maximum numbers of concurrent engines and worker groups.
        per_engine, per_group: the places that each of them occupies.
    """

    places: float
    engines: int
    groups: int
    per_engine: float = 1.0
    per_group: float = 1.0

    @classmethod
    def of(cls, machine: Machine) -> "Capacity":
        if machine.gpus:
            per_group = float(machine.workers * machine.gpus_per_worker)
            return cls(machine.gpus, machine.actors, machine.slots, machine.gpus_per_engine, per_group)
        per_engine = float(machine.cpus_per_engine)
        per_group = float(machine.workers * machine.cpus_per_worker)
        places = max(machine.actors * per_engine, machine.slots * per_group)
        return cls(places, machine.actors, machine.slots, per_engine, per_group)


@dataclass(eq=False)
class Job:
    """An engine, a worker group, a task, or a provider's job, from its start to its end.

    Attributes:
        step: the step of its first artifact.
        pool: of an engine (see `Work.pool`).
        keys: the artifacts that it makes one after the other; empty for an engine, which is given parts.
        places: how many places it occupies.
        is_up, is_stopping: whether its start has ended, and whether an engine was told to stop.
        part: the key and the number of the part that an engine works on.
    """

    step: Step
    pool: Hashable = None
    keys: tuple[str, ...] = ()
    places: float = 0.0
    is_up: bool = False
    is_stopping: bool = False
    part: tuple[str, int] | None = None

    @property
    def is_engine(self) -> bool:
        return self.step.by == "engines"

    @property
    def is_idle(self) -> bool:
        """Whether it is an engine that has started and has nothing to do."""
        return self.is_engine and self.is_up and self.part is None


@dataclass(frozen=True)
class Start:
    """Start a job. The caller reports `Schedule.up` for an engine, and `Schedule.ended` for any other job."""

    job: Job


@dataclass(frozen=True)
class Give:
    """Let an engine make a part of an artifact. The caller reports `part_done`, after `fail` if it failed."""

    engine: Job
    key: str
    part: int


@dataclass(frozen=True)
class Stop:
    """Stop an idle engine. The caller reports `Schedule.ended` when its place is free."""

    engine: Job


Action = Start | Give | Stop
