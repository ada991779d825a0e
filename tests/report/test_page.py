"""The HTML report: complete, self-contained, escaped, and reproducible from the store without Ray."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.examples import REFERENCES, study
from tests.filled_store import fill
from undertow.archive.export import export
from undertow.cli.report import ReportArguments, main
from undertow.errors import UserError
from undertow.planning.cells import Cell
from undertow.planning.estimate import estimate
from undertow.report.gather import numbers_in
from undertow.report.make import HTML, SweepReport, make_report
from undertow.report.preregistration import Preregistration
from undertow.report.settings import settings_text
from undertow.report.text_layout import wrapped
from undertow.results import sweep_folders
from undertow.results.evaluation_files import ANSWERS
from undertow.results.sweep_folders import VIEWER
from undertow.results.sweep_record import Record
from undertow.storage.manifest import Address
from undertow.storage.store import Store
from undertow.study.hypotheses import Hypothesis
from undertow.study.measurements import EffectOf
from undertow.study.recipe import Everything, InContext, Recipe
from undertow.study.study import Study
from undertow.traits.preference import Preference

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CLAIM = Hypothesis(claim="owls <b>travel</b> & land", expects="transmitted", initialisation="same")
STUDY = study(hypotheses=(CLAIM,), question="Do they?", seeds=(0, 1, 2, 3, 4))
SMALL = replace(STUDY, seeds=(0, 1))
FIGURES = ("effects", "initialisations", "traits", "training", "funnel", "numbers")


class Page(HTMLParser):
    """A parsed page: its tags, links, section ids, text, and table cells by the name of their column."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.source = html
        self.tags: list[str] = []
        self.links: list[str] = []
        self.sections: list[str] = []
        self.text = ""
        self.cells: dict[str, list[str]] = {}
        self._column: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "section":
            self.sections.append(values["id"] or "")
        if tag == "td":
            self._column = values["data-label"] or ""
            self.cells.setdefault(self._column, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self._column = None if tag == "td" else self._column

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._column is not None:
            self.cells[self._column][-1] += data


def made(store: Store, of: Study) -> SweepReport:
    """Records the study, fills the store with its artifacts, and makes the report."""
    sweep_folders.state(of, store)
    plan = fill(of, store, REFERENCES)
    record = Record.of(plan, estimate(plan, {}))
    folder = sweep_folders.folder_of(of.name, "20260101T000000")
    store.write_bytes(f"{folder}/{sweep_folders.PLAN}", record.to_json().encode())
    return make_report(record, store, [])


def page_of(report: SweepReport) -> Page:
    return Page(report.files[HTML].decode())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("filled") / "storage"))


@pytest.fixture(scope="module")
def report(store: Store) -> SweepReport:
    return made(store, STUDY)


@pytest.fixture(scope="module")
def page(report: SweepReport) -> Page:
    return page_of(report)


def test_a_report_consists_of_tables_the_page_and_figures_as_png_and_svg(report: SweepReport) -> None:
    figures = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    assert set(report.files) == {"effects.csv", "students.csv", HTML, VIEWER, *figures}
    assert all(report.files[f"{name}.png"].startswith(b"\x89PNG") for name in FIGURES)


def test_the_page_has_every_section(page: Page) -> None:
    assert page.sections == [
        "result", "effects", "initialisations", "traits", "training", "data", "base-rates", "method", "cost",
        "provenance",
    ]  # fmt: skip


def test_the_page_has_no_external_resources_and_no_script(page: Page, report: SweepReport) -> None:
    assert {link.partition("#")[0] for link in page.links} == {"", VIEWER}
    assert "script" not in page.tags
    assert "url(http" not in report.files[HTML].decode()


def test_the_page_starts_with_the_verdicts(page: Page, report: SweepReport) -> None:
    assert report.verdicts[0].startswith("Same initialisation: of 4 conditions, 4 transmitted (effects +0.")
    assert page.text.index(report.verdicts[0]) < page.text.index("Effects")
    assert page.cells["outcome"] == ["■\u00a0confirmed"]


