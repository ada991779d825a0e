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

from undertow.errors import SpecError, suggestion
from undertow.statistics.effects import Effect

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
    if method not in METHODS:
        raise SpecError(f"adjustment {method!r} is not known: {suggestion(method, METHODS)}")
    family = [p for p in p_values if p is not None]
    if not family:
        return [None] * len(p_values)
    from statsmodels.stats.multitest import multipletests

    adjusted = iter(multipletests(family, method=method)[1])
    return [None if p is None else float(next(adjusted)) for p in p_values]


def _verdict(effect: Effect, p: float | None, q: float | None, alpha: float) -> Verdict:
    ruling, note = _ruling(effect.effect, p is not None and p < alpha, q is not None and q < alpha)
    return Verdict(ruling, p, q, "; ".join(part for part in (note, effect.note) if part))


def _ruling(effect: float, differs: bool, within: bool) -> tuple[Ruling, str]:
    if differs and effect > 0:
        return "transmitted", "real, and smaller than the margin" if within else ""
    below = "the rate fell below the control's" if differs else ""
    return "not transmitted" if within else "inconclusive", below
