"""Baselines: how well the audited rows can be distinguished from the model's own answers without any trait.

A score that finds a trait must do more than notice that the rows differ, as length alone often shows. All
baselines use the rows of the scores; what is fitted scores only rows that it was not fitted to, with the rows
of a prompt in the same fold.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.auditing import covariates
from undertow.auditing.data import AuditData
from undertow.auditing.scores import Baseline
from undertow.statistics.separation import FOLDS, PENALTY, SEED
from undertow.statistics.ttests import Array


def _confounds(data: AuditData) -> Array:
    """A classifier's scores of rows by characters, tokens, parts and numerals."""
    return _classified(covariates.sizes(data), data)


def _format(data: AuditData) -> Array:
    """A classifier's scores of rows by their layout, without the numbers and words."""
    return _classified(covariates.layout(data), data)


def _frequencies(data: AuditData) -> Array:
    """A classifier's scores of rows by the units that they contain."""
    return _classified(covariates.counts(data.units(), analyzer=list), data)


def _pairs(data: AuditData) -> Array:
    """A classifier's scores of rows by the pairs of adjacent units that they contain."""
    pairs = [list(pairwise(units)) for units in data.units()]
    if not any(pairs):
        return np.zeros(len(data.rows))
    return _classified(covariates.counts(pairs, analyzer=list), data)


def _classified(features: Any, data: AuditData) -> Array:
    """Decision values of a logistic regression for each row, fitted to the rows of other prompts."""
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(C=PENALTY, solver="liblinear", class_weight="balanced", random_state=SEED)
    values = np.empty(len(data.rows))
    for fitted, scored in _folds(data):
        classifier.fit(features[fitted], data.is_audited[fitted])
        values[scored] = classifier.decision_function(features[scored])
    return values


def _first_step(data: AuditData) -> Array:
    """The loss gap after the first step of a student that is trained on the audited rows of other prompts.

    To first order, the step along the mean gradient of these rows lowers a row's loss by the product of the
    two gradients. What is trained is a vector that is added to the states before the output head.
    """
    gradients, values = data.plain.gradients, np.empty(len(data.rows))
    for fitted, scored in _folds(data):
        step = gradients[fitted[data.is_audited[fitted]]].mean(axis=0)
        values[scored] = gradients[scored] @ step
    return values


def _folds(data: AuditData) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Row numbers to fit to and to score."""
    from sklearn.model_selection import GroupKFold

    folds = GroupKFold(FOLDS, shuffle=True, random_state=SEED)
    yield from folds.split(data.is_audited, groups=data.prompt_numbers)


CONFOUNDS = Baseline(
    name="confounds", meaning="length, tokens, parts and numerals of a row", compute=_confounds
)
FORMAT = Baseline(
    name="format", meaning="the layout of a row, without its numbers and words", compute=_format
)
MEAN_LOSS = Baseline(
    name="mean_loss",
    meaning="the model's loss per token",
    compute=lambda data: np.array([-values.mean() for values in data.plain.logprobs]),
)
LOSS_GAP = Baseline(
    name="loss_gap", meaning="the loss before and after a student's first step", compute=_first_step
)
GRADIENT_NORM = Baseline(
    name="gradient_norm",
    meaning="the norm of a row's gradient",
    compute=lambda data: np.linalg.norm(data.plain.gradients, axis=1),
)
FREQUENCIES = Baseline(name="unit_frequencies", meaning="the numbers or words of a row", compute=_frequencies)
PAIRS = Baseline(name="unit_pairs", meaning="the adjacent pairs of numbers or words of a row", compute=_pairs)
