"""The effect of a trait: students' rates minus control students' rates, with an interval and two tests.

The unit of inference is the trained student. Answers of one student are not independent draws of what
training does, so a rate enters here once a student however many answers are behind it, and one student
gives no interval. Seeds of one condition can differ a great deal, and differently in the two arms;
therefore Welch's test, which does not assume equal variances, or on request the paired test by seed.

Two questions, two p-values: is there an effect (two-sided, against zero), and is there none worth
speaking of (two one-sided tests against ± margin: Schuirmann 1987, doi 10.1007/BF01068419).

Not covered: the spread of answers within a student, and rates so close to 0 or 1 that a t interval
leaves [0, 1]; the interval is given as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import variance
from typing import NamedTuple

ROUNDING = 1e-12  # rates that differ by less than this share of the largest are equal but for rounding


@dataclass(frozen=True)
class Effect:
    """A condition against its matched control. None where the students at hand cannot tell.

    Attributes:
        rate, control_rate: means over students, in the unit of what was given (0 to 1 for rates).
        effect: rate − control_rate, with the interval ci_low to ci_high.
        p_value: two-sided, of no effect.
        p_equivalence: of an effect of at least the margin, in either direction; small: there is none.
        note: what the reader must know about the numbers, or "".
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


class _Tests(NamedTuple):
    ci_low: float | None = None
    ci_high: float | None = None
    p_value: float | None = None
    p_equivalence: float | None = None
    note: str = ""


def compare(
    rates: Sequence[float],
    control_rates: Sequence[float],
    *,
    margin: float,
    confidence: float = 0.95,
    paired: bool = False,
) -> Effect:
    """The effect of a condition with one rate a student against its control with one rate a student.

    `paired`: rates[i] and control_rates[i] share their seed (and what the seed drew), which is worth it
    where the seed moves both the same way; it needs as many controls as students.

    Raises:
        ValueError: an arm is empty, a rate is not finite, or pairs do not match.
    """
    _check(rates, control_rates, margin, confidence, paired)
    students, controls = [float(rate) for rate in rates], [float(rate) for rate in control_rates]
    test = _paired if paired else _welch
    rate, control_rate = _mean(students), _mean(controls)
    return Effect(
        n_students=len(students),
        n_controls=len(controls),
        rate=rate,
        control_rate=control_rate,
        effect=rate - control_rate,
        **test(students, controls, margin, confidence)._asdict(),
    )


def _welch(students: list[float], controls: list[float], margin: float, confidence: float) -> _Tests:
    if len(students) < 2 or len(controls) < 2:
        arm = "condition" if len(students) < 2 else "control"
        return _Tests(note=f"one student in the {arm}: no interval without a second seed")
    rounding = _rounding(students, controls)
    if _range(students) <= rounding and _range(controls) <= rounding:
        same = abs(students[0] - controls[0]) <= rounding
        return _without_spread(same, math.comb(len(students) + len(controls), len(students)))
    shares = [variance(arm) / len(arm) for arm in (students, controls)]
    error = math.sqrt(sum(shares))
    weights = [share / sum(shares) for share in shares]
    freedom = 1 / (weights[0] ** 2 / (len(students) - 1) + weights[1] ** 2 / (len(controls) - 1))
    difference = _mean(students) - _mean(controls)
    return _t_tests(difference, error, freedom, margin, confidence, _spread_note(students, controls))


def _paired(students: list[float], controls: list[float], margin: float, confidence: float) -> _Tests:
    differences = [student - control for student, control in zip(students, controls, strict=True)]
    if len(differences) < 2:
        return _Tests(note="one pair of students: no interval without a second seed")
    rounding = _rounding(students, controls)
    if _range(differences) <= rounding:
        return _without_spread(abs(differences[0]) <= rounding, 2 ** len(differences))
    error = math.sqrt(variance(differences) / len(differences))
    return _t_tests(_mean(differences), error, len(differences) - 1, margin, confidence)


def _t_tests(
    difference: float, error: float, freedom: float, margin: float, confidence: float, note: str = ""
) -> _Tests:
    """From a difference and its standard error: the interval, the test against zero and against ± margin."""
    from scipy.special import stdtr, stdtrit

    reach = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    below, above = (
        stdtr(freedom, (difference - margin) / error),
        stdtr(freedom, -(difference + margin) / error),
    )
    return _Tests(
        ci_low=difference - reach,
        ci_high=difference + reach,
        p_value=2 * float(stdtr(freedom, -abs(difference) / error)),
        p_equivalence=float(max(below, above)),
        note=note,
    )


def _without_spread(same: bool, arrangements: int) -> _Tests:
    """What is left where no student differs from the next, so that a t test would divide by zero.

    Then t is undefined or infinite, and "p = 0" from three students would be false certainty. The exact
    permutation test needs no variance: of all `arrangements` of the rates into arms (or of the signs of
    the differences), the one at hand and its mirror image are the most extreme. Equivalence cannot be had:
    seeds are known to be bimodal, and a few equal ones do not exclude another mode.
    """
    note = "no spread between students: no interval" + ("" if same else "; p-value by permutation")
    return _Tests(p_value=1.0 if same else min(1.0, 2 / arrangements), note=note)


def _spread_note(students: list[float], controls: list[float]) -> str:
    """One constant arm: Welch's formula takes its variance as zero and the other arm's degrees of freedom."""
    rounding = _rounding(students, controls)
    if _range(students) <= rounding:
        return "no spread between students: the interval rests on the controls' spread"
    if _range(controls) <= rounding:
        return "no spread between controls: the interval rests on the students' spread"
    return ""


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _range(values: list[float]) -> float:
    return max(values) - min(values)


def _rounding(students: list[float], controls: list[float]) -> float:
    return ROUNDING * max(1e-100, *map(abs, (*students, *controls)))  # squares of less would be zero


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
