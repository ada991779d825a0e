"""Measures false positives by comparing real control students with each other, on nano models.

    python benchmarks/false_positives.py --storage storage      about 10 minutes on 2 cores

The benchmark trains 80 control students like those of the study `owls` (two reference models, 40 seeds each;
the teacher has no trait, and data and row order differ by seed), measures their rates of twelve animals, and
compares disjoint arms of five students. Each comparison and animal is one test, which should be significant
in 5 of 100 cases. The binomial interval treats the tests as independent; the twelve animals of a comparison
are slightly dependent, because their rates compete for the same answers. Random splits into arms of 3, 5 and
10 give many more tests, which are dependent and therefore reported without an interval. The script writes
false_positives.md next to this file.

The exit code is 0 if the binomial interval contains 5 %, and 1 if not.
"""

import dataclasses
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from undertow.cli.entry import enter
from undertow.cli.studies import load
from undertow.nano.models import known_words
from undertow.planning.plan import Plan
from undertow.results.evaluation_files import Evaluations
from undertow.results.sweep_record import Record
from undertow.statistics.effects import infer
from undertow.storage.store import Store
from undertow.study.grids import grid
from undertow.study.references import Reference
from undertow.study.study import Study
from undertow.sweep.plans import make_plan
from undertow.sweep.run import run
from undertow.traits.preference import Preference

RESULT = Path(__file__).with_suffix(".md")
STUDIES = Path(__file__).parents[1] / "jobs" / "studies"
ANIMALS = known_words("animal")
SEEDS = 40
ARM = 5
ALPHA = 0.05
SPLITS = 2_000
MARGIN = 0.1  # of the equivalence tests, which are not used here
COLUMNS = ("test", "tests", "p < .05", "share", "95 % interval", "splits 3 : 3", "5 : 5", "10 : 10")
OPENING = """# False positives, measured

`python benchmarks/false_positives.py`: {students} control students of nano models, measured on {animals}
animals and compared in disjoint arms of {arm}; no difference is real. Splits: the share of p < .05 over
{splits:,} random splits of the same students into arms of the given sizes.
"""

Rates = np.ndarray[tuple[int, int], np.dtype[np.float64]]  # (students, animals)


@dataclass(frozen=True)
class Arguments:
    """Compare control students with each other."""

    storage: str = "storage"
    """A folder or any fsspec URL; students that exist there are not trained again."""
    seeds: int = SEEDS
    """Control students per reference model."""
    out: Path = RESULT
    """Where to write the table."""


def study(seeds: int) -> Study:
    """Returns `owls` with only pairs of the same initialisation, and with more seeds and animals."""
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
    """Restricts the plan to the control students."""
    return plan.only([cell for cell in plan.cells if cell.condition.trait is None])


def rates_by_reference(plan: Plan, store: Store) -> dict[Reference, Rates]:
    """Returns, by reference model, the sampled rates (students, animals) of its control students."""
    evaluations, found = Evaluations(store), dict[Reference, list[list[float]]]()
    for planned, cell in zip(plan.cells, Record.of(plan).cells, strict=True):
        rates = [evaluations.student(cell, animal).rate for animal in ANIMALS]
        found.setdefault(planned.condition.student, []).append(rates)
    return {reference: np.array(rates) for reference, rates in found.items()}


def disjoint(rates: Rates, arm: int, *, paired: bool) -> tuple[int, int]:
    """Returns the number of tests and of false positives, in disjoint arms of `arm` students."""
    groups = rates[: len(rates) // (2 * arm) * 2 * arm].reshape(-1, 2, arm, rates.shape[1])
    students, controls = np.moveaxis(groups[:, 0], 1, -1), np.moveaxis(groups[:, 1], 1, -1)
    found = infer(students, controls, margin=MARGIN, paired=paired)
    return found.p_value.size, int((found.p_value < ALPHA).sum())


def resplit(rates: Rates, arm: int, *, paired: bool) -> float:
    """Returns the share of false positives over random splits of the students into arms of `arm`."""
    rng = random.Random(0)
    picks = np.array([rng.sample(range(len(rates)), 2 * arm) for _ in range(SPLITS)])
    students, controls = (np.moveaxis(rates[part], 1, -1) for part in (picks[:, :arm], picks[:, arm:]))
    return float((infer(students, controls, margin=MARGIN, paired=paired).p_value < ALPHA).mean())


class FalsePositives(NamedTuple):
    """The false positives of one kind of test.

    Attributes:
        name: of the test.
        tests: number of tests in disjoint arms.
        positives: number of these below ALPHA.
        splits: shares below ALPHA over random splits into arms of 3, 5 and 10.
    """

    name: str
    tests: int
    positives: int
    splits: tuple[float, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """The Clopper-Pearson interval of the share of false positives."""
        from statsmodels.stats.proportion import proportion_confint

        low, high = proportion_confint(self.positives, self.tests, ALPHA, method="beta")
        return float(low), float(high)

    @property
    def allows_alpha(self) -> bool:
        low, high = self.interval
        return low <= ALPHA <= high

    def cells(self) -> list[str]:
        low, high = self.interval
        share = self.positives / self.tests
        numbers = (f"{share:.3f}", f"{low:.3f} … {high:.3f}", *(f"{split:.3f}" for split in self.splits))
        return [self.name, f"{self.tests}", f"{self.positives}", *numbers]


def counted(students: Iterable[Rates], *, paired: bool) -> FalsePositives:
    """Counts false positives, summed over reference models; students of two are never compared."""
    by_reference = list(students)
    counts = [disjoint(rates, ARM, paired=paired) for rates in by_reference]
    splits = tuple(
        float(np.mean([resplit(rates, n, paired=paired) for rates in by_reference])) for n in (3, 5, 10)
    )
    name = "paired t" if paired else "Welch t"
    return FalsePositives(name, sum(tests for tests, _ in counts), sum(found for _, found in counts), splits)


def spreads(students: Mapping[Reference, Rates]) -> Iterator[str]:
    """Yields one line per reference model, with the range of its rates and standard deviations."""
    for reference, rates in students.items():
        spread, mean = rates.std(axis=0, ddof=1), rates.mean(axis=0)
        yield (
            f"{reference.name}: rates {mean.min():.3f} to {mean.max():.3f}, "
            f"standard deviation over seeds {spread.min():.3f} to {spread.max():.3f}"
        )


def markdown(found: Sequence[FalsePositives], students: Mapping[Reference, Rates]) -> str:
    """Returns the text of false_positives.md."""
    number = sum(map(len, students.values()))
    opening = OPENING.format(students=number, animals=len(ANIMALS), arm=ARM, splits=SPLITS)
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines = [f"| {' | '.join(one.cells())} |" for one in found]
    return "\n".join([opening, *head, *lines, "", *(f"- {line}" for line in spreads(students)), ""])


def main(arguments: Arguments, console: Console) -> int:
    """Runs the benchmark; returns 0 if the binomial interval of every test contains ALPHA."""
    store = Store(arguments.storage)
    plan = controls_of(make_plan(study(arguments.seeds), store))
    if run(plan, store, console).failed_conditions:
        return 1
    students = rates_by_reference(plan, store)
    found = [counted(students.values(), paired=paired) for paired in (True, False)]
    table = Table(*COLUMNS, title=f"{sum(map(len, students.values()))} control students")
    for one in found:
        table.add_row(*one.cells())
    console.print(table)
    for line in spreads(students):
        console.print(line)
    arguments.out.write_text(markdown(found, students), encoding="utf-8")
    return 0 if all(one.allows_alpha for one in found) else 1


if __name__ == "__main__":
    enter(main, Arguments)
