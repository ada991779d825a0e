"""Tests which conditions a hypothesis selects, and that hypotheses are part of the study's key."""

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
def test_a_hypothesis_selects_the_conditions_that_match_all_of_its_fields(
    fields: dict[str, Any], covers: bool
) -> None:
    hypothesis = Hypothesis(claim="c", expects="transmitted", **fields)
    assert hypothesis.covers(OWL, same_initialisation=True) is covers


@pytest.mark.parametrize(
    ("initialisation", "same", "covers"),
    [
        ("same", True, True),
        ("same", False, False),
        ("other", True, False),
        ("other", False, True),
        ("same", None, True),
        ("other", None, True),
        ("any", False, True),
    ],
)
def test_initialisation_is_matched_by_weights_and_not_by_names(
    initialisation: Any, same: bool | None, covers: bool
) -> None:
    hypothesis = Hypothesis(claim="c", expects="transmitted", initialisation=initialisation)
    assert hypothesis.covers(OWL, same) is covers


def test_a_model_name_without_a_revision_selects_all_of_its_revisions() -> None:
    place = OWL._replace(teacher="org/model@1a2b3c4", student="org/model@5d6e7f8")
    for names, covers in ((("org/model",), True), (("org/model@1a2b3c4",), True), (("org/other",), False)):
        hypothesis = Hypothesis(claim="c", expects="transmitted", teachers=names)
        assert hypothesis.covers(place, same_initialisation=False) is covers


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
            "selects no condition",
        ),
    ],
)
def test_a_study_rejects_a_hypothesis_that_matches_no_condition(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        study(hypotheses=(Hypothesis(**{"claim": "c", "expects": "transmitted", **fields}),))


def test_a_repeated_claim_is_rejected() -> None:
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
def test_hypotheses_and_decision_rules_are_part_of_the_studys_key(changes: dict[str, Any]) -> None:
    assert key(study(**changes)) != key(study())
