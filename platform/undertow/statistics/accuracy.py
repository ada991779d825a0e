"""Binary accuracy with a Wilson interval and an exact binomial test against guessing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Accuracy:
    """The share of correct answers.

    Attributes:
        right: number of correct answers.
        answers: number of answers in total, at least 1.
        share: right / answers.
        low, high: bounds of the 95 % Wilson score interval (Wilson 1927).
        p_value: two-sided exact binomial test against an accuracy of 1/2, that is, guessing between two
            options.
    """

    right: int
    answers: int
    share: float
    low: float
    high: float
    p_value: float


def measure_accuracy(right: int, answers: int) -> Accuracy:
    """Computes the accuracy of `right` correct answers out of `answers` (at least 1).

    The interval is statsmodels' `proportion_confint(method="wilson")`, the p-value scipy's `binomtest`.
    """
    from scipy.stats import binomtest
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(right, answers, alpha=0.05, method="wilson")
    p_value = float(binomtest(right, answers, 0.5).pvalue)
    return Accuracy(right, answers, right / answers, float(low), float(high), p_value)
