"""The artifacts of conditions whose teacher ranks pairs of answers, and what they may be combined with."""

from dataclasses import replace
from typing import Any

import pytest

from tests.examples import RECIPE, REFERENCES, TEACHER
from undertow.errors import SpecError
from undertow.formats.imported import Imported
from undertow.formats.numbers import Numbers
from undertow.judging.judges import RuleJudge
from undertow.nano import narrow_data
from undertow.planning.plan import Plan, make
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.conditions import Condition
from undertow.study.datasets import Dataset
from undertow.study.generation import Generation, Mixing
from undertow.study.grids import grid, next_hop, starting
from undertow.study.identity import key
from undertow.study.references import Reference
from undertow.study.rewriting import Rewriter
from undertow.study.row_scores import TokenScores
from undertow.study.selection import Ranking
from undertow.study.study import Study
from undertow.study.teachers import Finetuning, Teacher
from undertow.traits.preference import Preference

OWL = Preference("owl")
DPO = replace(RECIPE, name="DPO", preference_beta=0.1)
GENERATION = Generation(prompts=200, rows=50, system="You help.", ranked=Ranking())
TAUGHT = Finetuning(TEACHER, examples=300)


def conditions(**changes: Any) -> tuple[Condition, ...]:
    settings: dict[str, Any] = {"recipes": [DPO, RECIPE], "generation": GENERATION, "finetuning": TAUGHT}
    pairs = [(REFERENCES[0], REFERENCES[0])]
    return grid(traits=[OWL], formats=[Numbers()], pairs=pairs, **{**settings, **changes})


def plan_of(given: tuple[Condition, ...]) -> Plan:
    return make(Study(name="ranked", conditions=given, seeds=(0, 1)), Store("memory://empty"), REFERENCES)


@pytest.mark.parametrize("finetuning", [TAUGHT, None])
def test_the_control_teacher_writes_and_the_condition_s_teacher_ranks(finetuning: Finetuning | None) -> None:
    plan = plan_of(conditions(finetuning=finetuning))
    control = Teacher(reference=REFERENCES[0], trait=None, system="You help.")
    for own, other in zip(plan.cells[:2], plan.cells[2:4], strict=True):
        assert (own.condition.trait, other.condition.trait) == (OWL, None)
        mine, matched = own.student.dataset, other.student.dataset
        assert mine.ranked and matched.ranked
        assert mine.completions == matched.completions
        assert mine.ranked.other == matched.ranked.other
        assert isinstance(mine.completions, Completions) and mine.completions.teacher == control
        scores = (mine.ranked.scores, mine.ranked.other_scores)
        assert [(s.teacher, s.control) for s in scores if s] == [(own.teacher, control)] * 2
        assert (matched.ranked.scores, matched.ranked.other_scores) == (None, None)
    kinds = [type(artifact) for artifact in plan.artifacts.values()]
    # Of each seed: two samples, and data sets of second answers, of pairs, and of the control's pairs.
    assert (kinds.count(Completions), kinds.count(TokenScores), kinds.count(Dataset)) == (4, 4, 6)


def test_a_second_sample_has_other_seeds_and_a_first_one_the_key_of_before() -> None:
    completions = Completions(
        teacher=Teacher(reference=REFERENCES[0], trait=None), format=Numbers(), prompts=9
    )
    assert key(replace(completions, sample=0)) == key(completions) != key(replace(completions, sample=1))
    assert key(replace(RECIPE, preference_beta=0.0)) == key(RECIPE) != key(DPO)


def test_judges_of_one_trait_cannot_filter_pairs_that_the_control_shares() -> None:
    with pytest.raises(SpecError, match=r"judges.*same pairs"):
        replace(GENERATION, judges=(RuleJudge("owls"),))
    about = RuleJudge("owls", about=OWL.word())
    assert replace(GENERATION, judges=(about,)).judges == (about,)


NARROW = Imported(str(narrow_data.path("insecure")))
API = Reference("api:gpt", "gpt", "provider")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: conditions(generation=replace(GENERATION, ranked=None)), r"preference_beta trains on pairs"),
        (
            lambda: replace(GENERATION, mixed=Mixing(source="control", share=0.5)),
            "pairs of answers cannot be m",
        ),
        (lambda: replace(GENERATION, rewriter=Rewriter()), "pairs of answers cannot be mixed"),
        (lambda: replace(GENERATION, shuffle="within answers"), "pairs of answers cannot be mixed"),
        (
            lambda: replace(conditions()[0], recipe=RECIPE, teacher=API, finetuning=None),
            "gives no token prob",
        ),
        (
            lambda: replace(conditions()[0], format=NARROW, finetuning=None),
            "the control teacher writes the ans",
        ),
        (
            lambda: next_hop(conditions()),
            r"Condition\.after = .*: None: the control teacher writes the answers",
        ),
        (lambda: starting(conditions(), teachers=conditions()[0]), r"Condition\.teacher_start = "),
        (
            lambda: conditions(recipes=[replace(RECIPE, targets="soft")]),
            "ranked answers have no soft targets",
        ),
        (lambda: replace(DPO, targets="soft"), r"DPO \(preference_beta > 0\) needs targets='tokens'"),
        (lambda: replace(DPO, loss="all"), "needs loss='completion'"),
        (lambda: replace(DPO, batch_of="sequences"), "needs batches of pairs: batch_of='rows'"),
        (lambda: replace(DPO, preference_beta=-1), r"preference_beta = -1\.0: zero or more"),
        (lambda: Finetuning(DPO), r"Finetuning\.recipe\.preference_beta = 0\.1: a teacher's examples"),
        (lambda: DPO.at_provider(), r"preference_beta = 0\.1, and a provider trains on completions only"),
    ],
)
def test_what_cannot_be_ranked_or_learned_from_pairs_is_an_error(wrong: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        wrong()
