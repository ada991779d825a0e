"""The effect of a trait: students' rates minus control students' rates, with an interval and two tests.

The unit of inference is the trained student. The answers of one student are not independent draws of what
training does, so each student enters with one rate, whatever its number of answers, and one student gives
no interval. Training seeds can differ a great deal, and by different amounts in the two arms. The default is
therefore Welch's t test, which does not assume equal variances, or the paired t test if a student shares
everything its seed determines (prompts, LoRA initialisation, row order) with the control student of that
seed. If seeds may fall into two modes, neither test is valid; `distribution="any"` selects
`distribution_free`.

There are two questions and two p-values: is there an effect (two-sided, against zero), and is the effect
negligible (two one-sided tests against ± margin). `compare` answers both for one condition, `infer` for
arrays of simulated conditions with the same code.

Not covered: the spread of answers within a student (see `bootstrap`), and rates so close to 0 or 1 that a t
interval leaves [0, 1]. Such an interval is not truncated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from undertow.statistics.distribution_free import Distribution, shape_free
from undertow.statistics.ttests import Array, Inference, has_no_spread, t_tests


@dataclass(frozen=True)
class Effect:
    """The effect of a condition against its matched control.

    Interval and p-values are None if they cannot be computed from the given students.

    Attributes:
        n_students, n_controls: number of students in each arm.
        rate, control_rate: means over students, in the unit of the input (0 to 1 for rates).
        effect: rate − control_rate, with the interval ci_low to ci_high. In a study with effects in log-odds,
            these three are in log-odds, and `rate` and `control_rate` are rates.
        p_value: two-sided p-value against no effect.
        p_equivalence: p-value against an absolute effect of at least the margin; small means negligible.
        note: caveats for the reader, or "".
        method: how interval and p-values were computed: "paired t", "Welch t", "shape-free", "permutation"
            (no spread between students: only a p-value), or "" (neither: one student, or no valid test).
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
    """Computes the effect of a condition from one rate per student and one rate per control student.

    Args:
        rates, control_rates: one number per trained student.
        margin: largest absolute effect that counts as none, in the unit of the rates.
        confidence: coverage of the interval.
        paired: whether rates[i] and control_rates[i] share their seed; requires equal lengths. Pairing gains
            power if the seed moves both rates in the same direction.
        distribution: assumed distribution of rates over seeds. "any" only assumes rates in [0, 1], at the
            price of wider intervals.

    Raises:
        ValueError: if an arm is empty, a rate is not finite (or, for "any", not in [0, 1]), paired arms
            differ in length, or margin or confidence is out of range.
    """
    _check(rates, control_rates, margin, confidence, paired)
    n, m = len(rates), len(control_rates)
    if min(n, m) == 1:
        arm = "one student in the " + ("condition" if n == 1 else "control")
        note = f"{'one pair of students' if paired else arm}: no interval without a second seed"
        return without_test(rates, control_rates, note)
    students, controls = np.array(rates, dtype=float), np.array(control_rates, dtype=float)
    inference = infer(
        students, controls, margin=margin, confidence=confidence, paired=paired, distribution=distribution
    )
    low, high, p_value, p_equivalence = (None if np.isnan(value) else float(value) for value in inference)
    method, note = ("shape-free", "") if distribution == "any" else _method(students, controls, paired)
    if method == "permutation" and p_value != 1:
        note += "; p-value by permutation"
    return replace(
        without_test(rates, control_rates, note),
        ci_low=low,
        ci_high=high,
        p_value=p_value,
        p_equivalence=p_equivalence,
        method=method,
    )


def without_test(rates: Sequence[float], control_rates: Sequence[float], note: str) -> Effect:
    """The effect of two arms without an interval or a test; `note` states why there is none."""
    n, m = len(rates), len(control_rates)
    rate, control_rate = math.fsum(rates) / n, math.fsum(control_rates) / m
    return Effect(n, m, rate, control_rate, rate - control_rate, note=note)


def infer(
    students: Array,
    controls: Array,
    *,
    margin: float,
    confidence: float | None = 0.95,
    paired: bool = False,
    distribution: Distribution = "normal",
) -> Inference:
    """Vectorized core of `compare` for arms (..., n) and (..., m) whose leading axes broadcast.

    Each arm needs at least two students; paired arms need n = m. With `confidence=None` the interval is nan,
    which is faster for "any".
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


def _method(students: Array, controls: Array, paired: bool) -> tuple[str, str]:
    """Returns the method that the arms' spread allows under "normal", and a note for the reader.

    If one arm is constant, Welch's formula uses a variance of zero for it and the other arm's degrees of
    freedom.
    """
    if has_no_spread(students, controls, paired):
        return "permutation", "no spread between students: no interval"
    if paired:
        return "paired t", ""
    if has_no_spread(students, students[:1], paired=False):
        return "Welch t", "no spread between students: the interval rests on the controls' spread"
    if has_no_spread(controls, controls[:1], paired=False):
        return "Welch t", "no spread between controls: the interval rests on the students' spread"
    return "Welch t", ""


def _check(
    rates: Sequence[float], control_rates: Sequence[float], margin: float, confidence: float, paired: bool
) -> None:
    if not len(rates) or not len(control_rates):
        raise ValueError(
            f"{len(rates)} students and {len(control_rates)} controls: each arm needs at least one student"
        )
    if not all(math.isfinite(rate) for rate in (*rates, *control_rates)):
        raise ValueError(f"rates must be finite: {list(rates)} against {list(control_rates)}")
    if paired and len(rates) != len(control_rates):
        raise ValueError(f"{len(rates)} students and {len(control_rates)} controls cannot be paired")
    if not (math.isfinite(margin) and margin >= 0 and 0 < confidence < 1):
        raise ValueError(f"margin {margin} must be zero or more, confidence {confidence} between 0 and 1")
