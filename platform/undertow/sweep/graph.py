"""The graph of a sweep's work: each missing artifact with its inputs, the step that makes it, and its size.

A step is what one executor does for one kind of artifact ("students" in worker groups, "filters" in tasks).
`sweep.waves` runs the steps in their order, and a schedule runs whatever is ready.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from undertow.planning.artifact_kinds import WAVES, Wave, extensions, kind_of, runs_on, wave_of
from undertow.planning.plan import Plan
from undertow.planning.timings import is_at_provider
from undertow.study.completions import Completions, ImportedCompletions, Written
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.measurements import Assessment, Evaluation
from undertow.study.references import Artifact, Reference
from undertow.study.rewriting import Rewritten
from undertow.study.row_scores import RowScores
from undertow.study.steering import ProjectedOut, RandomBias, SteeringBias, SteeringVector
from undertow.study.students import Student
from undertow.study.teachers import Teacher

# How a step makes its artifacts: in tasks on CPUs, in worker groups, on engines, or at a provider.
Means = Literal["tasks", "training", "engines", "provider"]


class Step(NamedTuple):
    """A step of a wave; steps are sorted in the order in which a round runs them.

    Attributes:
        rank: the positions of its wave in a round and of the step in its wave.
        name: as in progress lines and in the event log.
    """

    rank: tuple[int, int]
    name: str
    wave: Wave
    by: Means


@dataclass(frozen=True)
class Work:
    """The making of one artifact.

    Attributes:
        inputs: keys of the artifacts that must exist before; those without work of their own exist.
        pool: equal for artifacts that can share the start of an engine, or of a worker group.
        parts: how many engines can work on it concurrently: the shards of completions.
        seconds: the estimated time of one engine, worker group or task for all parts, without its start.
    """

    key: str
    step: Step
    inputs: tuple[str, ...] = ()
    pool: Hashable = None
    parts: int = 1
    seconds: float = 1.0


def graph(plan: Plan, seconds: Callable[[Artifact], float] = lambda artifact: 1.0) -> list[Work]:
    """The work that a plan lacks, in the order of the plan.

    Args:
        seconds: see `Work.seconds`.
    """
    from undertow.stages.completions import SHARD_ROWS  # these two load libraries that `--plan` must not
    from undertow.stages.grouping import groups

    missing = {k: artifact for k, artifact in plan.artifacts.items() if k in plan.missing}
    steps = {k: step_of(artifact) for k, artifact in missing.items()}
    trained = [
        a for k, a in missing.items() if steps[k].by == "training" and isinstance(a, Teacher | Student)
    ]
    # With one slot, models are in one group if they can share a worker group.
    pools: dict[str, Hashable] = {
        key(model): number for number, group in enumerate(groups(trained, slots=1)) for model in group.models
    }
    gates = _gates(plan)

    def work_of(k: str, artifact: Artifact) -> Work:
        reference = runs_on(artifact)
        if steps[k].by == "engines" and reference is not None:
            pools[k] = key(reference)
        return Work(
            key=k,
            step=steps[k],
            inputs=tuple(i for i in {**dict.fromkeys(_inputs(artifact)), **gates.get(k, {})} if i in missing),
            pool=pools.get(k),
            parts=math.ceil(artifact.prompts / SHARD_ROWS) if isinstance(artifact, Completions) else 1,
            seconds=seconds(artifact),
        )

    return [work_of(k, artifact) for k, artifact in missing.items()]


def step_of(artifact: Artifact) -> Step:
    """The step that makes an artifact."""
    by: Means
    match artifact:
        case Reference():
            position, name, by = 0, "references", "tasks"
        case SteeringVector():
            position, name, by = 1, "steering vectors", "tasks"
        case Teacher():
            position, name, by = 0, "teachers", "training"
        case SteeringBias():
            position, name, by = 1, "steering", "engines"
        case RandomBias():
            position, name, by = 2, "random steering", "tasks"
        case ProjectedOut():
            position, name, by = 3, "projections", "tasks"
        case Student():
            position, name, by = 0, "students", "training"
        case Completions() | Evaluation():
            position, name, by = 0, wave_of(artifact), "engines"
        case Written():
            position, name, by = 1, "programs", "tasks"
        case ImportedCompletions():
            position, name, by = 2, "imports", "tasks"
        case RowScores():
            position, name, by = 3, "row scores", "engines"
        case Dataset(mixed=None, ranked=None, completions=completions):
            position, name, by = 4, "filters", "tasks"
            if isinstance(completions, Rewritten):
                position, name = 6, "filters after rewriting"
        case Rewritten():
            position, name = 5, "rewriting"
            by = "tasks" if artifact.rewriter.model is None else "engines"
        case Dataset(mixed=None):
            position, name, by = 7, "ranked pairs", "tasks"
        case Dataset():
            position, name, by = 8, "mixtures", "tasks"
        case Assessment():
            position, name, by = 9, "assessments", "tasks"
        case _:
            kind = kind_of(artifact)
            number = next((n for n, other in enumerate(extensions()) if other.spec is kind.spec), 0)
            position, name = 10 + number, artifact.kind.replace("_", " ")
            by = "engines" if kind.make is None else "tasks"
    wave = wave_of(artifact)
    if by != "tasks" and is_at_provider(artifact):
        by = "provider"
    return Step((WAVES.index(wave), position), name, wave, by)


def _inputs(artifact: Artifact) -> Iterator[str]:
    """The keys of the stored artifacts that an artifact is directly made from.

    A prompted teacher, for example, has no files: what is sampled from it is made from its reference model.
    """
    for parent in artifact.parents():
        if parent.is_stored:
            yield key(parent)
        else:
            yield from _inputs(parent)


def _gates(plan: Plan) -> Mapping[str, dict[str, None]]:
    """The measurements that decide whether an artifact is made: its teacher must show the trait.

    A sampled trait is checked before the teacher's data are sampled, a judged one before students are
    trained on them. A teacher that ranks writes no data.
    """
    gates: dict[str, dict[str, None]] = {}
    for cell in plan.cells:
        for measurement in cell.teacher_evaluations:
            for student in cell.student.by_round:
                if isinstance(measurement, Evaluation) and student.dataset.ranked is None:
                    gates.setdefault(key(student.dataset.source), {})[key(measurement)] = None
                if student.is_stored:
                    gates.setdefault(key(student), {})[key(measurement)] = None
    return gates
