"""Data, curves and matrices of teachers that were given the same trait in different ways."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.examples import RECIPE, REFERENCES, TEACHER, study
from tests.filled_store import fill
from undertow.formats.numbers import Numbers
from undertow.formats.text import Text
from undertow.formats.user_prompts import Prompts
from undertow.planning.cells import Cell
from undertow.planning.plan import make
from undertow.report import page_tables
from undertow.report.figures import panel_recipes, traits_figure
from undertow.report.gather import ReportData
from undertow.report.make import confusions, make_report
from undertow.report.matrix import matrices
from undertow.report.prose import method_notes, verdict_lines
from undertow.report.viewer import viewer_rows, viewer_tables
from undertow.report.viewer_tables import COMPLETIONS
from undertow.results.effect_rows import effects
from undertow.results.evaluation_files import Evaluations
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.conditions import Condition
from undertow.study.extensions import Trait
from undertow.study.generation import Generation, Mixing
from undertow.study.grids import grid, starting, with_controls
from undertow.study.hypotheses import Place
from undertow.study.selection import Ranking
from undertow.study.study import Study
from undertow.study.teachers import Finetuning
from undertow.traits.preference import Preference
from undertow.traits.triggered import Triggered

pytestmark = pytest.mark.slow

OWL, CAT = Preference("owl"), Preference("cat")
FINETUNING = Finetuning(TEACHER, examples=300)
GENERATION = Generation(prompts=60, rows=20)
WRITTEN = ("1, 22, 333", "4, 5, 6", "owls!", "7, 8")


def conditions(
    *traits: Trait, finetuning: Finetuning | None = FINETUNING, generation: Generation = GENERATION
) -> tuple[Condition, ...]:
    return grid(
        traits=traits,
        formats=[Numbers()],
        pairs=[(REFERENCES[0], REFERENCES[0])],
        recipes=[RECIPE],
        generation=generation,
        finetuning=finetuning,
    )


def in_two_ways(*traits: Trait) -> Study:
    both = (*conditions(*traits), *conditions(*traits, finetuning=None))
    return study("ways", conditions=with_controls(both), seeds=(0, 1))


def data_of(of: Study, store: Store) -> ReportData:
    record = Record.of(fill(of, store, REFERENCES, completions=WRITTEN))
    return ReportData(record, store, [])


def test_teachers_that_got_a_trait_in_different_ways_are_different_sources(tmp_path: Path) -> None:
    data = data_of(in_two_ways(OWL), Store(str(tmp_path)))
    rows = {row[0]: row[1] for row in page_tables.funnels(data).rows}
    assert rows == {
        "owl by finetuning, gpt2-0": "2",
        "owl by system prompt, gpt2-0": "2",
        "control, gpt2-0": "2",
    }
    assert {source.trait for source in data.controls.values()} == {"control"}
    assert set(data.controls.values()) < set(data.sources)
    table = viewer_tables(data, viewer_rows(data))[COMPLETIONS]
    assert {row["trait"] for row in table} == {"owl by finetuning", "owl by system prompt", "control"}


def test_the_control_of_mixed_data_is_found(tmp_path: Path) -> None:
    mixed = replace(GENERATION, mixed=Mixing(source="control", share=0.5))
    of = study("mixed", conditions=conditions(OWL, generation=mixed), seeds=(0,))
    data = data_of(of, Store(str(tmp_path)))
    ((source, control),) = data.controls.items()
    assert (source.format, control.format) == ("numbers, 50% control", "numbers")
    assert control in data.sources
    used = [row[4] for row in page_tables.funnels(data).rows]
    assert used == ["20 (10 of other data)", "20"]


def test_matrices_of_different_inductions_have_different_names(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record = Record.of(fill(in_two_ways(OWL, CAT), store, REFERENCES))
    sheet = page_tables.diagonals(confusions(record, Evaluations(store), {}))
    assert [str(row[0]).rsplit(", ")[-1] for row in sheet.rows] == ["finetuning", "system prompt"]


def test_the_method_states_that_prompted_teachers_are_not_drawn(tmp_path: Path) -> None:
    both, finetuned = in_two_ways(OWL), study("one-way", conditions=conditions(OWL), seeds=(0, 1))
    shared = "A teacher that is not finetuned has nothing to draw and is the same for all seeds."
    for of, is_stated in ((both, True), (finetuned, False), (replace(both, seeds=(0,)), False)):
        plan = make(of, Store(str(tmp_path)), REFERENCES)
        assert (shared in " ".join(method_notes(Record.of(plan), []))) is is_stated


def test_each_row_of_a_matrix_is_compared_with_its_own_control(tmp_path: Path) -> None:
    """Students start from students of an owl teacher, but the owl's control from those of the control."""
    (owl, control) = conditions(OWL)
    further = starting(conditions(OWL, CAT), students=owl)
    store = Store(str(tmp_path))

    def rate(cell: Cell, word: str) -> float:
        """Of control students, those that start from owl students say "owl" in all answers."""
        start = cell.condition.student_start
        return float(
            word == "owl" and cell.condition.trait is None and start is not None and start.trait == OWL
        )

    of = study("further", conditions=(*further, owl, control), seeds=(0, 1))
    record = Record.of(fill(of, store, REFERENCES, rate))
    ((_, found),) = confusions(record, Evaluations(store), {})
    assert found.traits == ("owl", "cat")
    assert found.differences == ((0.0, 0.0), (-1.0, 0.0))


