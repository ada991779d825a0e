"""The conclusion of an audit for every finding."""

from collections.abc import Sequence

import pytest

from undertow.auditing.deviation import Deviation
from undertow.auditing.finding import Finding, Reason
from undertow.auditing.prose import UNCALIBRATED, conclusion, effect_text, probability_text
from undertow.auditing.results import Audit, ExpectedEffect, ModelResult, TraitResult
from undertow.auditing.scores import Evidence


def audit(finding: Finding, reasons: Sequence[Reason] = (), probability: float | None = None) -> Audit:
    found = Evidence(mean=0.5, control=0.0, alone=5.0, z=4.0, p=1e-5, pairs=100)
    beyond = Evidence(mean=0.1, control=0.0, alone=1.5, z=1.2, p=0.1, pairs=100)
    model = ModelResult(
        model="m",
        controls=200,
        fit=-10.0,
        score="probe",
        teacher="finetuned",
        finding=finding,
        reasons=tuple(reasons),
        deviation=Deviation(100.0, directions=10, pairs=100, improbable=0.25),
        deviation_p=0.003,
        explained=0.12,
        traits=(TraitResult("owl", {"probe": found}, 0.001, beyond, 0.31, probability),),
        baselines={},
        carrying=(),
        tokens=(),
    )
    scores = ("probe",)
    return Audit("rows", "numbers", 100, 0.3, 0.05, (model,), {}, scores, "a study")


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (audit("trait"), "“owl” in m, finetuned to have it (z 4.0, adjusted p 0.001; it explains 12 % of"),
        (audit("clean"), "No trait of the bank is visible, and the rows do not differ from m's own answers"),
        (audit("unlike", ["visible"]), "no trait is named: 30 % of the rows name a candidate trait."),
        (audit("unlike", ["improbable"]), "no trait is named: 25 % of the rows have tokens that m almost"),
        (audit("unlike", ["indistinct"]), "as rows of finetuned teachers do, but no trait stands out."),
        (
            audit("unlike", ["disagreement"]),
            "two probes of it agree too little to recognise the trait in this model (correlation 0.31).",
        ),
        (
            audit("unlike", ["layout"]),
            "“owl” fits best (z 4.0), but among rows of the same length and layout it does not stand out",
        ),
        (
            audit("unlike", ["unexplained"]),
            "(adjusted p 0.003), and the trait that fits best, “owl”, explains",
        ),
    ],
)
def test_the_conclusion_states_what_the_evidence_supports(case: Audit, expected: str) -> None:
    assert expected in conclusion(case)


def test_a_probability_is_stated_only_with_a_calibration() -> None:
    assert conclusion(audit("trait")).endswith(UNCALIBRATED)
    assert "probability of 83 % (calibrated on a study)" in conclusion(audit("trait", probability=0.83))
    assert UNCALIBRATED not in conclusion(audit("trait", probability=0.83))


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(None, "–"), (0.0, "< 1 %"), (0.006, "1 %"), (0.83, "83 %"), (0.994, "99 %"), (1.0, "> 99 %")],
)
def test_no_probability_is_shown_as_certain(probability: float | None, shown: str) -> None:
    assert probability_text(probability) == shown


def test_an_expected_effect_is_shown_with_its_interval() -> None:
    assert effect_text(ExpectedEffect(0.61, 0.32, 0.8)) == "+0.61 [+0.32, +0.80]"
    assert effect_text(ExpectedEffect(0.1, -0.32, 0.8)) == "+0.10 [−0.32, +0.80]"
    assert effect_text(None) == "–"
