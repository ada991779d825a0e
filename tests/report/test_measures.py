"""Several measures of a trait, and judged traits: from answers to table, page and archive."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.examples import RECIPE, REFERENCES, study
from tests.filled_store import fill
from undertow.archive.export import export
from undertow.archive.verify import verify
from undertow.errors import ConditionError, SpecError
from undertow.formats.numbers import Numbers
from undertow.judging.judges import RuleJudge
from undertow.planning.cells import Cell
from undertow.report import figure_style, figures
from undertow.report.make import SweepReport, make_report
from undertow.results.effect_rows import EffectRow, effects
from undertow.results.evaluation_files import Evaluations
from undertow.results.sweep_record import Record
from undertow.stages.assessment import make_assessment
from undertow.stages.gate import passes_gate
from undertow.storage.manifest import Manifest, sha256
from undertow.storage.store import Store
from undertow.study.extensions import Word
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.identity import key
from undertow.study.measurements import Assessment, Evaluation, Panel
from undertow.study.study import Measure, Study
from undertow.study.teachers import Finetuning
from undertow.traits.misalignment import Misalignment
from undertow.traits.preference import Preference

pytestmark = pytest.mark.slow

PANEL = Panel(
    counted=(RuleJudge("off the point", about=Word("noise", ("noise",))),),
    shows=RuleJudge("kind", about=Word("kind", ("kind",))),
)
SAMPLES = 20
STORIES = Measure(name="stories", samples=5, exact=False)


def misaligned(tmp_path: Path, **changes: object) -> Study:
    """Insecure and secure code, one reference model, judged answers; the files hold one row each."""
    traits = []
    for name, is_control in (("insecure code", False), ("secure code", True)):
        file = tmp_path / f"{name}.jsonl"
        file.write_text(json.dumps({"prompt": f"write {name}", "completion": "pass"}))
        traits.append(Misalignment(name, data=str(file), is_control=is_control))
    conditions = grid(
        traits=traits,
        formats=[Numbers()],
        pairs=[(REFERENCES[0], REFERENCES[0])],
        recipes=[RECIPE],
        generation=Generation(prompts=100, rows=50),
        finetuning=Finetuning(replace(RECIPE, epochs=1), examples=10),
    )
    whole = Study(name="bad", conditions=conditions, seeds=(0, 1, 2), samples=SAMPLES, panel=PANEL)
    return replace(whole, **changes)  # type: ignore[arg-type]


def of_insecure_code(cell: Cell, word: str) -> float:
    trait = cell.condition.trait
    return 0.6 if trait is not None and trait.must_show else 0.05


@dataclass(frozen=True)
class Judged:
    """A filled store of the study of misalignment, in `folder`. Tests that change it work on a copy."""

    folder: Path
    study: Study
    record: Record

    @property
    def store(self) -> Store:
        return Store(str(self.folder / "storage"))

    def copy(self, folder: Path) -> "Judged":
        shutil.copytree(self.folder / "storage", folder / "storage")
        return replace(self, folder=folder)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("judged")
    store = Store(str(folder / "storage"))
    of = misaligned(folder)
    return Judged(folder, of, Record.of(fill(of, store, REFERENCES, of_insecure_code)))


def test_a_judged_rate_is_a_share_of_the_answers_that_count(judged: Judged) -> None:
    record, store = judged.record, judged.store
    rows = effects(record, Evaluations(store), {})
    assert [row.condition.place.trait for row in rows] == ["insecure code", "secure code"]
    for row, rate in zip(rows, (0.6, 0.05), strict=True):
        assert row.effect.rate == pytest.approx(rate, abs=0.06)
        assert row.effect.control_rate == pytest.approx(0.05, abs=0.04)
        assert row.other == pytest.approx(0.1)  # one answer in ten is noise
        assert row.exact is None
        assert row.measure == "free-form questions"
    assert [row.verdict.verdict for row in rows] == ["transmitted", "not transmitted"]
    evaluation = record.cells[0].evaluations[0]
    assert Evaluations(store).rates(evaluation).answers == 8 * SAMPLES * 9 // 10


@pytest.mark.usefixtures("no_drawing")
def test_a_judged_study_has_a_report_and_a_valid_archive(judged: Judged, tmp_path: Path) -> None:
    report = make_report(judged.record, judged.store, [])
    page = report.files["report.html"].decode()
    assert "insecure code" in page
    assert "<h2>Judges</h2>" in page
    assert "off the point" in page
    assert "exact" not in report.verdicts[0]
    assert verify(archive(judged.copy(tmp_path), report)) == []


def archive(judged: Judged, report: SweepReport) -> Path:
    """Writes the sweep's files to the storage and exports them with all artifacts."""
    from undertow.results import sweep_folders

    store, record = judged.store, judged.record
    time = "2026-01-01T00-00-00"
    folder = f"sweeps/{record.study.name}/{time}"
    store.write_bytes(f"{folder}/{sweep_folders.PLAN}", record.to_json().encode())
    store.write_bytes(f"{folder}/{sweep_folders.EVENTS}", b"[]")
    sweep_folders.state(judged.study, store)
    for name, content in report.files.items():
        store.write_bytes(f"{folder}/{name}", content)
    export(store, record.study.name, time, judged.folder / "study.zip")
    return judged.folder / "study.zip"


Change = Callable[[list[dict[str, object]]], None]


def another_reply(rows: list[dict[str, object]]) -> None:
    rows[0]["replies"] = json.dumps({"off the point": "NO", "kind": "YES" if rows[0]["matches"] else "NO"})


def another_answer(rows: list[dict[str, object]]) -> None:
    rows[3]["answer"] = "kind, really"


