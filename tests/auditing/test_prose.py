"""The conclusion of an audit for every kind of result."""

import pytest

from undertow.auditing.prose import UNCALIBRATED, conclusion, p_value
from undertow.auditing.results import Audit, ModelResult, TraitResult
from undertow.auditing.scores import Evidence


def audit(
    *, mean: float = 0.5, p: float = 0.001, surprise_p: float = 0.5, probability: float | None = None
) -> Audit:
    found = Evidence(mean=mean, control=0.0, z=4.0, p=p, pairs=100)
    trait = TraitResult("owl", {"probe_ratio": found}, p, probability)
    surprise = Evidence(mean=12.0, control=11.0, z=0.0, p=surprise_p, pairs=100)
    model = ModelResult("m", 200, 100, -10.0, surprise, (trait,), {}, ())
    return Audit("rows", "numbers", 100, 0.05, (model,), (("probe_ratio", "probe"),), "a study")


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (audit(), "carry the signature of “owl” in m"),
        (audit(mean=-0.1), "lean towards “owl”"),
        (audit(p=0.2), "No candidate trait is visible, and the rows are as likely as m's own answers"),
        (audit(p=0.2, surprise_p=0.001), r"the rows differ from m's own answers .*\+1\.00 nats"),
        (audit(p=0.2, surprise_p=0.999), "the rows differ from m's own answers"),
    ],
)
def test_the_conclusion_states_what_the_evidence_supports(case: Audit, expected: str) -> None:
    import re

    assert re.search(expected, conclusion(case))
    assert conclusion(case).endswith(UNCALIBRATED)


def test_a_probability_is_stated_only_with_a_calibration() -> None:
    assert "probability of 83% (calibrated on a study)" in conclusion(audit(probability=0.83))
    assert UNCALIBRATED not in conclusion(audit(probability=0.83))


def test_an_audit_without_a_usable_model_states_the_reason() -> None:
    failed = Audit("rows", "text", 10, 0.05, (ModelResult("m", problem="it does not answer"),), (("a", "a"),))
    assert conclusion(failed) == "No candidate model could be audited: it does not answer."


@pytest.mark.parametrize(("p", "shown"), [(0.5, "0.5"), (0.00123, "0.0012"), (1e-9, "< 0.0001")])
def test_small_p_values_are_shown_as_a_bound(p: float, shown: str) -> None:
    assert p_value(p) == shown