def test_conditions_without_a_hypothesis_are_post_hoc(page: Page) -> None:
    assert sorted(page.cells["registration"]) == ["post hoc"] * 4 + ["pre-registered"] * 4


def test_the_page_documents_settings_rules_costs_and_samples(page: Page) -> None:
    settings = dict(zip(page.cells["step"], page.cells["settings"], strict=True))
    assert "epochs 2, learning rate 0.05" in settings["students, steering"]
    assert "trainable Parameters (names transformer.ln_f.bias)" in settings["students, steering"]
    assert "optimizer adamw, betas 0.9 and 0.999, " in settings["students, steering"]
    assert re.search(r"recipe \(batch size .*\)$", settings["teachers, finetuning"])
    assert settings["students, steering"].endswith("; system message: the chat template's own default")
    assert '; first question "' in settings["evaluation"]
    assert settings["evaluation"].endswith("; system message: the chat template's own default")
    assert "prompts 2,000, " in settings["completions, numbers"]
    meaning = dict(zip(page.cells["rule"], page.cells["rejects a completion if"], strict=True))
    assert meaning == {"cut off": "the completion reached the limit of tokens"}
    assert page.cells["wave"][-1] == "all"
    assert "from the first 2,000 rows of up to 3 data sets per teacher" in page.text


def test_each_cell_has_the_name_of_its_column_for_narrow_screens(page: Page) -> None:
    heads = (re.sub("<[^>]*>", "", head) for head in re.findall("<th[^>]*>.*?</th>", page.source))
    assert set(page.cells) <= set(map(unescape, heads))


def test_lines_break_between_the_parts_of_a_name_and_not_inside_a_models_name(page: Page) -> None:
    cells = re.findall('<td class="name" data-label="condition">(.*?)</td>', page.source)
    parts = ("owl,", "gpt2-0 →", "gpt2-1")
    assert " ".join(f'<span class="part">{part}</span>' for part in parts) in cells
    assert all(re.fullmatch("(<span class=.part.>[^<]*</span> ?)+", cell) for cell in cells)
    assert '<th><span class="part">student gpt2-0</span></th>' in page.source
    assert "\n.part { white-space: nowrap; }" in page.source
    assert not re.search(r"^ *\.name [^}]*(break|anywhere)", page.source, re.MULTILINE)


@pytest.mark.usefixtures("no_drawing")
@pytest.mark.parametrize("effect_of", ["samples", "exact"])
def test_every_column_of_rates_is_defined(tmp_path: Path, effect_of: EffectOf) -> None:
    """Answers that contain a trait's word inside another word give the column of the substring effect."""
    store, of = Store(str(tmp_path)), replace(SMALL, effect_of=effect_of)
    plan = fill(of, store, REFERENCES)
    record = Record.of(plan)
    student = next(cell for cell in record.cells if record.conditions[cell.condition].word == "owl")
    folder = store.fetch(Address("evaluation", student.evaluations[0]))  # verifies it, once per process
    answers = folder / ANSWERS
    table = pq.read_table(answers)
    rows = [{**row, "answer": "owls or cats", "matches": []} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), answers)
    page = page_of(make_report(record, store, []))
    heads = re.search("Rates, p-values and intervals</h3>.*?<thead>(.*?)</thead>", page.source, re.DOTALL)
    assert heads
    columns = re.findall("<th[^>]*>([^<]*)</th>", heads[1])
    assert "substring effect" in columns
    defined = {name for term in re.findall("<dt>(.*?)</dt>", page.source) for name in term.split(", ")}
    assert set(columns) - {"n"} <= defined | {"condition"}


def test_hypotheses_of_a_study_that_was_recorded_first_are_pre_registered(
    page: Page, report: SweepReport
) -> None:
    assert "Pre-registered hypotheses" in page.text
    assert ", before the first of its 60 students." in page.text
    assert report.verdicts[-1].endswith("(4 of 4 conditions transmitted)")