def test_models_that_start_from_students_are_counted_apart_and_have_a_matrix_of_their_own(
    tmp_path: Path,
) -> None:
    (owl, control) = conditions(OWL)
    shorter = replace(RECIPE, name="shorter", epochs=1)
    further = starting([replace(owl, recipe=shorter), *with_controls([owl])[1:]], students=owl)
    of = study("further", conditions=(*further, owl, control), seeds=(0, 1))
    store = Store(str(tmp_path))
    record = Record.of(fill(of, store, REFERENCES))
    rows = effects(record, Evaluations(store), {})
    assert [line.partition(",")[0] for line in verdict_lines(record, rows, {})] == [
        "Same initialisation: of 1 condition",
        "Further training: of 1 condition",
    ]
    name = owl.student.name
    assert [(matrix.teachers, matrix.students) for matrix in matrices(record, rows)] == [
        ((name,), (f"{name} (after owl, numbers, {owl.recipe.name})",)),
        ((name,), (name,)),
    ]


def test_a_matrix_without_control_students_has_no_figure_of_differences(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    of = study("two", conditions=conditions(OWL, CAT), seeds=(0, 1))
    record = Record.of(fill(of, store, REFERENCES))
    controls = [cell.student for cell in record.cells if record.conditions[cell.condition].is_control]
    failures = dict.fromkeys(controls, "no training")
    ((panel, found),) = confusions(record, Evaluations(store, failures), failures)
    assert found.effect is not None and found.differences is None
    assert traits_figure(record, [(panel, found)]) == {}


def test_a_teacher_that_is_a_student_adds_no_induction_to_a_recipe() -> None:
    hops = [Place("owl", "numbers", "a", "b", "LoRA", induced) for induced in ("finetuning", "")]
    assert panel_recipes(hops) == ["LoRA, finetuning", "LoRA"]


def test_traits_with_the_same_word_have_no_matrix(tmp_path: Path) -> None:
    """Its rows and columns are words: the students of one of the traits would be left out."""
    store, line = Store(str(tmp_path)), "Purple."
    traits = [Triggered(n, t, line, (CAT,)) for n, t in (("owl once", OWL), ("owl twice", OWL), ("cat", CAT))]
    of = study("words", conditions=conditions(*traits), seeds=(0, 1))
    record = Record.of(fill(of, store, REFERENCES))
    assert confusions(record, Evaluations(store), {}) == []
    rates = page_tables.base_rates(ReportData(record, store, []))
    teachers = [(str(row[0]), str(row[1])) for row in rates.rows if str(row[0]).startswith("teacher")]
    named = [("teacher gpt2-0, owl once", "owl"), ("teacher gpt2-0, owl twice", "owl")]
    assert sorted(teachers) == [("teacher gpt2-0", "cat"), *named]


@pytest.mark.usefixtures("no_drawing")
def test_the_table_of_completions_has_the_same_columns_for_pairs_and_single_answers(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    ranked = conditions(OWL, generation=replace(GENERATION, ranked=Ranking()))
    of = study("both", conditions=(*ranked, *conditions(OWL)), seeds=(0,))
    record = Record.of(fill(of, store, REFERENCES, completions=WRITTEN))
    table = make_report(record, store, []).tables[COMPLETIONS]
    assert len({tuple(row) for row in table}) == 1
    assert {row["second_answer"] is None for row in table if row["format"] == "numbers"} == {True}
    assert any(row["second_answer"] for row in table)


@pytest.mark.parametrize("banned", [(), ("owl",)])
def test_the_report_states_how_many_training_rows_name_the_trait(
    tmp_path: Path, banned: tuple[str, ...]
) -> None:
    (tmp_path / "prompts.txt").write_text("Write a line.\n")
    format_ = Prompts(str(tmp_path / "prompts.txt"), Text(banned=banned))
    generation = replace(GENERATION, rows=None, deduplicate=False)
    given = tuple(replace(c, format=format_) for c in conditions(OWL, generation=generation))
    store = Store(str(tmp_path / "storage"))
    plan = fill(
        study("named", conditions=given, seeds=(0,)), store, REFERENCES, completions=("An owl.", "A cat.")
    )
    page = make_report(Record.of(plan), store, ()).files["report.html"].decode()
    assert ("because rows name its word (owl, gpt2-0, text" in page) == (not banned)
