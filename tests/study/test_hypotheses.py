"""Hypotheses: what they pick, what they refuse, and that they are part of a study's identity."""

from dataclasses import replace
from typing import Any

import pytest

from tests.examples import study
from undertow.errors import SpecError
from undertow.study.hypotheses import Hypothesis, Place
from undertow.study.identity import key

OWL = Place("owl", "numbers", "a", "a", "lora")


@pytest.mark.parametrize(
    ("fields", "covers"),
    [
        ({}, True),
        ({"initialisation": "same"}, True),
        ({"initialisation": "other"}, False),
        ({"traits": ("owl", "cat")}, True),
        ({"traits": ("cat",)}, False),
        ({"formats": ("code",)}, False),
        ({"teachers": ("a",), "students": ("a",)}, True),
        ({"students": ("b",)}, False),
        ({"recipes": ("lora",), "initialisation": "other"}, False),
    ],
)
def test_a_hypothesis_picks_conditions_by_all_that_it_names(fields: dict[str, Any], covers: bool) -> None:
    assert Hypothesis(claim="c", expects="transmitted", **fields).covers(OWL) is covers


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"claim": " "}, "Hypothesis.claim"),
        (
            {"traits": ("owls",)},
            "Hypothesis.traits = 'owls': no condition of the study has it; did you mean 'owl'",
        ),
        ({"recipes": ("lora",)}, "Hypothesis.recipes = 'lora'"),
        (
            {"teachers": ("nano/gpt2-0",), "students": ("nano/gpt2-1",), "initialisation": "same"},
            "picks no condition",
        ),
    ],
)
def test_a_hypothesis_that_fits_no_condition_is_refused_by_its_study(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        study(hypotheses=(Hypothesis(**{"claim": "c", "expects": "transmitted", **fields}),))


def test_no_claim_is_made_twice() -> None:
    claim = Hypothesis(claim="c", expects="transmitted")
    with pytest.raises(SpecError, match="given twice"):
        study(hypotheses=(claim, replace(claim, expects="not transmitted")))


@pytest.mark.parametrize(
    "changes",
    [
        {"hypotheses": (Hypothesis(claim="c", expects="transmitted"),)},
        {"margin": 0.2},
        {"seeds": (0, 1)},
        {"paired": False},
        {"distribution": "any"},
        {"alpha": 0.01},
    ],
)
def test_what_is_asked_and_how_it_is_judged_is_the_studys_identity(changes: dict[str, Any]) -> None:
    assert key(study(**changes)) != key(study())
