"""The durations and the loads of a simulated cluster (`benchmarks/cluster.py`), measured or assumed.

Every number here that no sweep has measured is an assumption, and the output of the simulator says so.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.cluster_simulation import Outcome
from undertow.errors import UserError
from undertow.planning import capacity, timings
from undertow.planning.artifact_kinds import runs_on, units, wave_of
from undertow.planning.costs import BYTES_PER_PARAMETER, Hardware, cost_of
from undertow.planning.model_sizes import parameters
from undertow.planning.plan import Plan
from undertow.planning.timings import NANO, Pace
from undertow.stages.training_group import recipe_of
from undertow.study.identity import key
from undertow.study.measurements import Evaluation
from undertow.study.references import Artifact
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.sweep.graph import Means, Work, step_of
from undertow.sweep.scheduled_jobs import Job
from undertow.tracking.link import BATCHES_SHARE, SECONDS_BETWEEN_BATCHES

# Assumptions about the services around the GPUs.
REQUESTS_PER_SECOND = 3500.0  # writes per prefix that Amazon S3 documents
REQUESTS_PER_ARTIFACT = 15.0  # lease, listing, manifest and files
BYTES_PER_SECOND = 1e9  # between one node and the storage
MLFLOW_CALL = 0.05  # seconds of a call that logs a batch of values
MLFLOW_RUN = 0.5  # seconds to create and to end the run of an artifact
HEAD_CPUS = 8
HEAD_GROUP = 10.0  # CPU seconds of the head node for the trial and the controller of one worker group
HEAD_PART = 0.05  # CPU seconds of the head node for one task, model or part of an artifact
LISTING = 0.1  # seconds to list 1,000 names


@dataclass(frozen=True)
class Durations:
    """The seconds that one engine, worker group or task takes for an artifact, and where they come from.

    The measured speeds are those of a whole machine, on which several engines or worker groups ran at a time.

    Attributes:
        paces: measured on the storage (`timings.read`).
        concurrent: how many ran at a time.
        start: seconds of the start of an engine or a worker group of other models than nano models.
        task: seconds of a task on a CPU.
        is_nano: whether all models are nano models.
        sources: how many artifacts of each step have which source; filled by `seconds`.
    """

    hardware: Hardware
    paces: Mapping[str, Pace]
    concurrent: int
    start: float
    task: float
    is_nano: bool
    sources: Counter[tuple[str, str]] = field(default_factory=Counter)

    def seconds(self, artifact: Artifact) -> float:
        """The seconds without a start. Raises UserError if the size of a model is unknown."""
        step = step_of(artifact)
        seconds, source = self._estimate(artifact, step.by)
        self.sources[step.name, source] += 1
        return seconds

    def starting(self, job: Job) -> float:
        """The seconds that the start of an engine or a worker group takes."""
        return NANO[job.step.wave].start * self.concurrent if self.is_nano else self.start

    def lines(self) -> Iterator[str]:
        """The sources, one line per step."""
        for (step, source), count in sorted(self.sources.items()):
            yield f"- {step} ({count:,}): {source}"
        start = "as in the plan of nano models" if self.is_nano else f"{self.start:g} s"
        yield f"- starts of engines and worker groups: assumed, {start}"

    def _estimate(self, artifact: Artifact, by: Means) -> tuple[float, str]:
        wave, size = wave_of(artifact), timings.expected_units(artifact)
        if by == "provider":
            return 0.0, "a provider makes them, which is not simulated"
        if by == "tasks" or not size:
            return self.task, f"assumed, {self.task:g} s each"
        pace, is_nano = self.paces.get(timings.pace_name(wave, artifact)), timings.is_nano(artifact)
        usual = NANO["evaluations" if isinstance(artifact, Evaluation) else wave]
        overhead = usual.artifact * self.concurrent if is_nano else 0.0
        if pace is not None:
            return overhead + pace.seconds * size * self.concurrent, "measured on this storage"
        if is_nano:
            return overhead + usual.unit * size * self.concurrent, "assumed, as in the plan of nano models"
        reference, hardware = runs_on(artifact), self.hardware
        count = parameters(reference) if reference else None
        if count is None:
            raise UserError(
                f"the size of {reference.label if reference else artifact.kind} is unknown; run a sweep on "
                "the --storage first, which measures its speed"
            )
        gpus = hardware.layout.workers if by == "training" else hardware.layout.gpus_per_engine
        share = f"{hardware.utilisation:.0%} of the peak of {hardware.gpu.name}"
        source = f"assumed, {share}, answers of maximum length"
        return cost_of(artifact, count, hardware).seconds / gpus, source


class Load(NamedTuple):
    """How busy a service is during a sweep, from 0 to 1 or more, and the formula in words."""

    name: str
    busy: float
    formula: str


def loads(plan: Plan, works: Sequence[Work], outcome: Outcome, nodes: int) -> list[Load]:
    """The loads of the services around the GPUs, the busiest first."""
    trained = [work for work in works if work.step.by == "training"]
    groups = sum(outcome.starts[work.step.name] for work in {w.step: w for w in trained}.values())
    all_parts = sum(work.parts for work in works)
    jobs = len(works) + sum(outcome.starts.values())
    seconds = outcome.makespan
    sent = (outcome.starts.total() * _weights(plan) + 2 * _written(plan)) / nodes
    epochs = sum(checkpoints(plan).values()) + len(trained)
    batches = sum(work.seconds for work in trained) / SECONDS_BETWEEN_BATCHES
    batched = min((epochs + batches) * MLFLOW_CALL, BATCHES_SHARE * seconds)
    found = [
        Load(
            "object store, requests",
            len(works) * REQUESTS_PER_ARTIFACT / REQUESTS_PER_SECOND / seconds,
            f"{len(works):,} artifacts × {REQUESTS_PER_ARTIFACT:g} / {REQUESTS_PER_SECOND:,.0f} per second",
        ),
        Load(
            "object store, bytes of each node",
            sent / BYTES_PER_SECOND / seconds,
            f"(starts × weights + 2 × (models + rows)) / {nodes} nodes / {BYTES_PER_SECOND / 1e9:g} GB/s",
        ),
        Load(
            "MLflow",
            (batched + len(works) * MLFLOW_RUN) / seconds,
            f"({epochs:,} epochs + {batches:,.0f} batches of steps) × {MLFLOW_CALL:g} s, at most "
            f"{BATCHES_SHARE:.0%} of the time, + {len(works):,} runs × {MLFLOW_RUN:g} s",
        ),
        Load(
            "head node",
            (groups * HEAD_GROUP + all_parts * HEAD_PART) / HEAD_CPUS / seconds,
            f"({groups:,} groups × {HEAD_GROUP:g} s + {all_parts:,} parts × {HEAD_PART:g} s) "
            f"/ {HEAD_CPUS} CPUs",
        ),
        Load(
            "listings of the storage",
            jobs * math.ceil(len(plan.artifacts) / 1000) * LISTING / seconds,
            f"{jobs:,} jobs × {LISTING:g} s per 1,000 of {len(plan.artifacts):,} names",
        ),
    ]
    return sorted(found, key=lambda load: -load.busy)


def checkpoints(plan: Plan) -> dict[str, int]:
    """How many checkpoints each training writes: one per epoch."""
    missing = [plan.artifacts[k] for k in plan.missing]
    trained = [a for a in missing if isinstance(a, Teacher | Student) and step_of(a).by == "training"]
    return {key(model): recipe_of(model).epochs for model in trained}


def _weights(plan: Plan) -> float:
    """The bytes of the largest reference model; 0 for nano models."""
    references = {runs_on(plan.artifacts[k]) for k in plan.missing if units(plan.artifacts[k])}
    return BYTES_PER_PARAMETER * max((parameters(r) or 0 for r in references if r), default=0)


def _written(plan: Plan) -> float:
    """The bytes of models and rows, each at its estimate in `capacity`; 0 for nano models."""
    need = capacity.disk_need(plan)
    return need.models + need.rows if need else 0.0
