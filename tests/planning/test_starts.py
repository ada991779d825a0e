"""Tests of students as reference models: identity, plan, controls, weights, and the record of a sweep."""

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.examples import RECIPE, REFERENCES, students, study
from tests.filled_store import fill
from undertow.archive import lineage
from undertow.engines.weight_files import TRAINED_CONFIG, ModelFolder
from undertow.errors import SpecError
from undertow.planning.artifact_kinds import runs_on
from undertow.planning.given_models import model_of
from undertow.planning.plan import Plan, ancestors, failed_by, make, waits
from undertow.report.make import HTML, make_report
from undertow.report.tables import effects_table
from undertow.results.csv_tables import EFFECTS
from undertow.results.sweep_folders import state, stated_file
from undertow.results.sweep_record import Record
from undertow.stages.grouping import groups
from undertow.stages.weights import lora_rank, weights_of
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.conditions import Condition
from undertow.study.datasets import Dataset
from undertow.study.generation import Mixing
from undertow.study.grids import next_hop, starting, with_controls
from undertow.study.identity import canonical, key
from undertow.study.names import short
from undertow.study.recipe import InContext, LoRA
from undertow.study.references import Reference, named_after
from undertow.study.students import Student, reference_of
from undertow.study.study import Study
from undertow.study.teachers import Teacher
from undertow.tracking import names
from undertow.traits.preference import Preference

OWL, CAT = Preference("owl"), Preference("cat")
HERE = tuple(c for c in study().conditions if c.teacher == c.student == REFERENCES[0])
FIRST = next(c for c in HERE if c.trait == OWL)
CATS = next(c for c in HERE if c.trait == CAT)
NEUTRAL = replace(FIRST.generation, mixed=Mixing(source="control", share=1.0))
KEPT = starting([replace(FIRST, generation=NEUTRAL)], students=FIRST)
LEARNED = starting([CATS], students=FIRST)
TAUGHT = starting([CATS], teachers=FIRST)
STARTS = replace(
    study("starts"), conditions=with_controls([FIRST, *KEPT, *LEARNED, *TAUGHT, *next_hop(KEPT)])
)
LORA = replace(RECIPE, name="LoRA", trainable=LoRA(rank=4))
ADAPTED = replace(FIRST, recipe=LORA)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "storage"))


@pytest.fixture
def plan(store: Store) -> Plan:
    return make(STARTS, store, REFERENCES)


def planned(*conditions: Condition, seeds: tuple[int, ...] = (0, 1)) -> Plan:
    of = replace(study("some"), conditions=with_controls(conditions), seeds=seeds)
    return make(of, Store("memory://starts"), REFERENCES)


def test_a_student_starts_from_the_student_of_the_same_seed(plan: Plan) -> None:
    first = students(plan, FIRST)
    for seed, student in students(plan, KEPT[0]).items():
        assert student.reference.student == first[seed]
        assert student.reference.root == REFERENCES[0]
        assert first[seed] in ancestors(student)
        assert student.dataset.teacher is not None
        assert student.dataset.teacher.reference == REFERENCES[0]


def test_a_teacher_that_starts_from_a_student_is_finetuned_and_gated(plan: Plan) -> None:
    cell = next(cell for cell in plan.cells if cell.condition == TAUGHT[0])
    assert cell.teacher.reference.student == students(plan, FIRST)[cell.seed]
    assert cell.teacher.finetuning == CATS.finetuning
    assert cell.student.reference == REFERENCES[0]
    assert cell.teacher in plan.artifacts.values()
    assert [evaluation.subject for evaluation in cell.teacher_evaluations] == [cell.teacher]


@pytest.mark.parametrize(
    "changed",
    [
        replace(FIRST, recipe=replace(RECIPE, learning_rate=0.01)),
        replace(FIRST, generation=replace(FIRST.generation, prompts=3000)),
        replace(FIRST, trait=CAT),
        replace(FIRST, teacher=REFERENCES[1]),
        replace(FIRST, student_start=FIRST),
    ],
    ids=["recipe", "data", "trait", "teacher", "its own start"],
)
def test_the_key_covers_everything_that_led_to_the_start(changed: Condition) -> None:
    one, other = (
        next(c.student for c in planned(s).cells if c.condition == s)
        for s in (replace(CATS, student_start=start) for start in (FIRST, changed))
    )
    assert (one.dataset, one.recipe, one.seed) == (other.dataset, other.recipe, other.seed)
    assert key(one) != key(other)