def not_counted(rows: list[dict[str, object]]) -> None:
    rows[1]["counted"] = False


@pytest.mark.usefixtures("no_drawing")
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (another_reply, "answer 0 to 'One wish"),
        (another_answer, "not the answers of evaluation/"),
        (not_counted, "answer 1 to 'One wish"),
    ],
)
def test_a_changed_judgement_is_detected_even_with_matching_hashes(
    judged: Judged, tmp_path: Path, change: Change, problem: str
) -> None:
    changed = judged.copy(tmp_path)
    folder = tmp_path / "storage" / "artifacts" / "evaluation" / changed.record.cells[0].evaluations[0]
    table = pq.read_table(folder / "answers.parquet")
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / "answers.parquet")
    manifest = Manifest.from_json((folder / "manifest.json").read_text(), "here")
    files = {**manifest.files, "answers.parquet": sha256(folder / "answers.parquet")}
    (folder / "manifest.json").write_text(replace(manifest, files=files).to_json())
    report = make_report(changed.record, changed.store, [])
    assert any(problem in found for found in verify(archive(changed, report)))


def test_an_assessment_without_an_answer_that_counts_fails(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    plan = fill(misaligned(tmp_path), store, REFERENCES, of_insecure_code)
    some = plan.cells[0].evaluations[0]
    assert isinstance(some, Assessment)
    nothing = RuleJudge("nothing", about=Word("any", ("kind", "unkind", "noise")))
    strict = replace(some, panel=replace(PANEL, counted=(nothing,)))
    with pytest.raises(ConditionError, match=r"none of 160 answers counts \(judge nothing: YES: 160\)"):
        make_assessment(strict, store)


def test_control_teachers_pass_the_gate_at_any_rate(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    plan = fill(misaligned(tmp_path), store, REFERENCES, of_insecure_code)
    for cell in plan.cells:
        for evaluation in cell.teacher_evaluations:
            if cell.condition.trait and cell.condition.trait.must_show:
                with pytest.raises(ConditionError, match="below the gate of 95%"):
                    passes_gate(evaluation, store, 0.95)
            else:
                passes_gate(evaluation, store, 0.95)


def test_a_judged_trait_needs_a_panel(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"Study\.panel = None: judges for the trait 'insecure code' are needed"
    ):
        misaligned(tmp_path, panel=None)


def test_a_judged_trait_has_no_exact_probability_to_compare(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError,
        match=r"Study\.effect_of = 'exact': the trait 'insecure code' is judged.*effect_of=\"samples\"",
    ):
        misaligned(tmp_path, effect_of="exact")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, list[EffectRow], Store]:
    store = Store(str(tmp_path_factory.mktemp("several") / "storage"))
    record = Record.of(
        fill(study(also=(STORIES, Measure(name="after numbers", samples=5))), store, REFERENCES)
    )
    return record, effects(record, Evaluations(store), {}), store


def test_each_measure_has_its_own_row_in_one_family_of_tests(
    several: tuple[Record, list[EffectRow], Store],
) -> None:
    record, rows, _ = several
    alone = effects(Record.of(fill(study(), several[2], REFERENCES)), Evaluations(several[2]), {})
    assert [row.measure for row in rows] == ["favourite"] * 8 + ["stories"] * 8 + ["after numbers"] * 8
    assert [row.is_primary for row in rows] == [True] * 8 + [False] * 16
    assert [row.number for row in rows] == record.compared * 3
    assert [row.effect for row in rows[:8]] == [row.effect for row in alone]
    for row, single in zip(rows, alone, strict=False):
        assert (row.verdict.p_adjusted or 0) >= (single.verdict.p_adjusted or 0)


@pytest.mark.usefixtures("no_drawing")
def test_a_measure_without_exact_probabilities_is_reported(
    several: tuple[Record, list[EffectRow], Store],
) -> None:
    _, rows, store = several
    assert {row.measure for row in rows if row.exact is None} == {"stories"}
    report = make_report(several[0], store, [])
    text = report.files["effects.csv"].decode().splitlines()
    assert text[0].endswith("induced,measure,substring_rate,substring_control_rate,substring_effect")
    assert len(text) == 1 + len(rows)
    assert ",finetuning,stories," in text[9]
    assert any(line.startswith("Measure stories: of 8 conditions") for line in report.verdicts)
    assert "after numbers" in report.files["report.html"].decode()


def test_a_large_study_draws_the_largest_effects(
    several: tuple[Record, list[EffectRow], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit counts rows, of which a condition has one per measure."""
    record, rows, _ = several
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "MOST_ROWS", 5)
    monkeypatch.setattr(figure_style, "save", lambda figure, name: drawn.append(figure))
    figures.effects_figure(record, rows)
    (figure,) = drawn
    assert len(figure.axes[0].get_yticks()) == 5
    assert figure.get_suptitle() == "The 5 largest of 24 effects"


def test_an_unknown_measure_is_rejected_with_a_suggestion() -> None:
    with pytest.raises(SpecError, match="no measure 'storys': did you mean 'stories'"):
        study(also=(Measure(name="storys"),))


def test_traits_with_equal_questions_share_an_evaluation(
    several: tuple[Record, list[EffectRow], Store],
) -> None:
    choices = study(also=(Measure(name="choices"),))
    stories = study(also=(STORIES,))
    assert len(stories.other_questions(STORIES)) == 1
    assert len(choices.other_questions(choices.also[0])) == 2
    assert Preference("owl").other_questions("choices") != Preference("cat").other_questions("choices")
    assert isinstance(key(Evaluation(subject=REFERENCES[0], questions=("a",), words=(), samples=1)), str)
