"""The rule by which an audit names a trait, or refuses to.

An audit names a trait only for rows that look like those of a teacher with a trait. It reports rows as
*unlike* anything that the rule was tested on, and names no trait, for one of these reasons:

- visible: rows name a candidate trait, so that they are not unrelated data.
- improbable: many rows have a token that the model almost never writes: another format or language.
- unexplained: the rows differ from the model's own answers, and the trait that fits best explains too little
  of it. Another model wrote them, or this one with other sampling settings or a trait outside of the bank.
- indistinct: they differ in a direction that the traits have in common, and none stands out.
- layout: a trait stands out, but not among rows of the same length and layout.
- disagreement: two probes of the trait agree so little that one would not explain the rows of the other, so
  that the trait that fits best is a matter of chance.

Otherwise rows are *clean* if no test of a trait or of the deviation is significant. `benchmarks/auditing.py`
measures how often the rule is right, on data sets of known origin.
"""

from typing import Literal

from undertow.auditing.deviation import Deviation

Finding = Literal["trait", "unlike", "clean"]
Reason = Literal["visible", "improbable", "unexplained", "indistinct", "layout", "disagreement"]

MOST_VISIBLE = 0.01  # of the rows
MOST_IMPROBABLE = 0.2  # of the rows; .01 is expected of the model's own answers, a teacher's were at .05
LEAST_EXPLAINED = 0.4  # of the deviation
# A weak trait is a small part of a deviation that is mostly chance, so the rest must be significant.
RESIDUAL_ALPHA = 0.001


def rule(
    deviation: Deviation,
    *,
    z: float,
    p_trait: float,
    p_beyond: float,
    agreement: float | None,
    p_deviation: float,
    visible: float,
    alpha: float,
) -> tuple[Finding, tuple[Reason, ...]]:
    """What the audit reports, with the reasons of "unlike".

    Args:
        z: of the best trait's score, before the other traits' mean is subtracted.
        p_trait, p_deviation: adjusted p-values of the best trait and of the deviation.
        p_beyond: that of the best trait among rows of the same length and layout.
        agreement: of the best trait's probes; None if it is not known.
        visible: the share of rows that name a candidate trait.
    """
    limits: dict[Reason, bool] = {
        "visible": visible > MOST_VISIBLE,
        "improbable": deviation.improbable > MOST_IMPROBABLE,
    }
    if reasons := tuple(reason for reason, is_exceeded in limits.items() if is_exceeded):
        return "unlike", reasons
    if min(p_trait, p_deviation) >= alpha:
        return "clean", ()
    if deviation.explained(z) < LEAST_EXPLAINED and deviation.residual_p(z) < RESIDUAL_ALPHA:
        return "unlike", ("unexplained",)
    if p_trait >= alpha:
        return "unlike", ("indistinct",)
    if p_beyond >= alpha:
        return "unlike", ("layout",)
    # Of rows of one probe's teacher, the other explains the square of their correlation.
    agrees = agreement is None or max(agreement, 0.0) ** 2 >= LEAST_EXPLAINED
    return ("trait", ()) if agrees else ("unlike", ("disagreement",))
