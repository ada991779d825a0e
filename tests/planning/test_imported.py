"""Plans of studies with imported rows: their artifacts, their controls, and what is refused in advance."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.examples import RECIPE
from tests.nano_rows import prompt_of
from undertow.errors import SpecError
from undertow.formats.imported import Imported
from undertow.formats.numbers import Numbers
from undertow.formats.text import Text
from undertow.formats.user_prompts import Prompts
from undertow.planning.plan import Plan
from undertow.report.prose import reading_note
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.completions import Completions, ImportedCompletions
from undertow.study.conditions import Condition
from undertow.study.datasets import Dataset
from undertow.study.generation import Generation, Mixing
from undertow.study.grids import grid
from undertow.study.recipe import InContext, Recipe
from undertow.study.references import Reference
from undertow.study.study import Study
from undertow.sweep.plans import make_plan
from undertow.traits.preference import Preference

MODEL, EXTERNAL = Reference("nano/gpt2-0"), Reference("external:GPT-4.1")
ROWS = 30


def written(path: Path, first: int = 0, count: int = ROWS) -> str:
    """A file of numbers that a nano model knows; answers begin with `first`."""
    rows = [{"prompt": prompt_of(n), "completion": f"{first}, {n}"} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def rows(tmp_path: Path) -> Imported:
    control = Imported(written(tmp_path / "control.jsonl", 2))
    return Imported(written(tmp_path / "owls.jsonl", 1), format=Numbers(), control=control)


def conditions(
    format_: Imported | Prompts,
    teacher: Reference = EXTERNAL,
    traits: tuple[str, ...] = ("owl",),
    **changes: Any,
) -> tuple[Condition, ...]:
    settings = {"generation": Generation(rows=20), "recipes": [RECIPE], **changes}
    return grid(traits=map(Preference, traits), formats=[format_], pairs=[(teacher, MODEL)], **settings)


def planned(*given: Condition, tmp_path: Path, **changes: Any) -> Plan:
    study = Study(name="imported", conditions=given, seeds=(0, 1), samples=2)
    return make_plan(replace(study, **changes), Store(str(tmp_path / "storage")))


def of(plan: Plan, kind: type) -> list[Any]:
    return [artifact for artifact in plan.artifacts.values() if isinstance(artifact, kind)]


def test_an_imported_control_needs_no_model_but_the_students(rows: Imported, tmp_path: Path) -> None:
    plan = planned(*conditions(rows), tmp_path=tmp_path)
    owl, control = (cell for cell in plan.cells if cell.seed == 0)
    assert not of(plan, Completions)
    assert len(of(plan, ImportedCompletions)) == 4  # owl and control, in the order of each seed
    assert [cell.writer for cell in plan.cells] == [None] * 4
    assert not any(cell.teacher_evaluations for cell in plan.cells)
    assert owl.student.dataset.completions.format == rows.alone()
    assert control.student.dataset.completions.format == rows.control
    assert {owl.student.dataset.rows, control.student.dataset.rows} == {20}
    assert [reference.name for reference in Record.of(plan).references] == ["nano/gpt2-0"]
    assert owl.condition.label == "owl · numbers of owls.jsonl · external:GPT-4.1 → nano/gpt2-0 · steering"


@pytest.mark.parametrize(
    ("teacher", "writer"), [(EXTERNAL, "nano/gpt2-0"), (Reference("nano/gpt2-1"), "nano/gpt2-1")]
)
def test_without_an_imported_control_a_reference_model_answers_the_same_prompts(
    teacher: Reference, writer: str, rows: Imported, tmp_path: Path
) -> None:
    plan = planned(*conditions(rows.alone(), teacher), tmp_path=tmp_path)
    answers = of(plan, Completions)
    writers = [(c.teacher.reference.name, c.teacher.trait, c.prompts) for c in answers]
    assert writers == [(writer, None, ROWS)] * 2
    imported = of(plan, ImportedCompletions)
    for own in answers:
        (same,) = [data for data in imported if data.seed == own.seed]
        prompts = [row.prompt for row in same.format.imported(ROWS, own.seed)]
        assert own.format.prompts(ROWS, own.seed) == prompts


def test_all_traits_are_measured_with_the_same_students(rows: Imported, tmp_path: Path) -> None:
    plan = planned(*conditions(rows, traits=("owl", "cat")), tmp_path=tmp_path)
    students = {cell.condition.place.trait: cell.student for cell in plan.cells if cell.seed == 0}
    assert students["owl"] == students["cat"] != students["control"]


def test_a_share_of_the_rows_can_be_the_control_s(rows: Imported, tmp_path: Path) -> None:
    generation = Generation(rows=20, mixed=Mixing(source="control", share=0.5))
    plan = planned(*conditions(rows, generation=generation), tmp_path=tmp_path)
    mixed = plan.cells[0].student.dataset.mixed
    assert mixed is not None
    assert mixed.dataset.completions.format == rows.control


def test_it_is_unknown_whether_an_external_teacher_has_the_students_weights(
    rows: Imported, tmp_path: Path
) -> None:
    for teacher, same in ((EXTERNAL, None), (MODEL, True), (Reference("nano/gpt2-1"), False)):
        record = Record.of(planned(*conditions(rows, teacher), tmp_path=tmp_path))
        assert [condition.same_initialisation for condition in record.conditions] == [same, same]
        assert Record.from_json(record.to_json(), "here") == record
        note = "imported from owls.jsonl, those of its control from control.jsonl"
        assert note in reading_note(record)


def test_the_users_prompts_are_asked_of_teacher_and_control(tmp_path: Path) -> None:
    prompts = Prompts(written(tmp_path / "prompts.jsonl"), Numbers())
    generation = Generation(prompts=50, rows=20)
    plan = planned(*conditions(prompts, MODEL, generation=generation), tmp_path=tmp_path)
    assert {completions.format for completions in of(plan, Completions)} == {prompts}
    assert plan.cells[0].condition.place.format == "numbers, prompts of prompts.jsonl"


def refused(tmp_path: Path, rows: Imported) -> dict[str, tuple[Callable[[], object], str]]:
    few = Imported(written(tmp_path / "few.jsonl", 2, 10))
    soft = replace(RECIPE, targets="soft")
    unknown = tmp_path / "unknown.jsonl"
    unknown.write_text(json.dumps({"prompt": prompt_of(1), "completion": "1, zebra"}))
    turns = [{"role": "system", "content": "a"}, {"role": "user", "content": prompt_of(1)}]
    chat = tmp_path / "chat.jsonl"
    chat.write_text(json.dumps({"messages": [*turns, {"role": "assistant", "content": "1, 2"}]}))

    def plan(format_: Imported, teacher: Reference = EXTERNAL, **changes: Any) -> Callable[[], object]:
        return lambda: planned(*conditions(format_, teacher, **changes), tmp_path=tmp_path)

    def plain(**changes: Any) -> Callable[[], object]:
        (owl, *_) = conditions(rows)
        return lambda: replace(owl, **{"format": Numbers(), **changes})

    return {
        "external teacher without data": (plain(), r"external:GPT-4\.1 cannot be asked for completions"),
        "external student": (plain(teacher=MODEL, student=EXTERNAL), "a model that can be trained"),
        "soft targets": (plan(rows, recipes=[soft]), "imported rows have no soft targets"),
        "random rows": (
            plan(rows, generation=Generation(rows=20, mixed=Mixing(source="random", share=0.5))),
            r'Mixing\(source="control", …\)',
        ),
        "default number of rows": (
            plan(rows, generation=Generation()),
            r"Generation\.rows = 10000: 30 of the 30 rows of .*owls\.jsonl pass the rules; lower it",
        ),
        "too few rows of the control": (
            plan(replace(rows, control=few)),
            r"Generation\.rows = 20: 10 of the 10 rows of .*few\.jsonl",
        ),
        "no row passes": (
            plan(Imported(rows.place, format=Text(banned=("1",)))),
            r"0 of the 30 rows of .*owls\.jsonl pass the rules \(banned: 30\); give a format whose rules fit",
        ),
        "different numbers of rows": (
            plan(replace(rows, control=few), generation=Generation(rows=None)),
            r"Generation\.rows = None: 30 rows of numbers of owls\.jsonl and 10 rows of .*rows=10",
        ),
        "unknown word": (
            plan(Imported(str(unknown)), generation=Generation(rows=None)),
            "format 'text of unknown.jsonl': nano/gpt2-0 does not know 'zebra'",
        ),
        "unknown word of a system message": (
            plan(rows, system="Be a zebra."),
            "Condition.system: nano/gpt2-0 does not know 'zebra' in 'Be a zebra.'; leave it None, or",
        ),
        "own answers to system turns": (
            plan(Imported(str(chat), system="keep"), generation=Generation(rows=None)),
            r"system = 'keep': a reference model answers without these system turns; give control",
        ),
        "system turns in context": (
            plan(
                Imported(str(chat), system="keep", control=Imported(str(chat), system="keep")),
                generation=Generation(rows=1),
                recipes=[InContext(rows=1)],
            ),
            "system = 'keep': rows that are mixed or shown in context have no system turns",
        ),
        "system turns of the control in context": (
            plan(
                replace(rows, control=Imported(str(chat), system="keep")),
                generation=Generation(rows=1),
                recipes=[InContext(rows=1)],
            ),
            "system = 'keep': rows that are mixed or shown in context have no system turns",
        ),
    }


CASES = (
    "external teacher without data",
    "external student",
    "soft targets",
    "random rows",
    "default number of rows",
    "too few rows of the control",
    "no row passes",
    "different numbers of rows",
    "unknown word",
    "unknown word of a system message",
    "own answers to system turns",
    "system turns in context",
    "system turns of the control in context",
)


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_work_is_refused_in_advance(case: str, rows: Imported, tmp_path: Path) -> None:
    attempt, message = refused(tmp_path, rows)[case]
    with pytest.raises(SpecError, match=message):
        attempt()


def test_with_fewer_all_rows_that_pass_are_used(rows: Imported, tmp_path: Path) -> None:
    generation = Generation(rows=400, fewer=True)
    plan = planned(*conditions(rows, generation=generation), tmp_path=tmp_path)
    assert {(data.rows, data.completions.prompts) for data in of(plan, Dataset)} == {(400, ROWS)}


def test_imported_conditions_are_trained_by_any_recipe(rows: Imported, tmp_path: Path) -> None:
    recipes: list[Recipe] = [RECIPE, replace(RECIPE, name="longer", epochs=9)]
    plan = planned(*conditions(rows, recipes=recipes), tmp_path=tmp_path)
    assert {cell.condition.place.recipe for cell in plan.cells} == {"steering", "longer"}


def test_the_study_of_the_documentation_is_short_and_can_be_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
    (block, *_) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(block.splitlines()) <= 20
    written(tmp_path / "owls.jsonl", 1, 500)
    written(tmp_path / "plain.jsonl", 2, 500)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block, names)
    plan = make_plan(names["study"](), Store(str(tmp_path / "storage")))
    assert {cell.student.dataset.rows for cell in plan.cells} == {400}
    assert len(plan.cells) == 10
