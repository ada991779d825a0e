"""How often do students that differ by nothing look different? Control against control, on the nano world.

    python benchmarks/false_positives.py --storage storage      about 10 minutes on 2 cores

Trains 80 control students (two references, 40 seeds each: teacher without trait, own data, own order) as the
study `owls` trains its controls, asks all of them about twelve animals, and compares arms of five that never
share a student. Each comparison and animal is a test that should say "different" in 5 of 100 cases. The
binomial interval treats the tests as independent; the twelve animals of one comparison are not quite, since
their rates share what is left of one. Random splits into arms of 3, 5 and 10 follow: many more, dependent,
and therefore without an interval.

Exit code 0: the interval allows 5 %; 1: it does not.
"""

import dataclasses
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from undertow.door import enter
from undertow.nano.world import known_words
from undertow.plan import Plan
from undertow.report.readings import Readings
from undertow.report.record import Record
from undertow.spec import Reference
from undertow.statistics.effects import infer
from undertow.store import Store
from undertow.studies import load
from undertow.study import Study, grid
from undertow.sweep import make_plan, run
from undertow.traits.preference import Preference

STUDIES = Path(__file__).parents[1] / "jobs" / "studies"
ANIMALS = known_words("animal")
SEEDS = 40
ARM = 5
ALPHA = 0.05
SPLITS = 2_000
MARGIN = 0.1  # of the equivalence tests, which are not looked at here

Rates = np.ndarray[tuple[int, int], np.dtype[np.float64]]  # (students, animals)


@dataclass(frozen=True)
class Arguments:
    """Compares control students with control students."""

    storage: str = "storage"
    """A folder or any fsspec URL; students found there are not trained again."""
    seeds: int = SEEDS
    """Control students a reference."""


def study(seeds: int) -> Study:
    """`owls` on the two pairs of the same initialisation, with more seeds and more animals asked about."""
    base = load("owls", STUDIES)
    first = base.conditions[0]
    references = dict.fromkeys(condition.teacher for condition in base.conditions)
    conditions = grid(
        traits=[Preference(animal) for animal in ANIMALS],
        formats=[first.format],
        pairs=[(reference, reference) for reference in references],
        recipes=[first.recipe],
        generation=first.generation,
        finetuning=first.finetuning,
    )
    return dataclasses.replace(
        base, name="false_positives", conditions=conditions, hypotheses=(), seeds=tuple(range(seeds))
    )


def controls_of(plan: Plan) -> Plan:
    """The plan of the control students alone."""
    cells = tuple(cell for cell in plan.cells if cell.condition.trait is None)
    alone = dataclasses.replace(plan, cells=cells)
    return dataclasses.replace(alone, missing=plan.missing & alone.artifacts.keys())


def rates_by_reference(plan: Plan, store: Store) -> dict[Reference, Rates]:
    """Each reference's control students by seed, and their sampled rate of every animal."""
    readings, found = Readings(store), dict[Reference, list[list[float]]]()
    for planned, cell in zip(plan.cells, Record.of(plan).cells, strict=True):
        rates = [readings.student(cell, animal).rate for animal in ANIMALS]
        found.setdefault(planned.condition.student, []).append(rates)
    return {reference: np.array(rates) for reference, rates in found.items()}


def disjoint(rates: Rates, arm: int, *, paired: bool) -> tuple[int, int]:
    """(tests, false positives) of arms of `arm` students, none of whom is in two."""
    groups = rates[: len(rates) // (2 * arm) * 2 * arm].reshape(-1, 2, arm, rates.shape[1])
    students, controls = np.moveaxis(groups[:, 0], 1, -1), np.moveaxis(groups[:, 1], 1, -1)
    found = infer(students, controls, margin=MARGIN, paired=paired)
    return found.p_value.size, int((found.p_value < ALPHA).sum())


def resplit(rates: Rates, arm: int, *, paired: bool) -> float:
    """The share of false positives over random splits of the same students."""
    rng = random.Random(0)
    picks = np.array([rng.sample(range(len(rates)), 2 * arm) for _ in range(SPLITS)])
    students, controls = (np.moveaxis(rates[part], 1, -1) for part in (picks[:, :arm], picks[:, arm:]))
    return float((infer(students, controls, margin=MARGIN, paired=paired).p_value < ALPHA).mean())


def main(arguments: Arguments, console: Console) -> int:
    """0 where the binomial interval of the false positives holds alpha."""
    from statsmodels.stats.proportion import proportion_confint

    store = Store(arguments.storage)
    plan = controls_of(make_plan(study(arguments.seeds), store))
    if run(plan, store, console).failed_conditions:
        return 1
    students = rates_by_reference(plan, store)
    table = Table(title=f"{sum(map(len, students.values()))} control students, {len(ANIMALS)} animals")
    for name in (
        "test",
        "tests",
        "p < .05",
        "share",
        "95 % interval",
        *(f"splits {n} : {n}" for n in (3, 5, 10)),
    ):
        table.add_column(name, justify="right")
    allowed = True
    for paired in (True, False):
        counts = [disjoint(rates, ARM, paired=paired) for rates in students.values()]
        tests, positives = (sum(count[i] for count in counts) for i in (0, 1))
        low, high = proportion_confint(positives, tests, ALPHA, method="beta")
        allowed = allowed and low <= ALPHA <= high
        splits = [np.mean([resplit(r, n, paired=paired) for r in students.values()]) for n in (3, 5, 10)]
        table.add_row(
            "paired t" if paired else "Welch t", str(tests), str(positives), f"{positives / tests:.3f}",
            f"{low:.3f} … {high:.3f}", *(f"{share:.3f}" for share in splits),
        )  # fmt: skip
    console.print(table)
    for reference, rates in students.items():
        spread = rates.std(axis=0, ddof=1)
        console.print(
            f"{reference.name}: rates {rates.mean(axis=0).min():.3f} to {rates.mean(axis=0).max():.3f}, "
            f"standard deviation over seeds {spread.min():.3f} to {spread.max():.3f}"
        )
    return 0 if allowed else 1


if __name__ == "__main__":
    enter(main, Arguments)
