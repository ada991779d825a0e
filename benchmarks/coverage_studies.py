"""Simulated studies with a known truth for `coverage.py`, with one condition or a family of conditions.

A student's rate is drawn from a law over seeds (`undertow.statistics.simulation`). Questions raise or lower
the rates of all students of a study equally, without changing their mean; answers are Bernoulli draws. In a
family, all conditions share their control students, as in the grids of this platform.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from undertow.statistics.bootstrap import bootstrap
from undertow.statistics.power import share_covering
from undertow.statistics.simulation import Law, Normal, VerdictRule, infer_with_rule
from undertow.statistics.ttests import Array
from undertow.statistics.verdicts import adjust_arrays, claims
from undertow.study.measurements import EffectScale

QUESTIONS = 50
SAMPLES = 100  # answers per question
BASE = 0.4  # the controls' rate under a normal law, chosen so that no rate has to be truncated to [0, 1]
BLOCK = 500  # studies of a family that are simulated together, to bound memory


@dataclass(frozen=True)
class Answers:
    """Shares of matching answers (studies, students, questions) of both arms, and the true effect."""

    students: Array
    controls: Array
    truth: float

    @property
    def rates(self) -> tuple[Array, Array]:
        return self.students.mean(axis=-1), self.controls.mean(axis=-1)


def one_condition(law: Law, seeds: int, studies: int, rng: np.random.Generator) -> Answers:
    """Simulates studies of one condition, with the share of matching answers to each question."""
    students, controls = law.draw((studies, seeds), rng)
    if isinstance(law, Normal):
        students, controls = students + BASE, controls + BASE
    shift = question_shifts(studies, rng)
    return Answers(answered(students, shift, rng), answered(controls, shift, rng), law.effect)


def question_shifts(studies: int, rng: np.random.Generator) -> Array:
    """Draws how each question raises or lowers rates (studies, 1, questions), with a mean of 0."""
    shift = rng.uniform(-0.5, 0.5, (studies, 1, QUESTIONS))
    return np.asarray(shift - shift.mean(axis=-1, keepdims=True))


def answered(rates: Array, shift: Array, rng: np.random.Generator, samples: int | None = SAMPLES) -> Array:
    """Draws the share of matching answers (studies, students, questions) for rates (studies, students).

    With samples=None, returns the exact probabilities of a matching answer.
    """
    rates = np.clip(rates, 0, 1)[..., None]
    chances = np.clip(rates + shift * np.minimum(rates, 1 - rates), 0, 1)
    return np.asarray(chances if samples is None else rng.binomial(samples, chances) / samples)


def family(
    law: Law, first: Law, conditions: int, seeds: int, studies: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Simulates rates of students (studies, conditions, seeds) and of their shared controls (studies, 1,
    seeds).

    The first condition follows the law `first`, which, if normal, must differ from `law` only in its effect.
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
    rule: VerdictRule = "t",
    first: Law | None = None,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Returns flags (studies, conditions) of "transmitted" and of "not transmitted", at 5 % after Holm."""
    rng = np.random.default_rng([seeds, conditions, studies])
    parts = []
    for start in range(0, studies, BLOCK):
        number = min(BLOCK, studies - start)
        students, controls = family(law, first or law, conditions, seeds, number, rng)
        parts.append(judged(students, controls, paired=paired, margin=margin, rule=rule))
    transmitted, not_transmitted = zip(*parts, strict=True)
    return np.concatenate(transmitted), np.concatenate(not_transmitted)


def judged(
    students: Array, controls: Array, *, paired: bool, margin: float, rule: VerdictRule = "t"
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Returns the same flags for the given students (studies, conditions, seeds) and their controls."""
    inferred = infer_with_rule(rule, students, controls, margin=margin, paired=paired)
    effect = students.mean(axis=-1) - controls.mean(axis=-1)
    return claims(effect, adjust_arrays(inferred.p_value), adjust_arrays(inferred.p_equivalence), 0.05)


def interval_coverage(data: Answers, *, paired: bool, rule: VerdictRule) -> float:
    """Returns the share of intervals that cover the truth, in studies with only this condition."""
    students, controls = (rates[:, None] for rates in data.rates)
    inferred = infer_with_rule(rule, students, controls, margin=0.1, paired=paired, confidence=0.95)
    return share_covering(inferred, data.truth)


def bootstrap_coverage(
    data: Answers,
    *,
    paired: bool,
    studies: int,
    samples: int | None = SAMPLES,
    scale: EffectScale = "rate",
) -> float:
    """Returns the share of bootstrap intervals that cover the truth, over the first `studies` studies."""
    covered = []
    for students, controls in zip(data.students[:studies], data.controls[:studies], strict=True):
        interval = bootstrap(
            students, controls, samples=samples, paired=paired, seed=0, scale=scale, resamples=400
        )
        if interval is None:
            raise ValueError("the bootstrap needs at least two students per arm")
        covered.append(interval[0] <= data.truth <= interval[1])
    return float(np.mean(covered))
