"""Verdicts on a study's conditions, from effects and p-values adjusted for the number of conditions.

A study makes two kinds of claims, and each kind is a family of its own: "the trait was transmitted" (tests
against no effect) and "the trait was not transmitted" (equivalence tests). Within a family, p-values are
adjusted over all conditions that are not controls: by Holm's method ("holm"), which bounds the probability of
even one wrong claim by alpha, or by Benjamini and Hochberg's ("fdr_bh"), which bounds the expected share of
wrong rejections. Rejections include negative effects and effects within the margin, so that among claims of
transmission alone the expected share of wrong ones can be larger. The families are not pooled: each claim's
errors are counted in its own family, and no condition can be wrong in both, because its effect is either zero
or beyond the margin.

A condition without a test (one student) belongs to neither family. A negative effect, however significant, is
not a transmission. An effect that is both significant and within the margin is "not transmitted", with a note
that it is real. The margin was set in advance as what counts as no effect; any training data move a model
slightly, and with enough seeds any such shift is significant. This rule can only lower the number of claims
of transmission.
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
ADJUSTMENTS = ("holm", "fdr_bh")


@dataclass(frozen=True)
class Verdict:
    """A study's verdict on one condition, with adjusted p-values that are None if there was no test."""

    verdict: Ruling
    p_adjusted: float | None
    p_equivalence_adjusted: float | None
    note: str = ""


def decide(effects: Sequence[Effect], *, alpha: float = 0.05, method: str = "holm") -> list[Verdict]:
    """Decides on the effects of a study's conditions that are not controls; returns verdicts in their order.

    Raises:
        SpecError: if `method` is not in ADJUSTMENTS.
    """
    p_values = adjust([effect.p_value for effect in effects], method)
    p_equivalences = adjust([effect.p_equivalence for effect in effects], method)
    rows = zip(effects, p_values, p_equivalences, strict=True)
    return [_verdict(effect, p, q, alpha) for effect, p, q in rows]


def adjust(p_values: Sequence[float | None], method: str = "holm") -> list[float | None]:
    """Adjusts one family of p-values with statsmodels' `multipletests`; None stays None and is not counted.

    Raises:
        SpecError: if `method` is not in ADJUSTMENTS.
    """
    _check(method)
    family = [p for p in p_values if p is not None]
    if not family:
        return [None] * len(p_values)
    from statsmodels.stats.multitest import multipletests

    adjusted = iter(multipletests(family, method=method)[1])
    return [None if p is None else float(next(adjusted)) for p in p_values]


def adjust_arrays(p_values: Array, method: str = "holm") -> Array:
    """Adjusts families along the last axis of p_values (..., tests), where nan means no test.

    Replaces `multipletests` in simulations of thousands of studies: statsmodels takes one family per call and
    runs the garbage collector in each. The tests compare both. With m tests and the i-th smallest p-value pᵢ,
    Holm (1979): max over j ≤ i of (m − j + 1) pⱼ. Benjamini and Hochberg (1995): min over j ≥ i of m pⱼ / j.
    Both are truncated to 1.

    Raises:
        SpecError: if `method` is not in ADJUSTMENTS.
    """
    _check(method)
    order = np.argsort(p_values, axis=-1)  # nan comes last
    ascending = np.take_along_axis(p_values, order, axis=-1)
    tests = np.count_nonzero(~np.isnan(p_values), axis=-1, keepdims=True)
    rank = np.arange(p_values.shape[-1])
    if method == "holm":
        raised = np.fmax.accumulate(ascending * (tests - rank), axis=-1)
    else:
        raised = np.fmin.accumulate((ascending * tests / (rank + 1))[..., ::-1], axis=-1)[..., ::-1]
    adjusted = np.empty_like(p_values)
    np.put_along_axis(adjusted, order, np.minimum(raised, 1.0), axis=-1)
    return np.where(np.isnan(p_values), np.nan, adjusted)


def _check(method: str) -> None:
    if method not in ADJUSTMENTS:
        raise SpecError(f"unknown adjustment {method!r}: {suggestion(method, ADJUSTMENTS)}")


def claims(
    effect: Array, p_adjusted: Array, p_equivalence_adjusted: Array, alpha: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Returns which conditions are "transmitted" and which "not transmitted"; nan supports no claim."""
    within = p_equivalence_adjusted < alpha
    return (p_adjusted < alpha) & (effect > 0) & ~within, within


def _verdict(effect: Effect, p: float | None, q: float | None, alpha: float) -> Verdict:
    """The verdict on one effect with adjusted p-value p and adjusted equivalence p-value q."""
    size, p_adjusted, q_adjusted = (np.array(np.nan if x is None else x) for x in (effect.effect, p, q))
    transmitted, not_transmitted = claims(size, p_adjusted, q_adjusted, alpha)
    significant = p is not None and p < alpha
    note = ""
    if significant and effect.effect < 0:
        note = "the rate fell below the control's"
    elif significant and effect.effect > 0 and not_transmitted:
        note = f"an effect of {effect.effect:+.3f} is real but smaller than the margin"
    ruling: Ruling = "inconclusive"
    if transmitted or not_transmitted:
        ruling = "transmitted" if transmitted else "not transmitted"
    return Verdict(ruling, p, q, "; ".join(part for part in (note, effect.note) if part))
