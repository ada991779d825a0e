"""Tests of which models share a worker group: all seeds of a condition, and more for nano models."""

from dataclasses import replace

import pytest

from tests.examples import RECIPE, study
from undertow.planning.cells import Cell
from undertow.planning.plan import make
from undertow.stages.grouping import groups
from undertow.storage.store import Store
from undertow.study.recipe import LoRA
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.study.teachers import Teacher

REAL = (Reference("org/one", "1", "template"), Reference("org/two", "2", "template"))


def cells(of: Study) -> tuple[Cell, ...]:
    return make(of, Store("memory://groups"), []).cells


def on(references: tuple[Reference, Reference], **recipe: object) -> Study:
    """The small study on the given references, with fields of its recipe changed."""
    base = study()
    places = dict(zip(dict.fromkeys(c.teacher for c in base.conditions), references, strict=True))
    return replace(
        base,
        conditions=tuple(
            replace(
                c,
                teacher=places[c.teacher],
                student=places[c.student],
                recipe=replace(RECIPE, **recipe),  # type: ignore[arg-type]
            )
            for c in base.conditions
        ),
    )


# The small study: two traits and the control, all pairs of two references, three seeds.
NANO = tuple(dict.fromkeys(condition.teacher for condition in study().conditions))
SIZES: list[tuple[str, Study, int, list[int]]] = [
    ("nano: one group per student model", on(NANO), 2, [18, 18]),  # type: ignore[arg-type]
    ("nano: all slots are used", on(NANO), 6, [6] * 6),  # type: ignore[arg-type]
    ("nano: one group per condition with soft targets", on(NANO, targets="soft"), 2, [3] * 12),  # type: ignore[arg-type]
    ("real: one group per condition", on(REAL), 2, [3] * 12),
    ("real: more slots than conditions", on(REAL), 24, [2, 1] * 12),
]


@pytest.mark.parametrize(("of", "slots", "sizes"), [row[1:] for row in SIZES], ids=[row[0] for row in SIZES])
def test_students_are_grouped_by_condition_and_split_over_free_slots(
    of: Study, slots: int, sizes: list[int]
) -> None:
    students = [cell.student for cell in cells(of)]
    found = groups(students, slots)
    assert sorted(len(group.models) for group in found) == sorted(sizes)
    assert {model for group in found for model in group.models} == set(students)
    for group in found:
        assert len({model.reference for model in group.models}) == 1


def test_students_of_different_recipes_do_not_share_a_group() -> None:
    adapters = [cell.student for cell in cells(on(NANO, trainable=LoRA()))]  # type: ignore[arg-type]
    others = [cell.student for cell in cells(on(NANO))]  # type: ignore[arg-type]
    for group in groups([*adapters, *others], slots=2):
        assert len({model.recipe for model in group.models if isinstance(model, Student)}) == 1


def test_teachers_of_a_reference_share_a_group_for_all_traits() -> None:
    teachers = {cell.teacher for cell in cells(study()) if cell.teacher.finetuning}
    found = groups(sorted(teachers, key=repr), slots=2)
    assert sorted(len(group.models) for group in found) == [6, 6]
    assert all(isinstance(model, Teacher) for group in found for model in group.models)
