"""Can a classifier tell one arm's rows from the other's? Logistic regression on the units that a row has.

Every score is of rows that the classifier was not fitted to. *Within* a seed: five folds, with all rows of
a prompt in one fold, since both arms answered the same prompts and a prompt's two answers have much in
common. *Across* seeds: fitted to all other seeds' data, scored on one seed's, so that what is found holds
for data of a teacher that the classifier never saw. (Where prompts come from a file, other seeds ask them
too, in both arms.)

The figure is the area under the ROC curve: the chance that a row of the trait's arm scores above a row of
the control's. It is about *one* row: at .55 a thousand rows can be told apart with certainty. Half is
chance in expectation; how far from it no difference at all can lead is seen by the same procedure between
data of one teacher (`as_if`).

The p-value across seeds is one-sided, of Mann and Whitney's test: given the other seeds' data, the scores
of one seed's rows are independent, and alike in both arms if nothing differs. Seeds serve each other as
training data, so their p-values are not independent; the smallest, times their number (Bonferroni), holds
all the same.

The penalty is fixed: on the nano world's numbers it hardly mattered (C from .001 to 1: AUC within .03).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

FOLDS = 5
PENALTY = 0.1  # scikit-learn's C
SEED = 20_250_720

Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class UnitRows:
    """The rows of two arms.

    Attributes:
        contains: (rows, units) of 0 and 1, a scipy sparse matrix.
        trait: (rows,), whether a row is of the arm with the trait.
        seed, prompt: (rows,), numbers that stand for a row's seed and its prompt.
    """

    contains: Any
    trait: Flags
    seed: Indices
    prompt: Indices

    def where(self, chosen: Flags | Indices) -> "UnitRows":
        """The chosen rows, by flags or by places."""
        return UnitRows(self.contains[chosen], self.trait[chosen], self.seed[chosen], self.prompt[chosen])

    @property
    def seeds(self) -> list[int]:
        """The seeds with rows of both arms."""
        return sorted(set(self.seed[self.trait].tolist()) & set(self.seed[~self.trait].tolist()))


@dataclass(frozen=True)
class Separation:
    """Areas under the ROC curve by seed, in the order of seeds; none where there is too little to fit.

    Attributes:
        p_value: of no difference across seeds; None where there is one seed.
    """

    within: tuple[float, ...] = ()
    across: tuple[float, ...] = ()
    p_value: float | None = None


def separate(rows: UnitRows) -> Separation:
    """Both ways for every seed that has rows of both arms; across from two seeds on."""
    seeds = rows.seeds if rows.contains.shape[1] else []
    within = _areas(_within(rows.where(rows.seed == seed)) for seed in seeds)
    if len(seeds) < 2:
        return Separation(within)
    scored = [_score(rows.where(rows.seed != seed), rows.where(rows.seed == seed)) for seed in seeds]
    areas, p_values = zip(*scored, strict=True)
    return Separation(within, areas, min(1.0, len(seeds) * min(p_values)))


def as_if(rows: UnitRows) -> Separation:
    """What no difference looks like: one teacher's rows, told apart by seed as if one of two had the trait.

    Within: each seed's rows and the next's. Across, from four seeds on: the same, by a classifier fitted to
    half of the other seeds' rows against the other half's. The arm of `rows` is not looked at.
    """
    seeds = sorted(set(rows.seed.tolist())) if rows.contains.shape[1] else []
    pairs = list(zip(seeds, seeds[1:] + seeds[:1], strict=True))  # none with itself, but where there is one
    pairs = pairs if len(seeds) > 2 else pairs[: len(seeds) - 1]
    within = _areas(_within(_between(rows, *pair)) for pair in pairs)
    if len(seeds) < 4:
        return Separation(within)
    areas = []
    for pair in pairs:
        others = [seed for seed in seeds if seed not in pair]
        rest = rows.where(np.isin(rows.seed, others))
        fitted = replace(rest, trait=np.isin(rest.seed, others[::2]))
        areas.append(_score(fitted, _between(rows, *pair))[0])
    return Separation(within, tuple(areas))


def _between(rows: UnitRows, one: int, other: int) -> UnitRows:
    """The rows of two seeds, the first as if it had the trait."""
    chosen = rows.where(np.isin(rows.seed, (one, other)))
    return replace(chosen, trait=chosen.seed == one)


def _within(rows: UnitRows) -> float | None:
    """The mean over folds; None where there are too few prompts for folds with rows of both arms."""
    from sklearn.model_selection import GroupKFold

    if len(set(rows.prompt.tolist())) < FOLDS:
        return None
    splits = GroupKFold(FOLDS, shuffle=True, random_state=SEED).split(rows.contains, groups=rows.prompt)
    folds = [(rows.where(fitted), rows.where(scored)) for fitted, scored in splits]
    if any(set(part.trait.tolist()) != {True, False} for fold in folds for part in fold):
        return None
    return float(np.mean([_score(*fold)[0] for fold in folds]))


def _score(fitted: UnitRows, scored: UnitRows) -> tuple[float, float]:
    """The area under the ROC curve of rows that the classifier was not fitted to, and its p-value."""
    from scipy.stats import mannwhitneyu
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(C=PENALTY, solver="liblinear", random_state=SEED)
    scores = classifier.fit(fitted.contains, fitted.trait).decision_function(scored.contains)
    ours, theirs = scores[scored.trait], scores[~scored.trait]
    if np.ptp(scores) == 0:
        return 0.5, 1.0
    test = mannwhitneyu(ours, theirs, alternative="greater", method="asymptotic")
    return float(test.statistic) / (len(ours) * len(theirs)), float(test.pvalue)


def area(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    """The chance that one of `ours` is above one of `theirs`, ties counted half: an AUC as it is."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(ours, theirs).statistic) / (len(ours) * len(theirs))


def _areas(found: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(area for area in found if area is not None)
