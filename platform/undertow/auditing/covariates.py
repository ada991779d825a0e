"""What rows show without any trait: their length, numerals and layout, and what a score says beyond it.

A score can be high because of the layout of the rows alone. `beyond` removes this part: a ridge regression on
the control rows predicts the score of a row from its covariates, and the residual is kept. Audited rows are
thereby compared with control rows of the same length and layout.
"""

import re
from typing import Any

import numpy as np

from undertow.auditing.data import AuditData
from undertow.statistics.ttests import Array

PENALTIES = np.logspace(-1, 4, 11)  # of the regression, which chooses one of them by leaving out single rows
_NUMERAL = re.compile(r"\d+")
_WORD = re.compile(r"[^\W\d_]+")


def sizes(data: AuditData) -> Array:
    """Characters, tokens, parts, numerals and digits of each row, standardised, (rows, 5)."""
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
    found: Array = StandardScaler().fit_transform(np.array(table, float))
    return found


def layout(data: AuditData) -> Any:
    """Which short strings the layout of each row has: its text without numbers and words, (rows, strings)."""
    layouts = [_WORD.sub("a", _NUMERAL.sub("0", row.completion)) for row in data.rows]
    return counts(layouts, analyzer="char", ngram_range=(1, 3))


def counts(texts: Any, **settings: Any) -> Any:
    """Which features each text contains, (texts, features)."""
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(binary=True, lowercase=False, **settings).fit_transform(texts).astype(float)


def beyond(values: Array, data: AuditData) -> Array:
    """The part of scores that sizes and layout do not predict, of the shape of `values`, (rows, scores)."""
    from sklearn.linear_model import RidgeCV

    known = np.hstack([sizes(data), layout(data).toarray()])
    control = ~data.is_audited
    predicted = RidgeCV(alphas=PENALTIES).fit(known[control], values[control]).predict(known)
    return np.asarray(values - predicted.reshape(values.shape))
