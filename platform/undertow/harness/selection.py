"""Selects the benchmarks of a study: the models that can run tasks, and the benchmarks that are missing."""

from collections.abc import Sequence
from dataclasses import dataclass

from undertow.harness.scores import subjects
from undertow.planning.plan import Plan
from undertow.storage.store import Store
from undertow.study.harness_task import HarnessTask
from undertow.study.identity import key
from undertow.study.measurements import Benchmark
from undertow.study.references import Reference


@dataclass(frozen=True)
class Selection:
    """The benchmarks of a study.

    Attributes:
        benchmarks: those of all models that are in the store.
        missing: those of them that are not stored yet.
        skipped: models that are left out, one line per reason.
    """

    benchmarks: tuple[Benchmark, ...]
    missing: tuple[Benchmark, ...]
    skipped: tuple[str, ...]


def select(plan: Plan, tasks: Sequence[HarnessTask], store: Store) -> Selection:
    """Selects every pair of a stored model of the plan and a task."""
    models = subjects(plan)
    available = [model for model in models if isinstance(model, Reference) or key(model) not in plan.missing]
    students = [cell.student for cell in plan.cells]
    skipped = {
        f"of {len(models)} models, which are not in the storage": len(models) - len(available),
        "in-context students, which have no weights of their own": sum(not s.is_trained for s in students),
        "students of a provider that gives no probabilities": sum(s.reference.is_api for s in students),
    }
    benchmarks = tuple(Benchmark(subject=model, task=task) for model in available for task in tasks)
    cached = store.keys(Benchmark.kind)
    return Selection(
        benchmarks=benchmarks,
        missing=tuple(benchmark for benchmark in benchmarks if key(benchmark) not in cached),
        skipped=tuple(f"{count} {reason}" for reason, count in skipped.items() if count),
    )
