"""What a finished study says of the spread over seeds, for planning the next one.

Read from `students.csv` of a sweep's folder, one row a student with a trait and the control student of its
seed, and of these the rows of the study's primary measure, which stands first. Spreads are pooled within
conditions, so that what conditions differ by does not count as spread. Few seeds say little: from 6 students
in two conditions a standard deviation is known to a factor of about 2.
"""

import csv
import io
import math
from dataclasses import dataclass

import numpy as np

from undertow.errors import UserError
from undertow.statistics.distribution_free import split
from undertow.statistics.ttests import Array

CONDITION = ("study", "trait", "format", "teacher", "student", "recipe")
INDUCED, MEASURE = "induced", "measure"  # which the tables of earlier sweeps do not have
RATES = ("rate", "control_rate")


@dataclass(frozen=True)
class Pilot:
    """Pooled within conditions, over those with two students or more.

    Attributes:
        sd, control_sd: standard deviations over seeds.
        correlation: of students with the control students of their seeds; 0 where an arm has no spread.
        two_modes: conditions one of whose arms shows two modes.
    """

    sd: float
    control_sd: float
    correlation: float
    students: int
    conditions: int
    two_modes: tuple[str, ...]


def read_pilot(text: str, name: str) -> Pilot:
    """From the text of a `students.csv`; `name` is what errors call it.

    Raises:
        UserError: columns are missing, a rate is no number, or no condition has two students.
    """
    pairs = {label: rates for label, rates in _conditions(text, name).items() if len(rates) > 1}
    if not pairs:
        raise UserError(f"{name}: no condition has two students with controls; a spread needs two seeds")
    within = np.concatenate([rates - rates.mean(axis=0) for rates in pairs.values()])
    covariance = within.T @ within / (len(within) - len(pairs))
    sd, control_sd = (math.sqrt(covariance[arm, arm]) for arm in (0, 1))
    return Pilot(
        sd,
        control_sd,
        float(covariance[0, 1] / (sd * control_sd)) if sd and control_sd else 0.0,
        len(within),
        len(pairs),
        tuple(label for label, rates in pairs.items() if any(split(list(arm)) for arm in rates.T)),
    )


def _conditions(text: str, name: str) -> dict[str, Array]:
    """By condition the rates (students, 2) of students and of their controls, where both are there."""
    reader = csv.DictReader(io.StringIO(text))
    missing = [column for column in (*CONDITION, *RATES) if column not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{name}: no column {', '.join(missing)}; give a sweep's students.csv")
    found: dict[str, list[list[float]]] = {}
    rows = list(enumerate(reader, start=2))
    primary = {row["study"]: row.get(MEASURE) for _, row in reversed(rows)}
    for line, row in rows:
        if row["rate"] and row["control_rate"] and row.get(MEASURE) == primary[row["study"]]:
            label = " · ".join(
                [*(row[column] for column in CONDITION[1:]), *filter(None, [row.get(INDUCED)])]
            )
            found.setdefault(f"{row['study']}: {label}", []).append(
                [_number(row[column], column, line, name) for column in RATES]
            )
    return {label: np.array(rates) for label, rates in found.items()}


def _number(text: str, column: str, line: int, name: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 <= rate <= 1:
        raise UserError(f"{name}, line {line}: {column} {text!r} is not a rate between 0 and 1")
    return rate
