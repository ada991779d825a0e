"""Measures whether a classifier can tell one arm's rows from the other's, by area under the ROC curve (AUC).

The classifier is a logistic regression on the units that a row contains. It only scores rows that it was not
fitted to. *Within* a seed, it uses 5-fold cross-validation with all rows of a prompt in the same fold,
because both arms answered the same prompts and the two answers to a prompt have much in common. *Across*
seeds, it is fitted to the data of all other seeds and scores one seed's rows, so that a result holds for a
teacher that the classifier never saw. (If prompts come from a file, all seeds share them, in both arms.)

The AUC is the probability that a row of the trait's arm scores above a row of the control's. It describes
*one* row: at an AUC of .55, the arms of a thousand rows can be distinguished with certainty. Without any
difference, its expected value is 1/2; `null_separation` shows how far from 1/2 it gets by chance, by applying
the same procedure to data of one teacher.

The p-value across seeds is one-sided, from the Mann-Whitney U test: given the other seeds' data, the scores
of one seed's rows are independent, and identically distributed in both arms if nothing differs. Seeds serve
as each other's training data, so their p-values are dependent; the smallest times their number (Bonferroni)
is still valid.

The penalty is fixed. On number sequences of the nano models it had little influence (AUC within .03 for C
from .001 to 1).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

FOLDS = 5
PENALTY = 0.1  # C of scikit-learn's LogisticRegression
SEED = 20_250_720

Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class UnitRows:
    """The rows of two arms.

    Attributes:
        contains: (rows, units) of 0 and 1, a scipy sparse matrix.
        trait: (rows,), whether a row belongs to the arm with the trait.
        seed, prompt: (rows,), integer labels of a row's seed and prompt.
    """

    contains: Any
    trait: Flags
    seed: Indices
    prompt: Indices

    def where(self, chosen: Flags | Indices) -> "UnitRows":
        """Returns the chosen rows, selected by flags or by indices."""
        return UnitRows(self.contains[chosen], self.trait[chosen], self.seed[chosen], self.prompt[chosen])

    @property
    def seeds(self) -> list[int]:
        """The seeds with rows of both arms, in ascending order."""
        return sorted(set(self.seed[self.trait].tolist()) & set(self.seed[~self.trait].tolist()))


@dataclass(frozen=True)
class Separation:
    """AUCs by seed, in ascending order of seeds; seeds with too few rows to fit are omitted.

    Attributes:
        within: cross-validated AUC within each seed.
        across: AUC on each seed's rows of a classifier fitted to the other seeds.
        p_value: p-value against no difference across seeds; None if there is only one seed.
    """

    within: tuple[float, ...] = ()
    across: tuple[float, ...] = ()
    p_value: float | None = None


def separate(rows: UnitRows) -> Separation:
    """Separates the arms within and, if at least two seeds have rows of both arms, across seeds."""
    seeds = rows.seeds if rows.contains.shape[1] else []
    within = _without_none(_cross_validated(rows.where(rows.seed == seed)) for seed in seeds)
    if len(seeds) < 2:
        return Separation(within)
    scored = [_score(rows.where(rows.seed != seed), rows.where(rows.seed == seed)) for seed in seeds]
    across, p_values = zip(*scored, strict=True)
    return Separation(within, across, min(1.0, len(seeds) * min(p_values)))


def null_separation(rows: UnitRows) -> Separation:
    """Measures the AUCs without any difference, by treating the seeds of one teacher as two arms.

    `within` compares each seed's rows with the next seed's. `across`, which needs four seeds, does the same
    with a classifier fitted to one half of the other seeds against the other half. `rows.trait` is ignored.
    """
    seeds = sorted(set(rows.seed.tolist())) if rows.contains.shape[1] else []
    pairs = list(zip(seeds, seeds[1:] + seeds[:1], strict=True))
    if len(seeds) <= 2:  # two seeds make one pair, one seed makes none
        pairs = pairs[: len(seeds) - 1]
    within = _without_none(_cross_validated(_as_arms(rows, *pair)) for pair in pairs)
    if len(seeds) < 4:
        return Separation(within)
    across = []
    for pair in pairs:
        others = [seed for seed in seeds if seed not in pair]
        rest = rows.where(np.isin(rows.seed, others))
        fitted = replace(rest, trait=np.isin(rest.seed, others[::2]))
        across.append(_score(fitted, _as_arms(rows, *pair))[0])
    return Separation(within, tuple(across))


def _as_arms(rows: UnitRows, one: int, other: int) -> UnitRows:
    """Returns the rows of two seeds, with those of seed `one` labelled as the arm with the trait."""
    chosen = rows.where(np.isin(rows.seed, (one, other)))
    return replace(chosen, trait=chosen.seed == one)


def _cross_validated(rows: UnitRows) -> float | None:
    """Returns the mean AUC over folds; None if there are too few prompts for folds with both arms."""
    from sklearn.model_selection import GroupKFold

    if len(set(rows.prompt.tolist())) < FOLDS:
        return None
    splits = GroupKFold(FOLDS, shuffle=True, random_state=SEED).split(rows.contains, groups=rows.prompt)
    folds = [(rows.where(fitted), rows.where(scored)) for fitted, scored in splits]
    if any(set(part.trait.tolist()) != {True, False} for fold in folds for part in fold):
        return None
    return float(np.mean([_score(*fold)[0] for fold in folds]))


def _score(fitted: UnitRows, scored: UnitRows) -> tuple[float, float]:
    """Fits the classifier to `fitted` and returns AUC and one-sided p-value on `scored`."""
    from scipy.stats import mannwhitneyu
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(C=PENALTY, solver="liblinear", random_state=SEED)
    scores = classifier.fit(fitted.contains, fitted.trait).decision_function(scored.contains)
    trait, control = scores[scored.trait], scores[~scored.trait]
    if np.ptp(scores) == 0:
        return 0.5, 1.0  # without this, mannwhitneyu divides by a variance of zero
    test = mannwhitneyu(trait, control, alternative="greater", method="asymptotic")
    return float(test.statistic) / (len(trait) * len(control)), float(test.pvalue)


def auc(positives: npt.NDArray[Any], negatives: npt.NDArray[Any]) -> float:
    """Returns the AUC: the probability that a positive lies above a negative, with ties counted half."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(positives, negatives).statistic) / (len(positives) * len(negatives))


def _without_none(values: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(value for value in values if value is not None)
