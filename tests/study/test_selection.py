"""What a condition may say about the selection of rows and about token masks."""

from dataclasses import replace
from typing import Any

import pytest

from tests.examples import RECIPE, REFERENCES, TEACHER
from tests.study.test_identity import DATASET
from undertow.errors import SpecError
from undertow.formats.imported import Imported
from undertow.formats.numbers import Numbers
from undertow.judging.judges import RuleJudge
from undertow.nano import narrow_data
from undertow.study.conditions import Condition
from undertow.study.datasets import Dataset
from undertow.study.generation import Generation, Mixing
from undertow.study.recipe import InContext
from undertow.study.references import Reference
from undertow.study.selection import Contrast, Selection, TokenMask
from undertow.study.teachers import Finetuning
from undertow.traits.preference import Preference

OWL = Preference("owl")
TAUGHT = Finetuning(TEACHER)
PROMPT = Contrast(trait=OWL)
BY_TEACHER = Contrast(trait=OWL, finetuning=TAUGHT)
BOTH = Contrast(trait=OWL, finetuning=TAUGHT, prompted=True)
TOP = Selection(by=PROMPT, keep="top")
DIVERGING = TokenMask(choose="diverging", share=0.1, by=BY_TEACHER)
GENERATION = Generation(prompts=60, rows=20)
CONDITION = Condition(
    trait=OWL,
    format=Numbers(),
    teacher=REFERENCES[0],
    student=REFERENCES[0],
    recipe=RECIPE,
    finetuning=TAUGHT,
    generation=GENERATION,
)


@pytest.mark.parametrize(
    ("generation", "label"),
    [
        ({"selected": TOP}, "numbers, top rows by owl prompt"),
        ({"selected": Selection(by=BY_TEACHER, keep="random")}, "numbers, random rows by owl teacher"),
        ({"selected": Selection(by=BOTH, keep="bottom")}, "numbers, bottom rows by prompted owl teacher"),
        ({"masked": DIVERGING}, "numbers, loss on 10% diverging tokens by owl teacher"),
        (
            {"masked": replace(DIVERGING, rest=True, share=0.025)},
            "numbers, loss on all but 2.5% diverging tokens by owl teacher",
        ),
        ({"masked": TokenMask(choose="last", share=0.5)}, "numbers, loss on 50% last tokens"),
        ({"masked": TokenMask(choose="first", share=1)}, "numbers, loss on all sampled tokens"),
        ({"selected": TOP, "masked": DIVERGING, "name": "half"}, "half"),
    ],
)
def test_the_name_of_the_data_says_how_they_were_chosen(generation: dict[str, Any], label: str) -> None:
    assert replace(GENERATION, **generation).label(Numbers()) == label


def test_the_control_of_a_condition_has_the_same_choice() -> None:
    chosen = replace(CONDITION, generation=replace(GENERATION, selected=TOP, masked=DIVERGING))
    control = chosen.control()
    assert control.trait is None
    assert control.generation == chosen.generation


NARROW = Imported(str(narrow_data.path("insecure")))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: replace(GENERATION, rows=None, selected=TOP), r"rows = None: a number of rows to select"),
        (
            lambda: replace(GENERATION, selected=TOP, mixed=Mixing(source="control", share=0.5)),
            "mixed-in rows have no scores or masks",
        ),
        (lambda: replace(GENERATION, masked=DIVERGING, shuffle="within answers"), "use shuffle='none'"),
        (lambda: TokenMask(choose="diverging", share=0.1), r"TokenMask\.by = None: with choose='diverging'"),
        (lambda: TokenMask(choose="first", share=0.1, by=PROMPT), "None: the position alone decides"),
        (lambda: TokenMask(choose="first", share=0), r"TokenMask\.share = 0\.0: a fraction of the tokens"),
        (lambda: TokenMask(choose="first", share=1, rest=True), "`rest` would have no tokens"),
        (lambda: replace(DIVERGING, candidates=0), "candidates = 0: at least one token"),
        (lambda: Contrast(trait=OWL, prompted=True), "False: without finetuning"),
        (
            lambda: replace(
                CONDITION, recipe=InContext(rows=2), generation=replace(GENERATION, masked=DIVERGING)
            ),
            "a mask needs a Recipe on sampled tokens",
        ),
        (
            lambda: replace(
                CONDITION,
                recipe=replace(RECIPE, loss="all"),
                generation=replace(GENERATION, masked=DIVERGING),
            ),
            "a mask needs a Recipe on sampled tokens",
        ),
        (
            lambda: replace(
                CONDITION,
                format=NARROW,
                finetuning=None,
                generation=replace(GENERATION, masked=DIVERGING),
            ),
            "only tokens that a teacher sampled have a mask",
        ),
        (
            lambda: replace(
                CONDITION,
                teacher=Reference("api:gpt", "gpt", "provider"),
                finetuning=None,
                generation=replace(GENERATION, selected=TOP),
            ),
            "api:gpt gives no token probabilities",
        ),
    ],
)
def test_what_cannot_be_scored_or_masked_is_an_error(wrong: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        wrong()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, r"rows = 0: at least one row, or None for all"),
        ({"rows": 101}, r"rows = 101: more rows than 100 prompts can give; raise prompts or lower rows"),
        ({"judges": (RuleJudge(), RuleJudge())}, r"judges: '.*' is given twice; give each once"),
    ],
)
@pytest.mark.parametrize("spec", [Generation(prompts=100, rows=50), DATASET], ids=["generation", "data set"])
def test_rows_that_cannot_be_drawn_are_rejected(
    spec: Generation | Dataset, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=rf"^{type(spec).__name__}\.{message}$"):
        spec.changed(**changes)
