"""A share of right answers, with its interval and the chance that guessing does as well."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """`right` of `answers`: Wilson's interval (1927), and the p-value of guessing between two, both sides."""

    right: int
    answers: int
    share: float
    low: float
    high: float
    p_value: float


def share(right: int, answers: int, confidence: float = 0.95) -> Share:
    """For at least one answer."""
    from scipy.stats import binomtest
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(right, answers, alpha=1 - confidence, method="wilson")
    p_value = float(binomtest(right, answers, 0.5).pvalue)
    return Share(right, answers, right / answers, float(low), float(high), p_value)
