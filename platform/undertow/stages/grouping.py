"""Which models one worker group trains: those that share a start, divided among the slots of the machine."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeVar

from undertow.planning.given_models import is_nano
from undertow.planning.resources import START_SHARE, parts_of
from undertow.stages.training_group import Group, Watched, recipe_of
from undertow.stages.weights import Trained
from undertow.study.completions import Completions, ImportedCompletions
from undertow.study.datasets import Dataset
from undertow.study.references import Reference
from undertow.study.rewriting import Rewritten
from undertow.study.row_scores import Ranked, RowScores, TokenScores
from undertow.study.students import Student
from undertow.study.teachers import Teacher

S = TypeVar("S", bound=RowScores)


def groups(
    models: Sequence[Trained], slots: int, watch: Watched | None = None, system: str | None = None
) -> list[Group]:
    """Groups of models that share a start, divided so that all slots work to the end (`parts_of`).

    Nano models are divided only for slots without a group: their trainings are shorter than a start.
    """
    shared: dict[object, list[Trained]] = {}
    for model in models:
        shared.setdefault(_group_key(model), []).append(model)
    start = math.inf if all(is_nano(model.reference) for model in models) else START_SHARE
    parts = parts_of(list(map(len, shared.values())), slots, start)
    return [
        Group(tuple(members[i::parts]), watch or {}, system)
        for members in shared.values()
        for i in range(min(parts, len(members)))
    ]


def _group_key(model: Trained) -> object:
    """A key that is equal for models that share a worker group.

    That is all seeds of a condition. Teachers and nano students are cheaper than the start of a worker group,
    so all of one reference model share a group, except students on soft targets: those of many students would
    not fit into memory.
    """
    if isinstance(model, Teacher):
        reference = _seedless_reference(model.reference)
        return dataclasses.replace(model, reference=reference, seed=0, trait=None, system=None)
    if is_nano(model.reference) and recipe_of(model).targets == "tokens":
        return model.reference.root, model.recipe
    return _seedless_student(model)


def _seedless_student(student: Student) -> Student:
    """The student with all seeds in its spec set to 0."""
    reference, dataset = _seedless_reference(student.reference), _seedless(student.dataset)
    return dataclasses.replace(student, reference=reference, seed=0, dataset=dataset)


def _seedless_reference(reference: Reference) -> Reference:
    """The reference model; if it is a student, with all seeds in that student's spec set to 0."""
    student = reference.student
    return reference if student is None else reference.changed(student=_seedless_student(student))


def _seedless(dataset: Dataset) -> Dataset:
    """The data set with all seeds in its spec set to 0."""
    completions = dataclasses.replace(dataset.completions, seed=0)
    if isinstance(completions, Rewritten):
        completions = dataclasses.replace(completions, dataset=_seedless(completions.dataset))
    if isinstance(completions, Completions):
        completions = dataclasses.replace(
            completions,
            teacher=_seedless_teacher(completions.teacher),
            sampler=completions.sampler
            and completions.sampler.changed(model=_seedless_reference(completions.sampler.model)),
        )
    mixed, selected, masked = dataset.mixed, dataset.selected, dataset.masked
    if mixed:
        mixed = dataclasses.replace(mixed, dataset=_seedless(mixed.dataset))
    if selected and isinstance(completions, Completions | ImportedCompletions):
        selected = dataclasses.replace(selected, scores=_seedless_scores(selected.scores, completions))
    if masked and masked.scores and isinstance(completions, Completions | ImportedCompletions):
        masked = dataclasses.replace(masked, scores=_seedless_scores(masked.scores, completions))
    return dataclasses.replace(
        dataset,
        completions=completions,
        seed=0,
        mixed=mixed,
        selected=selected,
        masked=masked,
        ranked=_seedless_pairs(dataset.ranked) if dataset.ranked else None,
    )


def _seedless_pairs(ranked: Ranked) -> Ranked:
    """The second answers and the scores of both with all seeds in their specs set to 0."""
    other = _seedless(ranked.other)
    one, second = ranked.scores, ranked.other_scores
    if one and second and isinstance(other.completions, Completions):
        first = other.completions.changed(sample=0)
        one, second = _seedless_scores(one, first), _seedless_scores(second, other.completions)
    return Ranked(other=other, scores=one, other_scores=second)


def _seedless_teacher(teacher: Teacher) -> Teacher:
    """The teacher with all seeds in its spec set to 0."""
    return dataclasses.replace(
        teacher,
        reference=_seedless_reference(teacher.reference),
        seed=0,
        student=_seedless_student(teacher.student) if teacher.student else None,
    )


def _seedless_scores(scores: S, completions: Completions | ImportedCompletions) -> S:
    """The scores of `completions`, which have no seeds, by teachers without seeds."""
    if isinstance(scores, TokenScores):
        return dataclasses.replace(
            scores,
            completions=completions,
            teacher=_seedless_teacher(scores.teacher),
            control=_seedless_teacher(scores.control),
        )
    return dataclasses.replace(scores, completions=completions)