def test_conditions_without_a_start_keep_their_keys(plan: Plan) -> None:
    assert "student" not in canonical(REFERENCES[0])
    assert {"teacher_start", "student_start"}.isdisjoint(canonical(FIRST))
    alone = {key(cell.student) for cell in planned(FIRST, seeds=(0, 1, 2)).cells}
    assert alone < set(plan.artifacts)


def test_a_control_loses_the_trait_in_all_starts_and_keeps_other_traits() -> None:
    control = KEPT[0].control()
    assert control.student_start == FIRST.control()
    assert (control.trait, control.generation.mixed) == (None, None)
    assert LEARNED[0].control().student_start == FIRST
    assert TAUGHT[0].control().teacher_start == FIRST
    owls_from_cats_from_owls = replace(FIRST, student_start=LEARNED[0])
    start = owls_from_cats_from_owls.control().student_start
    assert start is not None
    assert (start.trait, start.student_start) == (CAT, FIRST.control())
    (second_hop,) = next_hop([LEARNED[0]])
    start = replace(FIRST, student_start=second_hop).control().student_start
    assert start is not None and start.after is not None
    assert (start.trait, start.after.student_start) == (CAT, FIRST.control())
    for condition in STARTS.conditions:
        assert condition.control().control() == condition.control()


def test_further_training_and_its_control_differ_only_in_the_start(plan: Plan) -> None:
    kept, control = students(plan, KEPT[0])[1], students(plan, KEPT[0].control())[1]
    assert kept.dataset.mixed is not None
    assert kept.dataset.mixed.dataset == control.dataset
    assert (kept.recipe, kept.seed) == (control.recipe, control.seed)
    assert kept.reference != control.reference


def test_a_second_start_keeps_the_first() -> None:
    (condition, _) = starting(starting([CATS], teachers=FIRST), students=ADAPTED)
    assert (condition.teacher_start, condition.student_start) == (FIRST, ADAPTED)


def test_in_a_chain_mixed_control_rows_are_those_of_the_control(plan: Plan) -> None:
    (hop,) = next_hop([KEPT[0]])
    mixed = students(plan, hop)[0].dataset.mixed
    assert mixed is not None
    assert mixed.dataset == students(plan, hop.control())[0].dataset


def test_mixed_control_rows_come_from_a_teacher_that_starts_from_the_control() -> None:
    half = replace(FIRST, generation=replace(FIRST.generation, mixed=Mixing(source="control", share=0.5)))
    (condition, *_) = starting([half], teachers=FIRST)
    plan = planned(FIRST, condition)
    mixed = students(plan, condition)[0].dataset.mixed
    assert mixed is not None
    assert mixed.dataset.teacher is not None
    assert mixed.dataset.teacher.reference.student == students(plan, FIRST.control())[0]


def test_a_start_is_made_before_its_dependants_which_fail_with_it(plan: Plan) -> None:
    order = list(plan.artifacts)
    first, kept = students(plan, FIRST)[0], students(plan, KEPT[0])[0]
    assert plan.hops == 3
    assert order.index(key(first)) < order.index(key(kept))
    assert waits(kept, set())
    assert not waits(kept, {key(first)})
    assert failed_by(kept, {key(first): "too few rows"}) == "too few rows"
    teacher = next(cell.teacher for cell in plan.cells if cell.condition == TAUGHT[0])
    assert order.index(key(first)) < order.index(key(teacher))
    assert waits(teacher, set())


def test_the_conditions_that_a_start_needs_are_planned_even_if_not_in_the_study() -> None:
    lacking = planned(*LEARNED)
    assert {key(student) for student in students(planned(FIRST), FIRST).values()} <= set(lacking.artifacts)
    cell = lacking.cells[0]
    kinds = [type(artifact) for artifact in dict.fromkeys(cell.artifacts())]
    assert kinds.count(Student) == kinds.count(Teacher) == 2
    assert kinds.count(Completions) == kinds.count(Dataset) == 2


def test_one_engine_serves_all_models_that_derive_from_a_reference(plan: Plan) -> None:
    assert {reference_of(cell.student) for cell in plan.cells} == {REFERENCES[0]}
    assert {runs_on(artifact) for artifact in plan.artifacts.values()} == {REFERENCES[0]}


