"""The tables of benchmarks: `benchmarks.csv`, `benchmark_models.csv` and the printed one."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from undertow.harness.scores import BenchmarkRow, ModelScore
from undertow.report.table_texts import condition_fields, interval, new_table, p_value, signed
from undertow.results.csv_tables import written
from undertow.study.harness_task import HarnessTask
from undertow.study.hypotheses import Place
from undertow.study.identity import key

BENCHMARKS = "benchmarks.csv"
BENCHMARK_MODELS = "benchmark_models.csv"
TASK_COLUMNS = ("task", "few_shot", "limit", "chat", "harness", "definition", "metric", "higher_is_better")
BENCHMARK_COLUMNS = (
    "study", *Place._fields, *TASK_COLUMNS, "n_students", "n_controls", "score", "control_score",
    "difference", "ci_low", "ci_high", "p_value", "p_adjusted", "method", "note", "reference_score",
)  # fmt: skip
BENCHMARK_MODEL_COLUMNS = (
    "study", "kind", *Place._fields, "seed", *TASK_COLUMNS, "score", "standard_error", "key",
)  # fmt: skip


def benchmarks_csv(study: str, rows: Sequence[BenchmarkRow]) -> str:
    """One row per condition, task and metric; an empty `few_shot` means the task's own number of examples."""
    return written(BENCHMARK_COLUMNS, (_benchmark(study, row) for row in rows))


def benchmark_models_csv(study: str, scores: Sequence[ModelScore]) -> str:
    """One row per model (references, students and control students), task and metric."""
    return written(BENCHMARK_MODEL_COLUMNS, (_model(study, score) for score in scores))


def _benchmark(study: str, row: BenchmarkRow) -> list[object]:
    effect = row.effect
    return [
        study, *row.place, *_task(row.task), row.metric, row.higher_is_better, effect.n_students,
        effect.n_controls, effect.rate, effect.control_rate, effect.effect, effect.ci_low, effect.ci_high,
        effect.p_value, row.p_adjusted, effect.method, effect.note, row.reference,
    ]  # fmt: skip


def _model(study: str, row: ModelScore) -> list[object]:
    return [
        study, row.subject.kind, *row.place, row.seed, *_task(row.task), row.metric,
        row.score.higher_is_better, row.score.value, row.score.error, key(row.subject),
    ]  # fmt: skip


def _task(task: HarnessTask) -> tuple[object, ...]:
    return task.name, task.few_shot, task.limit, task.chat, task.harness, task.definition


def benchmarks_table(rows: Sequence[BenchmarkRow]) -> Table:
    """One line per task, metric and condition: students, control students and their reference model."""
    table = new_table(
        "Benchmarks: students against control students; n seeds each; p adjusted over conditions, not tasks"
    )
    fields = condition_fields([row.place for row in rows])
    for name in ("task", "metric", *fields):
        table.add_column(name, overflow="fold")
    for name in ("n", "reference", "control", "score", "difference", "interval", "adj. p"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        effect = row.effect
        table.add_row(
            escape(row.task.label),
            escape(row.metric),
            *(escape(getattr(row.place, field)) for field in fields),
            str(effect.n_students),
            "–" if row.reference is None else f"{row.reference:.3f}",
            f"{effect.control_rate:.3f}",
            f"{effect.rate:.3f}",
            signed(effect.effect),
            interval(effect.ci_low, effect.ci_high),
            p_value(row.p_adjusted),
        )
    return table
