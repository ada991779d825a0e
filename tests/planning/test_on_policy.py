"""The artifacts of on-policy distillation: rounds, controls, names, groups, and what is rejected."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.examples import QWEN_CONFIG, RECIPE, REFERENCES, TEACHER, qwen
from undertow.errors import SpecError
from undertow.formats.numbers import Numbers
from undertow.planning.capacity import disk_need
from undertow.planning.plan import Plan, make, waits
from undertow.planning.resolve import resolve
from undertow.planning.timings import starts
from undertow.stages.grouping import groups
from undertow.storage.manifest import describe
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.conditions import Condition
from undertow.study.generation import Generation
from undertow.study.grids import grid, next_hop
from undertow.study.identity import canonical, canonical_json, key
from undertow.study.on_policy import OnPolicy, Round, Sampler
from undertow.study.recipe import Everything, InContext, LoRA
from undertow.study.references import Reference
from undertow.study.selection import Contrast, Selection
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.study.teachers import Finetuning
from undertow.sweep.graph import graph
from undertow.tracking import names
from undertow.traits.preference import Preference

OWL = Preference("owl")
REVERSE = replace(RECIPE, name="reverse KL", targets="soft", divergence="reverse")
GENERATION = Generation(
    prompts=200, rows=50, sampling=Sampling(max_tokens=32, top_logprobs=8), on_policy=OnPolicy(rounds=3)
)


def conditions(
    generation: Generation = GENERATION, model: Reference = REFERENCES[0], **changes: Any
) -> tuple[Condition, ...]:
    given: dict[str, Any] = {"recipes": [REVERSE], "finetuning": Finetuning(TEACHER, examples=30), **changes}
    return grid(traits=[OWL], formats=[Numbers()], pairs=[(model, model)], generation=generation, **given)


def plan_of(given: tuple[Condition, ...], seeds: tuple[int, ...] = (0, 1)) -> Plan:
    study = Study(name="rounds", conditions=given, seeds=seeds)
    return make(study, Store("memory://empty"), REFERENCES)


def completions_of(student: Student) -> Completions:
    assert isinstance(student.dataset.completions, Completions)
    return student.dataset.completions


def sampler_of(student: Student) -> Sampler:
    sampler = completions_of(student).sampler
    assert sampler is not None
    return sampler


def test_prompts_and_rows_are_divided_among_the_rounds() -> None:
    assert GENERATION.rounds == [Round(0, 66, 16), Round(66, 67, 17), Round(133, 67, 17)]
    assert [part.rows for part in replace(GENERATION, rows=None).rounds] == [None, None, None]
    assert replace(GENERATION, on_policy=None).rounds == []


def test_each_round_continues_the_student_that_sampled_its_data() -> None:
    plan = plan_of(conditions(system="You help."))
    assert plan.hops == 3
    cell = plan.cells[0]
    first, second, third = cell.student.by_round
    assert first.start == sampler_of(first).model == REFERENCES[0]
    for before, after in ((first, second), (second, third)):
        assert after.start == sampler_of(after).model == REFERENCES[0].changed(student=before)
        assert waits(completions_of(after), set())
        assert not waits(completions_of(after), {key(s) for s in cell.student.by_round})
    for student, part in zip(cell.student.by_round, GENERATION.rounds, strict=True):
        data = completions_of(student)
        assert (data.prompts, student.dataset.rows) == (part.prompts, part.rows)
        assert data.teacher == cell.teacher and sampler_of(student).system == student.system == "You help."
        assert (student.reference, student.recipe, student.seed) == (REFERENCES[0], REVERSE, cell.seed)
    asked = [prompt for student in cell.student.by_round for prompt in completions_of(student).asked]
    assert asked == Numbers().prompts(GENERATION.prompts, seed=0)


def test_the_control_teacher_scores_what_the_control_students_sample() -> None:
    plan = plan_of(conditions())
    owl, control = (next(c for c in plan.cells if c.condition.trait == trait) for trait in (OWL, None))
    assert owl.teacher.trait == OWL
    assert control.teacher.trait is None
    for one, other in zip(owl.student.by_round, control.student.by_round, strict=True):
        assert completions_of(other).teacher == control.teacher
        assert completions_of(one).asked == completions_of(other).asked
    assert sampler_of(control.student).model.student == control.student.by_round[1]


def test_the_manifest_of_a_students_answers_names_the_student_as_an_input(tmp_path: Path) -> None:
    student = plan_of(conditions()).cells[0].student
    model = sampler_of(student).model
    assert model.student is not None
    assert describe(completions_of(student), tmp_path, 0.0, {}).inputs["reference"] == key(model)


def test_a_later_round_begins_after_the_gate_and_the_round_before() -> None:
    plan = plan_of(conditions(), seeds=(0,))
    works = {work.key: work for work in graph(plan)}
    cell = plan.cells[0]
    gates = {key(evaluation) for evaluation in cell.teacher_evaluations}
    assert gates
    for before, student in zip((None, *cell.student.by_round), cell.student.by_round, strict=False):
        data, needed = completions_of(student), {key(cell.teacher)}
        assert set(works[key(data)].inputs) >= gates | needed | ({key(before)} if before else set())
        assert key(student.dataset) in works[key(student)].inputs


def test_names_are_those_of_the_condition_and_tell_rounds_apart() -> None:
    plan = plan_of(conditions())
    for cell in plan.cells:
        columns, place = names.columns(cell.student), cell.condition.place
        shown = (columns["teacher"], columns["student"], columns["format"])
        assert shown == (place.teacher, place.student, place.format)
        assert cell.condition.same_initialisation
    first, *_, last = plan.cells[0].student.by_round
    assert last.dataset.label == "numbers, 3 on-policy rounds"
    titles = {names.title(student, plan.study) for student in (first, last)}
    assert titles == {
        f"owl gpt2-0 → gpt2-0 numbers, {rounds} seed 0"
        for rounds in ("1 on-policy round", "3 on-policy rounds")
    }


def test_all_seeds_of_a_round_share_a_worker_group() -> None:
    plan = plan_of(conditions())
    students = plan.lacking(Student)
    assert [len(group.models) for group in groups(students, slots=1)] == [2] * 6
    assert starts(students) == 6  # three rounds of owl and control


def test_a_student_teaches_the_students_of_the_next_hop_on_policy() -> None:
    first = conditions()
    plan = plan_of((*first, *next_hop(first)))
    assert plan.hops == 6
    teacher = next(cell.teacher for cell in plan.cells if cell.condition == next_hop(first)[0])
    assert teacher.student == plan.cells[0].student


def test_adapters_are_merged_between_the_rounds() -> None:
    plan = plan_of(conditions(recipes=[replace(REVERSE, trainable=LoRA(rank=2))]), seeds=(0,))
    merged = [a for a in plan.artifacts.values() if isinstance(a, Reference) and a.is_merged]
    assert len(merged) == 4  # after the first two rounds of owl and control


def test_without_rounds_nothing_changes_its_key() -> None:
    plain = replace(GENERATION, on_policy=None)
    assert "on_policy" not in canonical(plain)
    (cell, *_) = plan_of(conditions(plain)).cells
    assert "sampler" not in canonical(completions_of(cell.student))
    assert (cell.student.dataset.round, cell.student.by_round) == (0, (cell.student,))
    assert "divergence" not in canonical(RECIPE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 2}, r"Generation\.on_policy = .*at most 2 rounds"),
        ({"sampling": Sampling()}, r"Generation\.sampling = .*top_logprobs: the teacher's distributions"),
        (
            {"selected": Selection(by=Contrast(trait=OWL), keep="top")},
            r"Generation\.selected = .*None: a student's own samples have no scores",
        ),
    ],
)
def test_invalid_generations_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(GENERATION, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": RECIPE}, r"Condition\.recipe = .*a Recipe with targets='soft'"),
        ({"recipe": InContext(rows=2)}, r"Condition\.recipe = .*a Recipe with targets='soft'"),
        (
            {"recipe": replace(REVERSE, keep_steps=(1,))},
            r"Condition\.recipe = .*keep_steps=\(\): each on",
        ),
        (
            {"student": REFERENCES[1]},
            r"Condition\.teacher = .*own reference model, 'nano/gpt2-1'",
        ),
    ],
)
def test_invalid_conditions_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(conditions()[0], **changes)


def test_a_divergence_needs_distributions() -> None:
    with pytest.raises(SpecError, match=r"Recipe\.divergence = 'reverse': .*use targets='soft'"):
        replace(RECIPE, divergence="reverse")
    with pytest.raises(SpecError, match=r"Sampling\.top_logprobs = -2: zero or more, or -1 for the whole"):
        Sampling(top_logprobs=-2)
    with pytest.raises(SpecError, match=r"OnPolicy\.rounds = 0: at least one round"):
        OnPolicy(rounds=0)


def test_a_student_starts_from_a_student_of_its_own_reference_model() -> None:
    student = plan_of(conditions()).cells[0].student
    with pytest.raises(
        SpecError, match=r"Student\.dataset = .*completions that 'nano/gpt2-1' or its students"
    ):
        replace(student, reference=REFERENCES[1])


def test_the_spec_of_each_round_contains_the_one_before_once() -> None:
    sizes = [len(canonical_json(s)) for s in plan_of(conditions()).cells[0].student.by_round]
    assert sizes[2] - sizes[1] == pytest.approx(sizes[1] - sizes[0], abs=20)


def on_disk(folder: Path, prompts: int) -> Study:
    """A study with a real model that knows 1,024 tokens, all of which are recorded."""
    own = replace(GENERATION, prompts=prompts, rows=None, sampling=Sampling(max_tokens=100, top_logprobs=-1))
    model = Reference(str(qwen(folder / "model", config={**QWEN_CONFIG, "vocab_size": 1024})))
    recipe = replace(REVERSE, trainable=Everything())
    return Study(name="whole", conditions=conditions(own, model, recipes=[recipe], finetuning=None))


def test_the_plan_states_the_size_of_whole_distributions(tmp_path: Path) -> None:
    study = resolve(on_disk(tmp_path, prompts=1000))
    need = disk_need(make(replace(study, seeds=(0,)), Store("memory://empty"), []))
    assert need is not None
    assert 2 * 2 * 1000 * 100 * 1024 * 8 < need.rows < 2.2 * 2 * 1000 * 100 * 1024 * 8


def test_whole_distributions_of_a_large_vocabulary_are_rejected(tmp_path: Path) -> None:
    message = r"top_logprobs = -1: .* knows 1,024 tokens, .* of 50,000 completions take up to 41 GB"
    with pytest.raises(SpecError, match=message):
        resolve(on_disk(tmp_path, prompts=50_000))
