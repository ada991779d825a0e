"""What makes each kind of artifact: the stage that runs in a Ray task, or the task for an engine.

Which of the two makes an artifact is in `graph.step_of`; worker groups and providers are not here.
"""

from collections.abc import Callable, Sequence
from typing import Any

from undertow.planning.artifact_kinds import kind_of
from undertow.storage.store import Store
from undertow.study.completions import Completions, ImportedCompletions, Written
from undertow.study.datasets import Dataset
from undertow.study.measurements import Assessment, Evaluation
from undertow.study.references import Artifact, Reference
from undertow.study.rewriting import Rewritten
from undertow.study.row_scores import RowScores
from undertow.study.steering import ProjectedOut, RandomBias, SteeringBias, SteeringVector


def stage_of(artifact: Artifact) -> Callable[[Any, Store], object]:
    """The stage that makes an artifact in a task. Raises TypeError for a kind that engines make."""
    from undertow.stages import assessment, completions, dataset, reference, rewriting, steering

    match artifact:
        case Reference():
            return reference.make_reference
        case SteeringVector():
            return steering.make_vector
        case RandomBias():
            return steering.make_random_bias
        case ProjectedOut():
            return steering.make_projection
        case Written():
            return completions.write_answers
        case ImportedCompletions():
            return completions.import_rows
        case Rewritten():
            return rewriting.rewrite_by_rule
        case Dataset():
            return dataset.make_dataset
        case Assessment():
            return assessment.make_assessment
    make = kind_of(artifact).make
    if make is None:
        raise TypeError(f"{type(artifact).__name__}: no stage makes it in a task")
    return make


def engine_task(artifact: Artifact, part: int, store: Store, gate: float, gates: Sequence[Evaluation]) -> Any:
    """The task for an engine that makes a part of an artifact; its inputs must be in the store.

    Raises ConditionError for row scores that no task makes, and TypeError for a kind that tasks make.

    Args:
        part: the number of a shard of completions; else 0.
        gate, gates: see `completions.GenerateShard`.
    """
    from undertow.stages import rewriting, row_scores
    from undertow.stages.completions import shards
    from undertow.stages.evaluation import Evaluate
    from undertow.stages.steering import ChooseStrength

    match artifact:
        case Completions():
            return shards(artifact, gate, tuple(gates))[part]
        case Evaluation():
            return Evaluate(artifact)
        case RowScores():
            return row_scores.task_of(artifact)
        case SteeringBias():
            return ChooseStrength(artifact)
        case Rewritten():
            return rewriting.task_of(artifact, store)
    task = kind_of(artifact).task
    if task is None:
        raise TypeError(f"{type(artifact).__name__}: no engine makes it")
    return task(artifact)
