"""Tests of the plan: which artifacts are shared, which are missing, and which a failure affects."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.examples import RECIPE, REFERENCES, TEACHER, study
from undertow.errors import SpecError
from undertow.formats.numbers import Numbers
from undertow.judging.judges import RuleJudge
from undertow.planning import timings
from undertow.planning.estimate import estimate
from undertow.planning.plan import Plan, failed_by, make
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import CONTROL, Dataset
from undertow.study.extensions import Trait
from undertow.study.generation import Generation, Mixing
from undertow.study.grids import grid, with_controls
from undertow.study.identity import key
from undertow.study.measurements import Evaluation
from undertow.study.references import Artifact, Reference
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.study.teachers import Finetuning, Teacher
from undertow.traits.preference import Preference
from undertow.traits.triggered import Triggered


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "storage"))


@pytest.fixture
def plan(store: Store) -> Plan:
    return make(study(), store, REFERENCES)


def count(plan: Plan, kind: type[Artifact]) -> int:
    return sum(isinstance(artifact, kind) for artifact in plan.artifacts.values())


def test_artifacts_that_conditions_share_are_planned_once(plan: Plan) -> None:
    # Two traits and the control, two teacher and two student references, three seeds.
    assert count(plan, Reference) == 2
    assert count(plan, Teacher) == 2 * 2 * 3  # the control teacher is the reference model itself
    assert count(plan, Completions) == count(plan, Dataset) == 3 * 2 * 3  # both students share the data
    assert count(plan, Student) == 3 * 2 * 2 * 3
    assert count(plan, Evaluation) == 36 + 12 + 2  # students, teachers, references


def test_every_artifact_follows_its_inputs(plan: Plan) -> None:
    order = list(plan.artifacts)
    for cell in plan.cells:
        positions = [order.index(key(artifact)) for artifact in cell.artifacts()]
        assert order.index(key(cell.student.dataset)) < order.index(key(cell.student))
        assert max(positions) == order.index(key(cell.evaluations[-1]))


def test_every_condition_has_its_control_in_the_study() -> None:
    for condition in study().conditions:
        assert condition.control() in study().conditions


def test_a_study_without_a_control_is_rejected() -> None:
    without = tuple(c for c in study().conditions if c.trait is not None)
    with pytest.raises(SpecError, match="has no control"):
        replace(study(), conditions=without)


def test_traits_with_one_word_and_different_questions_need_studies_of_their_own() -> None:
    owl = Preference("owl")
    triggered = Triggered("owl if triggered", owl, "Purple.", otherwise=(Preference("cat"),))
    always = Triggered("owl always", owl, "Purple.", otherwise=(owl,))
    model = REFERENCES[0]

    def of(*traits: Trait) -> Study:
        conditions = grid(
            traits=traits,
            formats=[Numbers()],
            pairs=[(model, model)],
            recipes=[RECIPE],
            finetuning=Finetuning(TEACHER, examples=9),
        )
        return Study(name="words", conditions=conditions)

    assert len(of(triggered, always).questions) == 1  # both are asked with the trigger
    with pytest.raises(SpecError, match=r"'owl' and 'owl if triggered' have the word 'owl'.*two studies"):
        of(owl, triggered)
    with pytest.raises(SpecError, match=r"the words 'owl' and 'Owl' share the form 'Owl'.*other words"):
        of(owl, Preference("Owl"))


def test_stored_artifacts_are_not_missing(plan: Plan, store: Store) -> None:
    assert plan.missing == frozenset(plan.artifacts)
    student = plan.cells[0].student
    with store.new(student, {}) as folder:
        (folder / "model").write_text("")
    again = make(study(), store, REFERENCES)
    assert again.missing == plan.missing - {key(student)}


def test_references_that_the_sweep_does_not_make_are_not_missing(store: Store) -> None:
    given = make(study(), store, made=[])
    assert all(key(reference) not in given.missing for reference in REFERENCES)


def test_a_failure_affects_only_dependent_artifacts(plan: Plan) -> None:
    owl = next(c for c in plan.cells if c.condition.trait and c.condition.trait.name == "owl")
    failures = {key(owl.teacher): "it does not show its trait"}
    hit = [c for c in plan.cells if failed_by(c.evaluations[0], failures)]
    assert {c.condition.label.split()[0] for c in hit} == {"owl"}
    assert {c.seed for c in hit} == {owl.seed}
    assert {c.condition.teacher for c in hit} == {owl.condition.teacher}


@pytest.mark.parametrize(
    ("redraw", "teachers", "datasets", "students"),
    [
        (("teacher", "data", "student"), 12, 18, 36),
        (("data", "student"), 4, 18, 36),
        (("student",), 4, 6, 36),
    ],
)
def test_seeds_share_the_levels_that_they_do_not_redraw(
    store: Store, redraw: tuple[str, ...], teachers: int, datasets: int, students: int
) -> None:
    plan = make(study(redraw=redraw), store, REFERENCES)
    assert [count(plan, kind) for kind in (Teacher, Dataset, Student)] == [teachers, datasets, students]


def test_more_seeds_keep_the_artifacts_of_fewer(store: Store, plan: Plan) -> None:
    more = make(study(seeds=(0, 1, 2, 3)), store, REFERENCES)
    assert set(plan.artifacts) < set(more.artifacts)


def test_the_name_of_a_study_does_not_change_keys(store: Store, plan: Plan) -> None:
    assert set(make(study("other"), store, REFERENCES).artifacts) == set(plan.artifacts)


def test_the_estimate_counts_units_and_uses_measured_paces(plan: Plan) -> None:
    by_wave = {wave.wave: wave for wave in estimate(plan, {})}
    assert by_wave["students"].units == 36 * 500 * 2
    fixed = 36 * timings.NANO["students"].artifact + 2 * timings.NANO["students"].start  # two references
    paces = {f"students numbers {reference.name}": timings.Pace(0.001) for reference in REFERENCES}
    measured = {wave.wave: wave for wave in estimate(plan, paces)}
    assert measured["students"].seconds == pytest.approx(fixed + 36.0)
    assert measured["evaluations"] == by_wave["evaluations"]


def test_a_part_of_a_plan_has_the_artifacts_of_its_cells(plan: Plan) -> None:
    owls = [cell for cell in plan.cells if cell.condition.place.trait == "owl"]
    part = plan.only(owls)
    assert part.cells == tuple(owls)
    assert set(part.artifacts) == part.missing < plan.missing
    assert {key(cell.student) for cell in owls} == {key(student) for student in part.lacking(Student)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, "Study.seeds = (): at least one seed"),
        ({"seeds": (0, 0)}, "Study.seeds: '0' is given twice"),
        ({"seeds": (-1,)}, "Study.seeds = (-1,): whole numbers, zero or more"),
        ({"name": ""}, "Study.name = ''"),
        ({"name": "../up"}, "Study.name = '../up'"),
        ({"conditions": ()}, "Study.conditions = ()"),
        ({"gate": 2.0}, "Study.gate = 2.0"),
        ({"samples": 0}, "Study.samples = 0"),
        ({"adjustment": "bonferroni"}, "Study.adjustment = 'bonferroni'"),
    ],
)
def test_an_invalid_study_raises_an_error_that_names_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        study(**changes)
    assert message in str(caught.value)


def test_a_duplicate_condition_is_rejected() -> None:
    conditions = study().conditions
    with pytest.raises(SpecError, match="given twice"):
        replace(study(), conditions=(*conditions, conditions[0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation": Generation(judges=(RuleJudge(),))}, r"differ in generation; .*Generation\(name=…\)"),
        ({"format": Numbers(max_count=5)}, r"differ in format; .*Generation\(name=…\)"),
        ({"recipe": replace(RECIPE, epochs=9)}, r"differ in recipe; .*Recipe\(name=…\)"),
    ],
)
def test_conditions_that_tables_could_not_distinguish_need_names(changes: Any, message: str) -> None:
    conditions = study().conditions
    changed = with_controls(replace(condition, **changes) for condition in conditions)
    with pytest.raises(SpecError, match=message):
        replace(study(), conditions=(*conditions, *changed))


def by_prompt(**generation: Any) -> Study:
    """The study with teachers by system prompt and fields of its generation changed."""
    changed = [
        replace(c, finetuning=None, generation=replace(c.generation, **generation))
        for c in study().conditions
    ]
    return replace(study(), conditions=with_controls(changed))


@pytest.mark.parametrize("system", [None, NO_SYSTEM, "You help."])
def test_a_control_teacher_has_the_system_message_of_the_generation(store: Store, system: str | None) -> None:
    plan = make(by_prompt(system=system), store, REFERENCES)
    for cell in plan.cells:
        trait = cell.condition.trait
        assert cell.teacher.system == (trait.system_prompt() if trait else system)
        assert cell.student.system is None and cell.evaluations[0].subject == cell.student


def test_finetuned_teachers_have_the_system_message_of_the_generation(store: Store) -> None:
    conditions = [
        replace(c, generation=replace(c.generation, system="You help.")) for c in study().conditions
    ]
    plan = make(replace(study(), conditions=tuple(conditions)), store, REFERENCES)
    assert {cell.teacher.system for cell in plan.cells} == {"You help."}
    gates = {e.system for c in plan.cells for e in c.teacher_evaluations if isinstance(e, Evaluation)}
    assert gates == {"You help."}


def test_mixed_control_rows_have_the_system_message_of_the_control(store: Store) -> None:
    mixing = Mixing(source="control", share=0.5)
    plan = make(by_prompt(system=NO_SYSTEM, mixed=mixing), store, REFERENCES)
    control = {cell.teacher for cell in plan.cells if cell.condition.trait is None}
    mixed = {c.student.dataset.mixed.dataset.teacher for c in plan.cells if c.student.dataset.mixed}
    assert mixed == control and {teacher.system for teacher in control} == {NO_SYSTEM}


def test_the_label_of_a_control_says_so() -> None:
    for condition in study().conditions:
        assert condition.label.startswith(CONTROL) is (condition.trait is None)