def test_an_adapter_used_as_a_start_is_merged_and_full_weights_are_not(
    plan: Plan,
) -> None:
    def made(plan: Plan) -> list[Reference]:
        return [r for r in plan.lacking(Reference) if r.student is not None]

    assert made(plan) == []
    adapted = planned(*starting([replace(CATS, recipe=LORA)], students=ADAPTED))
    merged = made(adapted)
    assert len(merged) == 2
    assert all(reference.is_merged for reference in merged)
    order = list(adapted.artifacts)
    for cell in adapted.cells:
        start = cell.student.reference
        assert start.student is not None
        assert order.index(key(start.student)) < order.index(key(start)) < order.index(key(cell.student))


def test_a_model_without_training_has_the_weights_of_its_start(plan: Plan, store: Store) -> None:
    fill(STARTS, store, REFERENCES)
    kept, first = students(plan, KEPT[0])[0], students(plan, FIRST)[0]
    assert weights_of(REFERENCES[0], store) is None
    own = weights_of(kept, store)
    assert own is not None
    assert (own.key, own.base) == (key(kept), None)
    assert weights_of(kept.reference, store) == weights_of(first, store)
    prompted = Teacher(reference=kept.reference, trait=OWL, system=OWL.system_prompt())
    assert weights_of(prompted, store) == weights_of(first, store)
    shown = replace(kept, recipe=InContext(rows=4))
    assert weights_of(shown, store) == weights_of(first, store)


def test_trained_tensors_are_applied_to_the_weights_that_training_started_from(
    plan: Plan, store: Store
) -> None:
    """The first student is stored as a whole model, as by earlier versions, or as its trained tensors."""
    kept, first = students(plan, KEPT[0])[0], students(plan, FIRST)[0]
    with store.new(REFERENCES[0], {}) as folder:
        (folder / "model.safetensors").write_bytes(b"")
    root = store.fetch(REFERENCES[0])
    for file, changes in (("model.safetensors", []), (TRAINED_CONFIG, [first])):
        for student, name in ((first, file), (kept, TRAINED_CONFIG)):
            with store.new(student, {}) as folder:
                (folder / name).write_text("{}")
        below, found = weights_of(first, store), weights_of(kept, store)
        assert found is not None and below is not None
        assert (found.key, found.base, below.base) == (key(kept), below, None)
        assert found.folders == [str(store.fetch(student)) for student in (first, kept)]
        whole = root if changes else store.fetch(first)
        paths = tuple(store.fetch(student) for student in changes)
        assert model_of(kept.reference, store) == ModelFolder(whole, paths)
        for student in (first, kept):
            store.set_aside(student)
    assert model_of(REFERENCES[0], store) == ModelFolder(root)


def test_an_adapter_is_applied_to_the_weights_that_it_was_trained_on(plan: Plan, store: Store) -> None:
    fill(STARTS, store, REFERENCES)
    first = students(plan, FIRST)[0]
    student = replace(students(plan, KEPT[0])[0], recipe=LORA)
    with store.new(student, {}) as folder:
        (folder / "adapter_model.safetensors").write_bytes(b"")
    found = weights_of(student, store)
    assert found is not None
    assert (found.key, found.base) == (key(student), weights_of(first, store))
    assert lora_rank(student) == 4
    merged = REFERENCES[0].changed(student=student)
    with store.new(merged, {}) as folder:
        (folder / "model.safetensors").write_bytes(b"")
    whole = weights_of(merged, store)
    assert whole is not None
    assert (whole.key, whole.base) == (key(merged), None)
    assert lora_rank(Teacher(reference=merged, trait=OWL, system="Love owls.")) == 0


def test_seeds_that_start_from_seeds_of_one_condition_share_a_worker_group(plan: Plan) -> None:
    kept = list(students(plan, KEPT[0]).values())
    assert len(groups([*kept, *students(plan, LEARNED[0]).values()], slots=1)) == 1
    real = REFERENCES[0].changed(name="org/model")

    def on_real(student: Student) -> Student:
        start = student.reference.student
        return student.changed(reference=real.changed(student=start and on_real(start)))

    assert [len(group.models) for group in groups([on_real(s) for s in kept], slots=1)] == [len(kept)]
    teachers = {cell.teacher for cell in plan.cells if cell.condition == TAUGHT[0]}
    assert [len(group.models) for group in groups(list(teachers), slots=1)] == [len(STARTS.seeds)]


