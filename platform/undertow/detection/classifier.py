"""Score: how well a classifier separates single rows of the trait's data from rows of the control's.

The AUC is of one row, both within a seed and for teachers that the classifier never saw (see
`statistics.separation`). It is shown with three references: the AUC between data sets of the control (no
difference at all), the AUC of a row's length alone, and the AUC against the data of the *other* traits'
teachers. The last one matters because a control teacher was not finetuned and a teacher with a trait was:
only teachers that were all finetuned tell the trait from the effect of finetuning itself.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from undertow.detection.data import Arms, arms
from undertow.detection.prose import equals, folded, mean, shown_mean, spread, two
from undertow.detection.scores import DetectionScore, SourceData
from undertow.statistics.separation import Separation, auc, null_separation, separate


@dataclass(frozen=True)
class RowSeparation:
    """The AUCs of a source, by seed.

    Attributes:
        by_length: of the number of units in a row; below 0.5 the trait's rows are shorter.
        against: the trait's rows against the control's.
        baseline: control data against control data.
        among: the trait's rows against those of other traits; empty if there are none.
    """

    by_length: float
    against: Separation
    baseline: Separation
    among: Separation


def row_separation(data: SourceData) -> RowSeparation:
    """Fits and scores the classifiers of one source."""
    pairs = [(seed, [data.trait[seed]], others) for seed, others in data.other_traits.items()]
    return RowSeparation(
        by_length=_auc_of_length(data.arms),
        against=separate(data.arms.rows),
        baseline=null_separation(data.arms.rows.where(~data.arms.rows.trait)),
        among=separate(arms(pairs).rows) if pairs else Separation(),
    )


def _auc_of_length(rows: Arms) -> float:
    """The mean over the seeds that have rows of both arms; 0.5 if there are none."""
    trait, seed = rows.rows.trait, rows.rows.seed
    areas = [
        auc(rows.lengths[trait & (seed == number)], rows.lengths[~trait & (seed == number)])
        for number in rows.rows.seeds
    ]
    return float(np.mean(areas)) if areas else 0.5


def _sentence(result: RowSeparation) -> str:
    against, control = result.against, result.baseline.across or result.baseline.within
    if against.across:
        text = (
            "A classifier separates rows of a seed that it was not fitted to from the control's with an "
            f"AUC of {spread(against.across)} (p {equals(against.p_value)})"
        )
    elif against.within:
        text = f"A classifier separates rows from the control's with an AUC of {spread(against.within)}"
    else:
        return ""
    references = [f"control against control {spread(control)}"] if control else []
    references.append(f"by length alone {two(folded(result.by_length))}")
    if among := result.among.across or result.among.within:
        references.append(f"against other traits {spread(among)}")
    return f"{text}; {', '.join(references)}."


CLASSIFIER: DetectionScore[RowSeparation] = DetectionScore(
    name="classifier",
    compute=row_separation,
    csv={
        "auc_within": lambda result: mean(result.against.within),
        "auc_across": lambda result: mean(result.against.across),
        "auc_across_low": lambda result: min(result.against.across, default=None),
        "auc_across_high": lambda result: max(result.against.across, default=None),
        "p_across": lambda result: result.against.p_value,
        "auc_control_within": lambda result: mean(result.baseline.within),
        "auc_control_across": lambda result: mean(result.baseline.across),
        "auc_length": lambda result: result.by_length,
        "auc_traits_within": lambda result: mean(result.among.within),
        "auc_traits_across": lambda result: mean(result.among.across),
    },
    json={
        "by_length": lambda result: result.by_length,
        "against": lambda result: dataclasses.asdict(result.against),
        "baseline": lambda result: dataclasses.asdict(result.baseline),
        "among": lambda result: dataclasses.asdict(result.among),
    },
    table={
        "AUC within": lambda result: shown_mean(result.against.within),
        "AUC across": lambda result: spread(result.against.across),
        "control": lambda result: shown_mean(result.baseline.across or result.baseline.within),
        "length": lambda result: two(folded(result.by_length)),
        "other traits": lambda result: shown_mean(result.among.across or result.among.within),
    },
    sentence=_sentence,
)
