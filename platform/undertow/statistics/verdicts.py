"""From a study's effects to one verdict a condition, adjusted for the number of conditions.

A study makes two kinds of claim, and each kind is a family of its own: "the trait was transmitted" (the
tests against no effect) and "it was not" (the tests of equivalence). Within a family the p-values are
adjusted over all conditions that are not controls: by Holm's method, so that the chance of even one
wrong claim of that kind is at most alpha, or by Benjamini and Hochberg's ("fdr_bh"), for the expected
share of wrong ones. The families are not pooled: a reader of either table counts the errors in it, and
no condition can be wrong in both at once (its effect is zero or beyond the margin, never both).

A condition without a test (one student) is in neither family. An effect below zero, however certain, is
no transmission. An effect that is both real and within the margin counts as transmitted, with a note:
the margin says which effects a null result excludes, not which ones exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from undertow.errors import SpecError, suggestion
from undertow.statistics.effects import Effect
from undertow.statistics.ttests import Array

Ruling = Literal["transmitted", "not transmitted", "inconclusive"]
METHODS = ("holm", "fdr_bh")


@dataclass(frozen=True)
class Verdict:
    """What a study says about one condition; the p-values are adjusted, and None where there was no test."""

    verdict: Ruling
    p_adjusted: float | None
    p_equivalence_adjusted: float | None
    note: str = ""


def judge(effects: Sequence[Effect], *, alpha: float = 0.05, method: str = "holm") -> list[Verdict]:
    """One verdict for each effect of a study's conditions that are not controls, in the same order."""
    p_values = adjust([effect.p_value for effect in effects], method)
    p_equivalences = adjust([effect.p_equivalence for effect in effects], method)
    rows = zip(effects, p_values, p_equivalences, strict=True)
    return [_verdict(effect, p, q, alpha) for effect, p, q in rows]


def adjust(p_values: Sequence[float | None], method: str = "holm") -> list[float | None]:
    """The family's adjusted p-values in the same order; None stays None and counts for nothing.

    Raises SpecError for an unknown method.
    """
    family = np.array([np.nan if p is None else p for p in p_values], dtype=float)
    return [None if np.isnan(p) else float(p) for p in adjusted(family, method)]


def adjusted(p_values: Array, method: str = "holm") -> Array:
    """The same for families along the last axis, nan for None: what statsmodels' `multipletests` does to one.

    Holm (1979): the i-th smallest of m times m − i + 1, never below a smaller one's. Benjamini and Hochberg
    (1995): times m / i, never above a larger one's.
    """
    if method not in METHODS:
        raise SpecError(f"adjustment {method!r} is not known: {suggestion(method, METHODS)}")
    order = np.argsort(p_values, axis=-1)  # nan last
    smallest_first = np.take_along_axis(p_values, order, axis=-1)
    tests = np.count_nonzero(~np.isnan(p_values), axis=-1, keepdims=True)
    place = np.arange(p_values.shape[-1])
    if method == "holm":
        raised = np.fmax.accumulate(smallest_first * (tests - place), axis=-1)
    else:
        raised = np.fmin.accumulate((smallest_first * tests / (place + 1))[..., ::-1], axis=-1)[..., ::-1]
    found = np.empty_like(p_values)
    np.put_along_axis(found, order, np.minimum(raised, 1.0), axis=-1)
    return np.where(np.isnan(p_values), np.nan, found)


def claims(
    effect: Array, p_adjusted: Array, p_equivalence_adjusted: Array, alpha: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which conditions are called "transmitted" and which "not transmitted"; nan (no test) claims nothing."""
    transmitted = (p_adjusted < alpha) & (effect > 0)
    return transmitted, (p_equivalence_adjusted < alpha) & ~transmitted


def _verdict(effect: Effect, p: float | None, q: float | None, alpha: float) -> Verdict:
    ruling, note = _ruling(effect.effect, p, q, alpha)
    return Verdict(ruling, p, q, "; ".join(part for part in (note, effect.note) if part))


def _ruling(effect: float, p: float | None, q: float | None, alpha: float) -> tuple[Ruling, str]:
    size, p_adjusted, q_adjusted = (np.array(np.nan if x is None else x) for x in (effect, p, q))
    transmitted, not_transmitted = claims(size, p_adjusted, q_adjusted, alpha)
    differs, within = p is not None and p < alpha, q is not None and q < alpha
    if transmitted:
        return "transmitted", "real, and smaller than the margin" if within else ""
    below = "the rate fell below the control's" if differs and effect < 0 else ""
    return "not transmitted" if not_transmitted else "inconclusive", below
