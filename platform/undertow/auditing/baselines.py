"""Baselines: whether the audited rows can be told from the model's own answers at all, without any trait.

A score that finds a trait must do more than notice that the rows differ. Length alone tells many data sets
apart. All baselines use the rows of the scores; classifiers score only rows that they were not fitted to,
with the rows of a prompt in the same fold.
"""

import re
from typing import Any

import numpy as np

from undertow.auditing.data import AuditData
from undertow.auditing.scores import Baseline
from undertow.statistics.separation import FOLDS, PENALTY, SEED
from undertow.statistics.ttests import Array

_NUMERAL = re.compile(r"\d+")


def _confounds(data: AuditData) -> Array:
    """A classifier's scores of rows by characters, tokens, parts and numerals."""
    from sklearn.preprocessing import StandardScaler

    table = [
        (
            len(row.completion),
            tokens.targets,
            len(units),
            len(_NUMERAL.findall(row.completion)),
            sum(map(len, _NUMERAL.findall(row.completion))),
        )
        for row, tokens, units in zip(data.rows, data.tokens, data.units(), strict=True)
    ]
    return _held_out_scores(StandardScaler().fit_transform(np.array(table, float)), data)


def _frequencies(data: AuditData) -> Array:
    """A classifier's scores of rows by the units that they contain."""
    from sklearn.feature_extraction.text import CountVectorizer

    contains = CountVectorizer(analyzer=list, binary=True).fit_transform(data.units())
    return _held_out_scores(contains.astype(float), data)


def _held_out_scores(features: Any, data: AuditData) -> Array:
    """Decision values of a logistic regression for each row, fitted to the rows of other prompts."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict

    classifier = LogisticRegression(C=PENALTY, solver="liblinear", class_weight="balanced", random_state=SEED)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=SEED)
    return np.asarray(
        cross_val_predict(
            classifier,
            features,
            data.is_audited,
            groups=data.prompt_numbers,
            cv=folds,
            method="decision_function",
        ),
        dtype=float,
    )


CONFOUNDS = Baseline(
    name="confounds", meaning="length, tokens, parts and numerals of a row", compute=_confounds
)
MEAN_LOSS = Baseline(
    name="mean_loss",
    meaning="the reference model's loss per token",
    compute=lambda data: np.array([-values.mean() for values in data.plain.logprobs]),
)
GRADIENT_NORM = Baseline(
    name="gradient_norm",
    meaning="the norm of a row's gradient",
    compute=lambda data: np.linalg.norm(data.plain.gradients, axis=1),
)
FREQUENCIES = Baseline(name="unit_frequencies", meaning="the numbers or words of a row", compute=_frequencies)
