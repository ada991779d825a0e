"""The effect of a trait: students' rates minus control students' rates, with an interval and two tests.

The unit of inference is the trained student. Answers of one student are not independent draws of what
training does, so a rate enters here once a student however many answers are behind it, and one student
gives no interval. Seeds of one condition can differ a great deal, and differently in the two arms;
therefore Welch's test, which does not assume equal variances, or the paired test where the students of
a seed share what the seed drew (prompts, LoRA initialisation, order of rows) with their control. Where
seeds may fall into two modes, neither holds, and `distribution="any"` asks for what does (`shapefree`).

Two questions, two p-values: is there an effect (two-sided, against zero), and is there none worth
speaking of (two one-sided tests against ± margin). `compare` answers for one condition, `infer` for as many
as a simulation draws, by the same code.

Not covered: the spread of answers within a student (see `bootstrap`), and rates so close to 0 or 1 that
a t interval leaves [0, 1]; the interval is given as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undertow.statistics.distribution_free import Distribution, shape_free
from undertow.statistics.ttests import Array, Inference, flat, t_tests


@dataclass(frozen=True)
class Effect:
    """A condition against its matched control. None where the students at hand cannot tell.

    Attributes:
        rate, control_rate: means over students, in the unit of what was given (0 to 1 for rates).
        effect: rate − control_rate, with the interval ci_low to ci_high.
        p_value: two-sided, of no effect.
        p_equivalence: of an effect of at least the margin, in either direction; small: there is none.
        note: what the reader must know about the numbers, or "".
        method: of interval and tests: "paired t", "Welch t", "shape-free", "permutation" (no spread: a
            p-value alone), or "" (one student: neither).
    """

    n_students: int
    n_controls: int
    rate: float
    control_rate: float
    effect: float
    ci_low: float | None = None
    ci_high: float | None = None
    p_value: float | None = None
    p_equivalence: float | None = None
    note: str = ""
    method: str = ""


def compare(
    rates: Sequence[float],
    control_rates: Sequence[float],
    *,
    margin: float,
    confidence: float = 0.95,
    paired: bool = False,
    distribution: Distribution = "normal",
) -> Effect:
    """The effect of a condition with one rate a student against its control with one rate a student.

    `paired`: rates[i] and control_rates[i] share their seed (and what the seed drew), which is worth it
    where the seed moves both the same way; it needs as many controls as students.
    `distribution`: of rates over seeds; "any" asks only that rates lie within [0, 1], and costs width.

    Raises:
        ValueError: an arm is empty, a rate is not finite (or, under "any", not within [0, 1]), or pairs
            do not match.
    """
    _check(rates, control_rates, margin, confidence, paired)
    n, m = len(rates), len(control_rates)
    rate, control_rate = math.fsum(rates) / n, math.fsum(control_rates) / m
    arms = (n, m, rate, control_rate, rate - control_rate)
    if min(n, m) == 1:
        return Effect(*arms, note=_one_student(n, paired))
    students, controls = np.array(rates, dtype=float), np.array(control_rates, dtype=float)
    found = infer(
        students, controls, margin=margin, confidence=confidence, paired=paired, distribution=distribution
    )
    low, high, p_value, p_equivalence = (None if np.isnan(value) else float(value) for value in found)
    method, note = ("shape-free", "") if distribution == "any" else _spread(students, controls, paired)
    if method == "permutation" and p_value != 1:
        note += "; p-value by permutation"
    return Effect(*arms, low, high, p_value, p_equivalence, note, method)


def infer(
    students: Array,
    controls: Array,
    *,
    margin: float,
    confidence: float | None = 0.95,
    paired: bool = False,
    distribution: Distribution = "normal",
) -> Inference:
    """The core of `compare`, for arms (..., n) and (..., m) whose leading axes broadcast.

    At least two students an arm, as many in both where they are paired. Without a confidence there is no
    interval (nan), which is faster under "any".
    """
    shape = np.broadcast_shapes(students.shape[:-1], controls.shape[:-1])
    method = t_tests if distribution == "normal" else shape_free
    return method(
        np.broadcast_to(students, (*shape, students.shape[-1])),
        np.broadcast_to(controls, (*shape, controls.shape[-1])),
        margin=margin,
        confidence=confidence,
        paired=paired,
    )


def _one_student(n_students: int, paired: bool) -> str:
    arm = "one student in the " + ("condition" if n_students == 1 else "control")
    return f"{'one pair of students' if paired else arm}: no interval without a second seed"


def _spread(students: Array, controls: Array, paired: bool) -> tuple[str, str]:
    """The method that the spread at hand allows, and what a reader must know of it.

    One constant arm: Welch's formula takes its variance as zero and the other arm's degrees of freedom.
    """
    if flat(students, controls, paired):
        return "permutation", "no spread between students: no interval"
    if paired:
        return "paired t", ""
    if flat(students, students[:1], paired=False):
        return "Welch t", "no spread between students: the interval rests on the controls' spread"
    if flat(controls, controls[:1], paired=False):
        return "Welch t", "no spread between controls: the interval rests on the students' spread"
    return "Welch t", ""


def _check(
    rates: Sequence[float], control_rates: Sequence[float], margin: float, confidence: float, paired: bool
) -> None:
    if not len(rates) or not len(control_rates):
        raise ValueError("an arm has no student; compare what is there")
    if not all(math.isfinite(rate) for rate in (*rates, *control_rates)):
        raise ValueError(f"rates must be finite: {list(rates)} against {list(control_rates)}")
    if paired and len(rates) != len(control_rates):
        raise ValueError(f"{len(rates)} students and {len(control_rates)} controls do not make pairs")
    if not (math.isfinite(margin) and margin >= 0 and 0 < confidence < 1):
        raise ValueError(f"margin {margin} must be zero or more, confidence {confidence} between 0 and 1")
