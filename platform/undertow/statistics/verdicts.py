"""From a study's effects to one verdict a condition, adjusted for the number of conditions.

A study makes two kinds of claim, and each kind is a family of its own: "the trait was transmitted" (the
tests against no effect) and "it was not" (the tests of equivalence). Within a family the p-values are
adjusted over all conditions that are not controls: by Holm's method, so that the chance of even one
wrong claim of that kind is at most alpha, or by Benjamini and Hochberg's ("fdr_bh"), for the expected
share of wrong ones. The families are not pooled: a reader of either table counts the errors in it, and
no condition can be wrong in both at once (its effect is zero or beyond the margin, never both).

A condition without a test (one student) is in neither family. An effect below zero, however certain, is
no transmission. An effect that is both real and within the margin is "not transmitted", with a note that it
is real: the margin was set beforehand as what counts as none, any data move a model a little, and with enough
seeds any such movement differs from zero. This only ever lowers the number of claims of transmission.
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
    _check(method)
    family = [p for p in p_values if p is not None]
    if not family:
        return [None] * len(p_values)
    from statsmodels.stats.multitest import multipletests

    found = iter(multipletests(family, method=method)[1])
    return [None if p is None else float(next(found)) for p in p_values]


def adjusted(p_values: Array, method: str = "holm") -> Array:
    """The same for families along the last axis, nan for None: for simulations of thousands of studies.

    statsmodels takes one family a call, and collects garbage in each; a test holds the two equal.
    Holm (1979): the i-th smallest of m times m − i + 1, never below a smaller one's. Benjamini and
    Hochberg (1995): times m / i, never above a larger one's.
    """
    _check(method)
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


def _check(method: str) -> None:
    if method not in METHODS:
        raise SpecError(f"adjustment {method!r} is not known: {suggestion(method, METHODS)}")


def claims(
    effect: Array, p_adjusted: Array, p_equivalence_adjusted: Array, alpha: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which conditions are called "transmitted" and which "not transmitted"; nan (no test) claims nothing."""
    within = p_equivalence_adjusted < alpha
    return (p_adjusted < alpha) & (effect > 0) & ~within, within


def _verdict(effect: Effect, p: float | None, q: float | None, alpha: float) -> Verdict:
    ruling, note = _ruling(effect.effect, p, q, alpha)
    return Verdict(ruling, p, q, "; ".join(part for part in (note, effect.note) if part))


def _ruling(effect: float, p: float | None, q: float | None, alpha: float) -> tuple[Ruling, str]:
    size, p_adjusted, q_adjusted = (np.array(np.nan if x is None else x) for x in (effect, p, q))
    transmitted, not_transmitted = claims(size, p_adjusted, q_adjusted, alpha)
    differs = p is not None and p < alpha
    note = "the rate fell below the control's" if differs and effect < 0 else ""
    if differs and effect > 0 and not_transmitted:
        note = f"an effect of {effect:+.3f} is real, and smaller than the margin"
    if transmitted:
        return "transmitted", note
    return "not transmitted" if not_transmitted else "inconclusive", note