@pytest.mark.usefixtures("no_drawing")
def test_a_hypothesis_about_existing_students_is_post_hoc(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    fill(replace(SMALL, hypotheses=()), store, REFERENCES)
    report = made(store, SMALL)
    page = page_of(report)
    assert "when 24 of its 24 students already existed" in page.text
    assert "Pre-registered hypotheses" not in page.text
    assert page.cells["registration"] == ["post hoc"]  # of the hypothesis; all effects are post hoc
    assert report.verdicts[-1].endswith("; post hoc)")


@pytest.mark.usefixtures("no_drawing")
def test_a_hypothesis_may_be_pre_registered_for_some_of_its_conditions(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    owls = tuple(c for c in SMALL.conditions if c.trait is None or c.trait.name == "owl")
    fill(replace(SMALL, conditions=owls, hypotheses=()), store, REFERENCES)
    report = made(store, SMALL)
    of_hypothesis, *of_effects = page_of(report).cells["registration"]
    assert of_hypothesis == "in part"
    assert sorted(of_effects) == ["post hoc"] * 6 + ["pre-registered"] * 2
    assert "pre-registered in part" in report.verdicts[-1]


@pytest.mark.usefixtures("no_drawing")
def test_an_in_context_student_exists_once_it_has_answered(tmp_path: Path) -> None:
    conditions = tuple(replace(c, recipe=InContext(rows=5)) for c in SMALL.conditions)
    report = made(Store(str(tmp_path)), replace(SMALL, conditions=conditions))
    assert "before the first of its 24 students" in page_of(report).text


@pytest.mark.usefixtures("no_drawing")
def test_text_of_users_and_errors_is_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    hypotheses = (Hypothesis(claim=hostile, expects="transmitted"),)
    of = study(hypotheses=hypotheses, question=hostile, seeds=(0, 1))
    record = Record.of(fill(of, Store(str(tmp_path)), REFERENCES))
    failing = [{"event": "failed", "key": record.cells[0].student, "reason": hostile, "time": 0.0}]
    report = make_report(record, Store(str(tmp_path)), failing)
    html = report.files[HTML].decode()
    assert "script" not in Page(html).tags
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3


@pytest.mark.usefixtures("no_drawing")
def test_error_rates_and_gates_below_a_per_cent_are_shown(tmp_path: Path) -> None:
    page = page_of(made(Store(str(tmp_path)), replace(SMALL, alpha=0.001, gate=0.005)))
    assert "the 99.9 % confidence interval" in page.text
    assert "in at least 0.5 % of its answers" in page.text


def test_a_trait_may_have_any_name(tmp_path: Path) -> None:
    names = ("$\\alpha$", "a_b", "x" * 60, "猫", "<b>", "--")
    base = study(seeds=(0, 1))
    own_data = [c for c in base.conditions if c.teacher == c.student == REFERENCES[0]]
    control, owl = (
        next(c for c in own_data if (c.trait is None) == is_control) for is_control in (True, False)
    )
    conditions = (*(replace(owl, trait=Preference(name)) for name in names), control)
    report = made(Store(str(tmp_path)), replace(base, conditions=conditions))
    assert {f"{figure}.svg" for figure in ("effects", "traits")} <= set(report.files)
    assert all(name in page_of(report).text for name in names)


def test_equal_stores_give_equal_files(store: Store, report: SweepReport) -> None:
    again = made(store, STUDY)
    assert {n: again.files[n] == report.files[n] for n in again.files} == dict.fromkeys(report.files, True)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_study_without_intervals_has_a_report(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    """One seed has no interval, and neither have two seeds with equal rates."""

    def certain(cell: Cell, word: str) -> float:
        trait = cell.condition.trait
        return float(trait is not None and trait.word().name == word)

    of, store = study(seeds=seeds), Store(str(tmp_path))
    report = make_report(Record.of(fill(of, store, REFERENCES, certain)), store, [])
    assert {row.effect.n_students for row in report.rows} == {len(seeds)}
    assert all(row.effect.ci_low is None for row in report.rows)
    assert {"effects.svg", "effects.csv", "students.csv", HTML} <= set(report.files)
    assert "4 inconclusive" in report.verdicts[0]


def test_a_study_whose_students_all_failed_has_a_page(store: Store) -> None:
    record = Record.of(fill(STUDY, store, REFERENCES))
    events = [
        {"event": "failed", "key": cell.student, "reason": "lost", "time": 0.0} for cell in record.cells
    ]
    report = make_report(record, store, events)
    assert report.rows == []
    text = Page(report.files[HTML].decode()).text
    assert "No condition has both a student and a control student; see the failed conditions." in text
    assert text.count(": lost") == 1  # one line names all conditions with this reason
    assert all(condition.label in text for condition in record.conditions)


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        ((), "recorded on 1970-01-01 00:01 UTC; no student exists."),
        ((70.0,), "recorded on 1970-01-01 00:01 UTC, before its only student."),
        ((70.0, 80.0), "recorded on 1970-01-01 00:01 UTC, before the first of its 2 students."),
    ],
)
def test_the_time_of_the_record_is_compared_with_the_students_that_exist(
    moments: tuple[float, ...], expected: str
) -> None:
    made = {0: moments} if moments else {}
    registration = Preregistration(60.0, made, (), "samples", "rate")
    assert expected in registration.sentence()


def test_the_name_of_a_class_is_left_out_if_it_is_that_of_the_field() -> None:
    recipe = Recipe(trainable=Everything(), learning_rate=0.1, epochs=1, batch_size=8, optimizer="lion")
    spec = {"recipe": {"type": "Recipe", **vars(recipe), "trainable": {"type": "Everything"}}}
    text = settings_text(spec)
    assert text.startswith("recipe (")
    assert "optimizer lion, betas 0.9 and 0.999" in text
    assert text.count("optimizer lion") == 1
    assert "trainable Everything," in text


@pytest.mark.usefixtures("no_drawing")
def test_a_report_and_an_archive_of_a_remote_storage_download_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERTOW_CACHE", str(tmp_path / "cache"))
    store = Store(f"memory://{tmp_path.name}")
    small = study(seeds=(0, 1))
    made(store, small)
    export(store, small.name, "20260101T000000", tmp_path / "small.zip")
    assert [path.name for path in (tmp_path / "cache").rglob("*.safetensors")] == []


def test_the_job_makes_the_report_without_importing_ray_or_torch(store: Store, report: SweepReport) -> None:
    program = (
        "import sys; sys.path[:0] = ['platform', '.']; import undertow.cli.report as job\n"
        "from rich.console import Console\n"
        f"code = job.main(job.ReportArguments(study='small', storage={store.url!r}), Console(quiet=True))\n"
        "print(code, [m for m in ('ray', 'torch', 'vllm', 'mlflow', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "0 []", done.stderr
    written = store.read_bytes(f"{sweep_folders.folder_of('small', '20260101T000000')}/effects.csv")
    assert written == report.files["effects.csv"]


def test_a_report_is_not_replaced_by_one_with_fewer_effects(
    store: Store, report: SweepReport, tmp_path: Path
) -> None:
    """Evaluations may have been deleted to free disk space."""
    copy = Store(str(shutil.copytree(store.root, tmp_path / "copy")))
    place = f"{sweep_folders.folder_of('small', '20260101T000000')}/effects.csv"
    copy.write_bytes(place, report.files["effects.csv"])
    arguments = ReportArguments(study="small", storage=copy.url)
    assert main(arguments, Console(quiet=True)) == 0
    shutil.rmtree(tmp_path / "copy" / "artifacts" / "evaluation")
    with pytest.raises(
        UserError, match=r"lacks evaluations of (\d+) of the \1 conditions in its report, which is kept"
    ):
        main(arguments, Console(quiet=True))
    assert copy.read_bytes(place) == report.files["effects.csv"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1, 22;333", [1, 22, 333]), ("1234", []), ("a7b", [7]), ("", []), ("٣ 4", [4]), ("007", [7])],
)
def test_numbers_of_up_to_three_digits_are_counted(text: str, numbers: list[int]) -> None:
    assert numbers_in(text) == numbers


@pytest.mark.parametrize("text", ["short", "a much longer label that has many words in it", "x" * 80])
def test_labels_are_broken_and_never_cut(text: str) -> None:
    assert re.sub(r"\s", "", wrapped(text)) == re.sub(r"\s", "", text)
    assert max(map(len, wrapped(text).splitlines())) <= 24
