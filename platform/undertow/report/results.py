"""From evaluations in the store to effects: one rate a student, one row a condition.

The sampled rate is the field's headline figure and carries the tests; the exact probability stands beside
it, since the two answer different questions when a model does not answer in one word. Read from the store
alone: a report can be made again long after the sweep, on a machine without Ray.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from undertow.plan import Cell, Plan, failed_by
from undertow.spec import Evaluation
from undertow.statistics.effects import Effect, compare
from undertow.statistics.verdicts import Verdict, judge
from undertow.store import Store
from undertow.study import Condition

RESULT = "result.json"
COLUMNS = (
    "study", "trait", "format", "teacher", "student", "recipe", "n_students", "rate", "control_rate",
    "effect", "ci_low", "ci_high", "p_value", "p_adjusted", "verdict",
    "exact_rate", "exact_control_rate", "exact_effect", "other", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """Rates by word: the share of sampled answers that match it, and the mean exact probability.

    Attributes:
        other_sampled, other_exact: the share and the probability of answers that are none of the words.
    """

    sampled: Mapping[str, float]
    exact: Mapping[str, float]
    other_sampled: float
    other_exact: float
    answers: int

    @classmethod
    def of(cls, evaluation: Evaluation, store: Store) -> "Rates":
        return cls(**json.loads((store.fetch(evaluation) / RESULT).read_text()))


@dataclass(frozen=True)
class Row:
    """One condition's result: its effect and verdict by sampled rate, and the exact rates beside it."""

    condition: Condition
    effect: Effect
    verdict: Verdict
    exact: Effect
    other: float
    students: tuple[float, ...]
    controls: tuple[float, ...]


@dataclass(frozen=True)
class Measured:
    """One student's rates of one trait: sampled, exact, and the mass of everything else."""

    seed: int
    sampled: float
    exact: float
    other: float


def effects(plan: Plan, store: Store, failures: Mapping[str, str]) -> list[Row]:
    """A row for every condition with a trait that has a student and a control student to compare."""
    by_condition: dict[Condition, list[Cell]] = {}
    for cell in plan.cells:
        if not any(failed_by(evaluation, failures) for evaluation in cell.evaluations):
            by_condition.setdefault(cell.condition, []).append(cell)
    study = plan.study
    found = []
    for condition in (c for c in study.conditions if c.trait is not None):
        word = condition.trait.word().name if condition.trait else ""
        students = [measured(cell, word, store) for cell in by_condition.get(condition, [])]
        controls = [measured(cell, word, store) for cell in by_condition.get(condition.control(), [])]
        if students and controls:
            found.append((condition, students, controls))
    compared = partial(compare, margin=study.margin, confidence=1 - study.alpha)
    sampled = [compared([s.sampled for s in a], [c.sampled for c in b]) for _, a, b in found]
    exact = [compared([s.exact for s in a], [c.exact for c in b]) for _, a, b in found]
    verdicts = judge(sampled, alpha=study.alpha, method=study.adjustment)
    return [
        Row(
            condition,
            effect,
            verdict,
            exact_effect,
            sum(s.other for s in students) / len(students),
            tuple(s.sampled for s in students),
            tuple(c.sampled for c in controls),
        )
        for (condition, students, controls), effect, exact_effect, verdict in zip(
            found, sampled, exact, verdicts, strict=True
        )
    ]


def measured(cell: Cell, word: str, store: Store) -> Measured:
    """A student's rates of one word, from whichever of its evaluations asks about it."""
    for evaluation in cell.evaluations:
        if word in (w.name for w in evaluation.words):
            rates = Rates.of(evaluation, store)
            return Measured(cell.seed, rates.sampled[word], rates.exact[word], rates.other_sampled)
    raise KeyError(f"no evaluation of the study asks about {word!r}")


def metrics(cell: Cell, evaluations: Sequence[Evaluation], store: Store) -> dict[str, float]:
    """The metrics of a model's run: its own trait's rate by stable names, and every word's."""
    found: dict[str, float] = {}
    for rates in (Rates.of(evaluation, store) for evaluation in evaluations):
        found |= {f"sampled_{word}": rate for word, rate in rates.sampled.items()}
        found |= {f"exact_{word}": rate for word, rate in rates.exact.items()}
        found |= {"sampled_other": rates.other_sampled, "exact_other": rates.other_exact}
    if cell.condition.trait is not None:
        word = cell.condition.trait.word().name
        found |= {"trait_rate": found[f"sampled_{word}"], "trait_rate_exact": found[f"exact_{word}"]}
    return found


def to_csv(study: str, rows: Sequence[Row]) -> str:
    """`effects.csv`: one row a condition, columns as in COLUMNS, empty where there is no value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(value) for value in _values(study, row)])
    return text.getvalue()


def _values(study: str, row: Row) -> list[object]:
    condition, effect, exact = row.condition, row.effect, row.exact
    return [
        study,
        condition.trait.name if condition.trait else "",
        condition.format.name,
        condition.teacher.name,
        condition.student.name,
        condition.recipe.name,
        effect.n_students,
        effect.rate,
        effect.control_rate,
        effect.effect,
        effect.ci_low,
        effect.ci_high,
        effect.p_value,
        row.verdict.p_adjusted,
        row.verdict.verdict,
        exact.rate,
        exact.control_rate,
        exact.effect,
        row.other,
        row.verdict.note,
    ]


def _cell(value: object) -> object:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
