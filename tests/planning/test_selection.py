"""The artifacts of conditions whose rows are selected or whose tokens are masked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.examples import RECIPE, REFERENCES, TEACHER
from undertow.errors import SpecError
from undertow.formats.imported import Imported
from undertow.formats.numbers import Numbers
from undertow.nano import narrow_data
from undertow.planning.cells import Cell
from undertow.planning.costs import Hardware, cost_of
from undertow.planning.plan import Plan, make
from undertow.planning.resolve import resolve
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.identity import key
from undertow.study.references import Reference
from undertow.study.row_scores import RowScores, TokenScores
from undertow.study.selection import Contrast, Selection, TokenMask
from undertow.study.study import Study
from undertow.study.teachers import Finetuning
from undertow.traits.preference import Preference

OWL = Preference("owl")
TAUGHT = Finetuning(TEACHER, examples=300)
PROMPT = Contrast(trait=OWL)
BY_TEACHER = Contrast(trait=OWL, finetuning=TAUGHT)
GENERATION = Generation(prompts=200, rows=50)


def study(*generations: Generation, pair: tuple[Reference, Reference] = (REFERENCES[0],) * 2) -> Study:
    conditions = [
        condition
        for generation in generations
        for condition in grid(
            traits=[OWL],
            formats=[Numbers()],
            pairs=[pair],
            recipes=[RECIPE],
            generation=generation,
            finetuning=TAUGHT,
        )
    ]
    return Study(name="chosen", conditions=tuple(conditions), seeds=(0, 1))


def plan_of(*generations: Generation, **changes: Any) -> Plan:
    return make(study(*generations, **changes), Store("memory://empty"), REFERENCES)


def scores_of(cell: Cell) -> TokenScores:
    selected = cell.student.dataset.selected
    assert selected is not None and isinstance(selected.scores, TokenScores)
    return selected.scores


def test_rows_of_trait_and_control_are_scored_by_the_teacher_that_wrote_the_trait_s_rows() -> None:
    plan = plan_of(replace(GENERATION, selected=Selection(by=BY_TEACHER, keep="top")))
    for own, control in zip(plan.cells[:2], plan.cells[2:], strict=True):
        assert (own.seed, control.condition.trait) == (control.seed, None)
        for cell in (own, control):
            scores = scores_of(cell)
            assert (scores.teacher, scores.control) == (own.teacher, control.teacher)
            assert scores.completions == cell.student.dataset.completions
    artifacts = list(plan.artifacts.values())
    made = [artifact for artifact in artifacts if isinstance(artifact, RowScores)]
    assert len(made) == 4
    for one in made:
        (data,) = (cell.student.dataset for cell in plan.cells if scores_of(cell) == one)
        assert artifacts.index(one.completions) < artifacts.index(one) < artifacts.index(data)


def test_seeds_that_share_a_teacher_are_scored_by_it() -> None:
    generation = replace(GENERATION, selected=Selection(by=BY_TEACHER, keep="top"))
    of = replace(study(generation), redraw=("data", "student"))
    plan = make(of, Store("memory://empty"), REFERENCES)
    assert {scores_of(cell).teacher for cell in plan.cells} == {plan.cells[0].teacher}


def test_a_prompt_scores_with_the_reference_model_and_no_training() -> None:
    plan = plan_of(replace(GENERATION, selected=Selection(by=PROMPT, keep="top"), system="You help."))
    scores = scores_of(plan.cells[0])
    assert (scores.teacher.system, scores.teacher.finetuning) == (OWL.system_prompt(), None)
    assert (scores.control.system, scores.control.trait) == ("You help.", None)
    assert scores_of(plan.cells[1]).teacher == scores.teacher  # no seed


def test_all_selections_and_masks_by_one_pair_of_teachers_share_scores() -> None:
    masks = [
        TokenMask(choose="diverging", share=0.1, by=BY_TEACHER),
        TokenMask(choose="random", share=0.1, by=BY_TEACHER),
        TokenMask(choose="agreeing", share=0.2, by=BY_TEACHER),
        TokenMask(choose="diverging", share=0.1, by=BY_TEACHER, rest=True),
    ]
    plan = plan_of(GENERATION, *(replace(GENERATION, masked=mask) for mask in masks))
    kinds = [type(artifact) for artifact in plan.artifacts.values()]
    assert kinds.count(TokenScores) == kinds.count(Completions) == 4
    selections = [Selection(by=PROMPT, keep=keep) for keep in ("top", "bottom", "random")]
    plan = plan_of(GENERATION, *(replace(GENERATION, selected=selection) for selection in selections))
    assert sum(isinstance(artifact, TokenScores) for artifact in plan.artifacts.values()) == 4


def test_imported_rows_are_scored_by_the_students_reference_model() -> None:
    rows = Imported(str(narrow_data.path("insecure")), control=Imported(str(narrow_data.path("secure"))))
    external = Reference("external:unknown", "unknown", "external")
    conditions = grid(
        traits=[OWL],
        formats=[rows],
        pairs=[(external, REFERENCES[1])],
        recipes=[RECIPE],
        generation=replace(GENERATION, selected=Selection(by=PROMPT, keep="bottom")),
    )
    plan = make(
        Study(name="imported", conditions=conditions, seeds=(0,)), Store("memory://empty"), REFERENCES
    )
    assert {scores_of(cell).scorer for cell in plan.cells} == {REFERENCES[1]}


def test_reading_costs_as_many_flops_as_both_teachers_read_tokens() -> None:
    scores = scores_of(plan_of(replace(GENERATION, selected=Selection(by=PROMPT, keep="top"))).cells[0])
    cost = cost_of(scores, 1000, Hardware())
    assert cost.tokens == 0
    assert cost.flops / (2 * 1000) > 2 * 200 * scores.completions.prompts / 200 * 40


@pytest.mark.parametrize(
    ("generation", "pair", "message"),
    [
        (
            replace(GENERATION, selected=Selection(by=Contrast(trait=Preference("okapi")), keep="top")),
            (Reference("nano/gpt2-0"),) * 2,
            r"trait 'okapi': nano/gpt2-0 does not know the word",
        ),
        (
            replace(GENERATION, masked=TokenMask(choose="first", share=0.5)),
            (Reference("nano/gpt2-0"), Reference("local")),
            r"Generation\.masked: a mask is over the tokens of the teacher nano/gpt2-0, and the student",
        ),
    ],
)
def test_choices_that_the_models_cannot_support_are_found_when_the_study_is_planned(
    generation: Generation, pair: tuple[Reference, Reference], message: str, tmp_path: Path
) -> None:
    from tests import tiny_models

    if pair[1].name == "local":
        pair = (pair[0], Reference(str(tiny_models.save_gpt2(tmp_path / "gpt2"))))
    with pytest.raises(SpecError, match=message):
        resolve(study(generation, pair=pair))


def test_keys_of_data_sets_without_a_choice_do_not_depend_on_it() -> None:
    plain = plan_of(GENERATION).cells[0].student.dataset
    assert key(plain) != key(
        plan_of(replace(GENERATION, masked=TokenMask(choose="first", share=1))).cells[0].student.dataset
    )
    assert (plain.selected, plain.masked) == (None, None)
