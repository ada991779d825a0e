"""Studies with a known truth for `coverage.py`: seeds, questions and answers, one condition or a family.

A student's rate comes from a law over seeds (`undertow.statistics.simulation`). Questions lift or lower the
rates of all students of a study alike, without changing their mean; answers are Bernoulli draws. In a
family all conditions share their control students, as in the grids of this platform.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from undertow.statistics.bootstrap import bootstrap
from undertow.statistics.power import covered
from undertow.statistics.simulation import Law, Normal, VerdictRule, infer_by
from undertow.statistics.ttests import Array
from undertow.statistics.verdicts import adjusted, claims

QUESTIONS = 50
SAMPLES = 100  # answers a question
BASE = 0.4  # the controls' rate under a normal law, so far inside that no effect here has rates cut at 0 or 1
AT_ONCE = 500  # studies of a family at a time, to bound memory


@dataclass(frozen=True)
class Answers:
    """Shares of matching answers (studies, students, questions) of both arms, and the effect behind them."""

    students: Array
    controls: Array
    truth: float

    @property
    def rates(self) -> tuple[Array, Array]:
        return self.students.mean(axis=-1), self.controls.mean(axis=-1)


def one_condition(law: Law, seeds: int, studies: int, rng: np.random.Generator) -> Answers:
    """Studies of one condition, down to the share of matching answers to each question."""
    students, controls = law.draw((studies, seeds), rng)
    if isinstance(law, Normal):
        students, controls = students + BASE, controls + BASE
    lift = rng.uniform(-0.5, 0.5, (studies, 1, QUESTIONS))
    lift -= lift.mean(axis=-1, keepdims=True)
    return Answers(_answered(students, lift, rng), _answered(controls, lift, rng), law.effect)


def _answered(rates: Array, lift: Array, rng: np.random.Generator) -> Array:
    rates = np.clip(rates, 0, 1)[..., None]
    chances = np.clip(rates + lift * np.minimum(rates, 1 - rates), 0, 1)
    return np.asarray(rng.binomial(SAMPLES, chances) / SAMPLES)


def family(
    law: Law, first: Law, conditions: int, seeds: int, studies: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Rates of students (studies, conditions, seeds) and of the controls (studies, 1, seeds) they all share.

    The first condition has a law of its own (which, if normal, differs by its effect alone).
    """
    if isinstance(law, Normal):
        shared = rng.standard_normal((studies, 1, seeds))
        own = rng.standard_normal((studies, conditions, seeds))
        scores = law.correlation * shared + np.sqrt(1 - law.correlation**2) * own
        students, controls = BASE + law.effect + law.sd * scores, BASE + law.control_sd * shared
        students[:, :1] += first.effect - law.effect
    else:
        students, controls = law.draw((studies, conditions, seeds), rng)
        students[:, :1], controls = first.draw((studies, 1, seeds), rng)
    return _sampled(students, rng), _sampled(controls, rng)


def _sampled(rates: Array, rng: np.random.Generator) -> Array:
    answers = QUESTIONS * SAMPLES
    return np.asarray(rng.binomial(answers, np.clip(rates, 0, 1)) / answers)


def claimed(
    law: Law,
    conditions: int,
    seeds: int,
    studies: int,
    *,
    paired: bool,
    margin: float = 0.1,
    judge: VerdictRule = "t",
    first: Law | None = None,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(studies, conditions): which were called "transmitted", which "not transmitted", at 5 % after Holm."""
    rng = np.random.default_rng([seeds, conditions, studies])
    parts = []
    for start in range(0, studies, AT_ONCE):
        number = min(AT_ONCE, studies - start)
        students, controls = family(law, first or law, conditions, seeds, number, rng)
        found = infer_by(judge, students, controls, margin=margin, paired=paired)
        effect = students.mean(axis=-1) - controls.mean(axis=-1)
        parts.append(claims(effect, adjusted(found.p_value), adjusted(found.p_equivalence), 0.05))
    transmitted, not_transmitted = zip(*parts, strict=True)
    return np.concatenate(transmitted), np.concatenate(not_transmitted)


def interval_coverage(data: Answers, *, paired: bool, judge: VerdictRule) -> float:
    """The share of intervals that hold the truth; under "rule", of studies with that one condition."""
    students, controls = (rates[:, None] for rates in data.rates)
    found = infer_by(judge, students, controls, margin=0.1, paired=paired, confidence=0.95)
    return covered(found, data.truth)


def bootstrap_coverage(data: Answers, *, paired: bool, studies: int) -> float:
    """The same for the bootstrap's, of the first so many studies."""
    held = [
        low <= data.truth <= high
        for students, controls in zip(data.students[:studies], data.controls[:studies], strict=True)
        for low, high in [_interval(students, controls, paired)]
    ]
    return float(np.mean(held))


def _interval(students: Array, controls: Array, paired: bool) -> tuple[float, float]:
    interval = bootstrap(students, controls, samples=SAMPLES, paired=paired, seed=0, resamples=400)
    if interval is None:
        raise ValueError("the bootstrap needs two students an arm")
    return interval