def test_the_display_name_of_a_start_states_its_training() -> None:
    assert KEPT[0].place.student == "nano/gpt2-0 (after owl, numbers, steering)"
    assert KEPT[0].place.teacher == "nano/gpt2-0"
    assert KEPT[0].control().place.student == "nano/gpt2-0 (after control, numbers, steering)"
    assert LEARNED[0].control().label == (
        "control · numbers · nano/gpt2-0 → nano/gpt2-0 (after owl, numbers, steering) · steering"
    )
    assert TAUGHT[0].place.teacher == KEPT[0].place.student
    assert next_hop(KEPT)[0].place.teacher == KEPT[0].place.student
    twice = replace(FIRST, student_start=LEARNED[0])
    learned = ("owl, numbers, steering", "cat, numbers of nano/gpt2-0, steering")
    assert twice.place.student == f"nano/gpt2-0 (after {'; '.join(learned)})"
    assert short(twice.place.student).startswith("gpt2-0 (after owl, numbers, steering; ")
    assert named_after("m", "owl", "numbers", "t", "r") == "m (after owl, numbers of t, r)"


def test_mlflow_uses_the_display_names_of_the_table_of_effects(plan: Plan) -> None:
    for cell in plan.cells:
        columns = names.columns(cell.student)
        place = cell.condition.place
        assert (columns["teacher"], columns["student"]) == (place.teacher, place.student)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"student_start": replace(FIRST, student=REFERENCES[1])},
            r"Condition\.student_start = .*: a condition that trains students of 'nano/gpt2-0' is needed",
        ),
        (
            {"teacher_start": replace(FIRST, recipe=InContext(rows=4))},
            r"Condition\.teacher_start = .*trains students of 'nano/gpt2-0'",
        ),
        (
            {"after": FIRST, "finetuning": None, "teacher_start": FIRST},
            r"Condition\.teacher_start = .*None: the students of `after` are the teachers",
        ),
    ],
)
def test_an_invalid_start_is_rejected_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message) as refused:
        replace(FIRST, **changes)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_a_reference_cannot_be_a_student_of_another_model(plan: Plan) -> None:
    student = students(plan, FIRST)[0]
    with pytest.raises(SpecError, match=r"Reference\.student = .*: a trained student of 'nano/gpt2-1'"):
        replace(REFERENCES[1], student=student)
    with pytest.raises(SpecError, match=r"Reference\.student = "):
        replace(REFERENCES[0], student=replace(student, recipe=InContext(rows=4)))


def recorded(of: Study, store: Store) -> tuple[Record, Path]:
    """The record of a filled store, in a folder with the stated study."""
    record, sweep = Record.of(fill(of, store, REFERENCES)), Path(store.root) / "sweeps" / of.name / "now"
    state(of, store)
    sweep.mkdir(parents=True)
    stated = next((Path(store.root) / "sweeps").rglob(stated_file(record).rsplit("/", 1)[-1]))
    (sweep / stated.name).write_bytes(stated.read_bytes())
    return record, sweep


def test_a_record_with_another_start_contradicts_its_artifacts(store: Store) -> None:
    record, sweep = recorded(STARTS, store)
    artifacts = Path(store.root) / "artifacts"
    assert list(lineage.differences(record, sweep, artifacts, {})) == []
    cells = {(cell.condition, cell.seed): cell for cell in record.cells}
    number = STARTS.conditions.index(KEPT[0])
    kept, control = cells[number, 0], cells[record.conditions[number].control, 0]
    assert {kind for kind, _ in kept.earlier} == {"reference", "teacher", "completions", "dataset", "student"}
    swapped = replace(kept, evaluations=control.evaluations, student=control.student, dataset=control.dataset)
    changed = tuple(swapped if cell == kept else cell for cell in record.cells)
    lines = list(lineage.differences(replace(record, cells=changed), sweep, artifacts, {}))
    assert any("subject.reference.student.dataset.completions.teacher." in line for line in lines)


def test_the_report_shows_each_start_as_a_separate_model(store: Store) -> None:
    report = make_report(Record.of(fill(STARTS, store, REFERENCES)), store, [])
    assert {row.condition.place.student for row in report.rows} == {
        REFERENCES[0].name,
        KEPT[0].place.student,
    }
    page, table = report.files[HTML].decode(), report.files[EFFECTS].decode()
    assert KEPT[0].place.student in re.sub(r"<[^>]*>", "", page)  # which marks where a name may break
    assert KEPT[0].place.student in table
    console = Console(width=160, record=True, file=StringIO())
    console.print(effects_table(report.rows))
    printed = console.export_text()
    assert "…" not in re.sub(r"[-+−.0-9]+ … [-+−.0-9]+", "", printed), printed  # but for intervals
