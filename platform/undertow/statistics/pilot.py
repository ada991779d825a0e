"""Estimates the spread over seeds from a finished study, to plan the next one.

The input is the `students.csv` of a sweep folder, which has one row per student with a trait and the control
student of its seed. Only rows of the study's primary measure, which is listed first, are used. Standard
deviations are pooled within conditions, so that differences between conditions do not count as spread. Few
seeds give imprecise estimates: from 6 students in two conditions, a standard deviation is known to a factor
of about 2.

The spread is that of the rates which the study's verdicts rest on, unless the caller asks for the other kind:
exact probabilities have no sampling noise, and the spread of sampled rates includes it. The spread is in the
unit of the study's effects, unless the caller asks for another one. If these are rates, log-odds are computed
from them, without the ½ that is added to counts: the file lacks the number of answers.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from undertow.errors import UserError
from undertow.statistics.distribution_free import MODE_GAP as RATE_GAP
from undertow.statistics.distribution_free import has_two_modes
from undertow.statistics.log_odds import MODE_GAP as LOG_ODDS_GAP
from undertow.statistics.log_odds import of_probability
from undertow.statistics.ttests import Array
from undertow.study.measurements import EffectOf, EffectScale

CONDITION = ("study", "trait", "format", "teacher", "student", "recipe")
INDUCED, MEASURE = "induced", "measure"  # optional: files of earlier versions lack these columns
EFFECT_OF = "effect_of"  # optional: only studies whose effects are of exact probabilities have this column
EFFECT_SCALE = "effect_scale"  # optional: only studies whose effects are in log-odds have this column
RATES = ("rate", "control_rate")
LOG_ODDS = ("log_odds", "control_log_odds")
OTHER_RATES = {  # the columns of rates that the study's verdicts do not rest on
    "exact": ("exact_rate", "exact_control_rate"),
    "samples": ("sampled_rate", "sampled_control_rate"),
}


@dataclass(frozen=True)
class Pilot:
    """Estimates pooled within the conditions that have at least two students.

    Attributes:
        sd, control_sd: standard deviations over seeds, with (students − conditions) degrees of freedom.
        correlation: correlation between students and the control students of their seeds; 0 if an arm has
            no spread.
        students, conditions: how many of each the estimates rest on.
        two_modes: conditions with an arm that shows two modes.
        effect_of: the kind of rates.
        effect_scale: the unit of the standard deviations.
        tests: the number of conditions and measures with at least two pairs of students, over which the
            study adjusted its p-values.
    """

    sd: float
    control_sd: float
    correlation: float
    students: int
    conditions: int
    two_modes: tuple[str, ...]
    effect_of: EffectOf = "samples"
    effect_scale: EffectScale = "rate"
    tests: int = 1


def read_pilot(
    text: str, name: str, effect_of: EffectOf | None = None, effect_scale: EffectScale | None = None
) -> Pilot:
    """Reads the text of a `students.csv`. Error messages refer to the file as `name`.

    Args:
        effect_of: the kind of rates; None for the kind that the study's verdicts rest on.
        effect_scale: the unit of the spread; None for the unit of the study's effects.

    Raises:
        UserError: if columns are missing, a rate is not in [0, 1] or has no log-odds, or no condition has two
            students.
    """
    conditions, found_of, scale, tests = _read_conditions(text, name, effect_of, effect_scale)
    gap = RATE_GAP if scale == "rate" else LOG_ODDS_GAP
    pairs = {label: rates for label, rates in conditions.items() if len(rates) > 1}
    if not pairs:
        kind = " with exact probabilities" if found_of == "exact" else ""
        raise UserError(
            f"{name}: no condition has two students with controls{kind}; estimating a spread needs two seeds"
        )
    deviations = np.concatenate([rates - rates.mean(axis=0) for rates in pairs.values()])
    covariance = deviations.T @ deviations / (len(deviations) - len(pairs))
    sd, control_sd = (math.sqrt(covariance[arm, arm]) for arm in (0, 1))
    correlation = float(covariance[0, 1] / (sd * control_sd)) if sd and control_sd else 0.0
    return Pilot(
        sd,
        control_sd,
        min(max(correlation, -1.0), 1.0),  # rounding puts that of two pairs beyond ±1
        len(deviations),
        len(pairs),
        tuple(label for label, arms in pairs.items() if any(has_two_modes(list(a), gap) for a in arms.T)),
        found_of,
        scale,
        tests,
    )


def _read_conditions(
    text: str, name: str, effect_of: EffectOf | None, effect_scale: EffectScale | None
) -> tuple[dict[str, Array], EffectOf, EffectScale, int]:
    """Returns, by condition, values (students, 2) of students and their controls, for rows that have both.

    Also returns the kind of rates, the unit of the values, and the number of tests (see `Pilot`).
    """
    reader = csv.DictReader(io.StringIO(text))
    # The primary measure of a study with this column always has exact probabilities.
    own: EffectOf = "exact" if EFFECT_OF in (reader.fieldnames or ()) else "samples"
    wanted: EffectOf = effect_of or own
    own_scale: EffectScale = "log-odds" if EFFECT_SCALE in (reader.fieldnames or ()) else "rate"
    scale: EffectScale = effect_scale or own_scale
    columns = RATES if wanted == own else OTHER_RATES[wanted]
    read: Callable[[str, str, int, str], float] = partial(_read_rate, scale=scale, is_exact=wanted == "exact")
    if wanted == own and scale == own_scale == "log-odds":
        columns, read = LOG_ODDS, _read_number
    missing = [column for column in (*CONDITION, *columns) if column not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{name}: no column {', '.join(missing)}; pass the students.csv of a sweep")
    conditions: dict[str, list[list[float]]] = {}
    rows = list(enumerate(reader, start=2))  # line 1 is the header
    primary = {row["study"]: row.get(MEASURE) for _, row in reversed(rows)}  # the first row of a study wins
    for line, row in rows:
        if all(row[column] for column in columns) and row.get(MEASURE) == primary[row["study"]]:
            label = " · ".join(
                [*(row[column] for column in CONDITION[1:]), *filter(None, [row.get(INDUCED)])]
            )
            rates = [read(row[column], column, line, name) for column in columns]
            conditions.setdefault(f"{row['study']}: {label}", []).append(rates)
    fields = (*CONDITION, INDUCED, MEASURE)
    sizes = Counter(tuple(row.get(field) for field in fields) for _, row in rows if row.get(RATES[1]))
    tests = sum(size > 1 for size in sizes.values())
    return {label: np.array(rates) for label, rates in conditions.items()}, wanted, scale, tests


def _read_rate(text: str, column: str, line: int, name: str, *, scale: EffectScale, is_exact: bool) -> float:
    """A rate, or its log-odds."""
    rate = _read_number(text, column, line, name)
    if not 0 <= rate <= 1:
        raise UserError(f"{name}, line {line}: {column} {text!r} is not a rate between 0 and 1")
    if scale == "rate":
        return rate
    if not is_exact and rate in (0, 1):
        raise UserError(
            f"{name}, line {line}: {column} {text} has no log-odds without the number of answers; run the "
            'pilot again with effect_scale="log-odds" (its models are reused) and pass the new students.csv'
        )
    return float(of_probability(rate))


def _read_number(text: str, column: str, line: int, name: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        what = "a rate between 0 and 1" if "rate" in column else "a number"
        raise UserError(f"{name}, line {line}: {column} {text!r} is not {what}")
    return number
