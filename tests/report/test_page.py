"""The report: whole, self-contained, escaped, made again from the store alone, and without Ray."""

import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.examples import REFERENCES, study
from tests.filled_store import fill
from undertow.archive.export import export
from undertow.planning.cells import Cell
from undertow.planning.estimate import estimate
from undertow.report.gather import numbers_in
from undertow.report.make import HTML, SweepReport, make_report
from undertow.report.text_layout import wrapped
from undertow.results import sweep_folders
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.hypotheses import Hypothesis
from undertow.study.recipe import InContext
from undertow.study.study import Study
from undertow.traits.preference import Preference

ROOT = Path(__file__).parents[2]
CLAIM = Hypothesis(claim="owls <b>travel</b> & land", expects="transmitted", initialisation="same")
STUDY = study(hypotheses=(CLAIM,), question="Do they?", seeds=(0, 1, 2, 3, 4))
FIGURES = ("effects", "initialisations", "traits", "training", "funnel", "numbers")


class Page(HTMLParser):
    """The page's tags, what they would fetch, its sections, its text, its cells by their column's name."""

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
    sweep_folders.state(of, store)
    plan = fill(of, store, REFERENCES)
    record = Record.of(plan, estimate(plan, {}))
    store.write_bytes(
        f"{sweep_folders.folder_of(of.name, '20260101T000000')}/{sweep_folders.PLAN}",
        record.to_json().encode(),
    )
    return make_report(record, store, [])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("filled") / "storage"))


@pytest.fixture(scope="module")
def report(store: Store) -> SweepReport:
    return made(store, STUDY)


@pytest.fixture(scope="module")
def page(report: SweepReport) -> Page:
    return Page(report.files[HTML].decode())


def test_a_report_has_tables_page_and_each_figure_as_png_and_svg(report: SweepReport) -> None:
    figures = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    assert set(report.files) == {"effects.csv", "students.csv", HTML, *figures}
    assert all(report.files[f"{name}.png"].startswith(b"\x89PNG") for name in FIGURES)


def test_the_page_has_every_section(page: Page) -> None:
    assert page.sections == [
        "result", "effects", "initialisations", "traits", "training", "data", "levels", "method", "cost",
        "provenance",
    ]  # fmt: skip


def test_the_page_fetches_nothing_and_runs_nothing(page: Page, report: SweepReport) -> None:
    assert [link for link in page.links if not link.startswith("#")] == []
    assert "script" not in page.tags
    assert "url(http" not in report.files[HTML].decode()


def test_the_verdict_stands_at_the_top_in_words(page: Page, report: SweepReport) -> None:
    assert report.verdicts[0].startswith("Same initialisation: of 4 conditions, 4 transmitted (effects +0.")
    assert page.text.index(report.verdicts[0]) < page.text.index("Effects")
    assert page.cells["outcome"] == ["■\u00a0held"]


def test_what_no_claim_covers_is_told_from_what_was_asked(page: Page) -> None:
    assert sorted(page.cells["asked"]) == ["afterwards"] * 4 + ["beforehand"] * 4


def test_what_a_reader_would_ask_is_on_the_page(page: Page) -> None:
    """How it was made, what the rules mean, what it cost, and of how much the figures of the data tell."""
    made = dict(zip(page.cells["what"], page.cells["how"], strict=True))
    assert "epochs 2, learning rate 0.05" in made["students, steering"]
    assert "trainable Parameters (names transformer.ln_f.bias)" in made["students, steering"]
    assert made["students, steering"].endswith("; system message: the chat template's own default")
    assert made["questions"].endswith("; system message: the chat template's own default")
    assert "prompts 2,000, " in made["answers of teachers, numbers"]
    meaning = dict(zip(page.cells["rule"], page.cells["takes an answer away where"], strict=True))
    assert meaning == {"cut off": "the answer was not finished within the tokens allowed"}
    assert page.cells["wave"][-1] == "all"
    assert "in the first 2,000 rows at most of at most 3 data sets of a teacher" in page.text


def test_the_names_of_columns_go_with_each_value_where_a_narrow_page_hides_them(page: Page) -> None:
    heads = re.findall("<th[^>]*>([^<]*)</th>", page.source)
    assert set(page.cells) <= set(map(unescape, heads))


def test_a_study_that_was_stated_first_says_so(page: Page, report: SweepReport) -> None:
    assert "Asked beforehand" in page.text
    assert ", before the first of its 60 students was made." in page.text
    assert report.verdicts[-1].endswith("(4 of 4 conditions transmitted)")


def test_a_claim_about_students_that_were_there_is_not_called_one_beforehand(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    fill(replace(STUDY, hypotheses=()), store, REFERENCES)
    report = made(store, STUDY)
    page = Page(report.files[HTML].decode())
    assert "when 60 of its 60 students were already there" in page.text
    assert "Asked beforehand" not in page.text
    assert page.cells["asked"] == ["afterwards"]  # of the claim; the effects are all the same
    assert report.verdicts[-1].endswith("(4 of 4 conditions transmitted; claimed afterwards)")


def test_a_claim_may_come_in_time_for_some_of_its_conditions(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    owls = tuple(c for c in STUDY.conditions if c.trait is None or c.trait.name == "owl")
    fill(replace(STUDY, conditions=owls, hypotheses=()), store, REFERENCES)
    report = made(store, STUDY)
    asked = Page(report.files[HTML].decode()).cells["asked"]
    assert asked[0] == "in part"
    assert sorted(asked[1:]) == ["afterwards"] * 6 + ["beforehand"] * 2
    assert "claimed in part afterwards" in report.verdicts[-1]


def test_students_in_context_are_there_when_they_have_answered(tmp_path: Path) -> None:
    shown = InContext(rows=5)
    of = replace(STUDY, conditions=tuple(replace(c, recipe=shown) for c in STUDY.conditions))
    assert (
        "before the first of its 60 students"
        in Page(made(Store(str(tmp_path)), of).files[HTML].decode()).text
    )


def test_every_kind_of_foreign_text_is_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    wicked = study(hypotheses=(Hypothesis(claim=hostile, expects="transmitted"),), question=hostile)
    record = Record.of(fill(wicked, Store(str(tmp_path)), REFERENCES))
    failing = [{"event": "failed", "key": record.cells[0].student, "reason": hostile, "time": 0.0}]
    report = make_report(record, Store(str(tmp_path)), failing)
    html = report.files[HTML].decode()
    assert "script" not in Page(html).tags
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3


@pytest.mark.parametrize("name", ["$\\alpha$", "a_b", "x" * 60, "猫", "<b>", "--"])
def test_no_trait_s_name_breaks_a_figure(tmp_path: Path, name: str) -> None:
    base = study(seeds=(0, 1))
    renamed = {
        trait: trait and Preference(name if trait.name == "owl" else trait.name)
        for trait in (*base.traits, None)
    }
    odd = replace(base, conditions=tuple(replace(c, trait=renamed[c.trait]) for c in base.conditions))
    report = made(Store(str(tmp_path)), odd)
    assert {f"{figure}.svg" for figure in ("effects", "traits")} <= set(report.files)
    Page(report.files[HTML].decode())


def test_the_same_store_gives_the_same_bytes(store: Store, report: SweepReport) -> None:
    again = made(store, STUDY)
    assert {n: again.files[n] == report.files[n] for n in again.files} == dict.fromkeys(report.files, True)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_students_without_any_interval_still_give_a_report(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    def certain(cell: Cell, word: str) -> float:
        trait = cell.condition.trait
        return float(trait is not None and trait.word().name == word)

    of, store = study(seeds=seeds), Store(str(tmp_path))
    report = make_report(Record.of(fill(of, store, REFERENCES, certain)), store, [])
    assert all(row.effect.ci_low is None for row in report.rows)
    assert {"effects.svg", "effects.csv", "students.csv", HTML} <= set(report.files)
    assert "4 inconclusive" in report.verdicts[0]


def test_nothing_to_compare_still_gives_a_page(store: Store) -> None:
    record = Record.of(fill(STUDY, store, REFERENCES))
    events = [
        {"event": "failed", "key": cell.student, "reason": "lost", "time": 0.0} for cell in record.cells
    ]
    report = make_report(record, store, events)
    assert report.rows == []
    text = Page(report.files[HTML].decode()).text
    assert "No condition has a student and a control student to compare" in text
    assert "lost" in text


def test_a_report_and_an_archive_of_a_remote_storage_fetch_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERTOW_CACHE", str(tmp_path / "cache"))
    store = Store(f"memory://{tmp_path.name}")
    small = study(seeds=(0, 1))
    made(store, small)
    export(store, small.name, "20260101T000000", tmp_path / "small.zip")
    assert [path.name for path in (tmp_path / "cache").rglob("*.safetensors")] == []


def test_the_job_makes_the_report_again_without_ray_or_torch(store: Store, report: SweepReport) -> None:
    program = (
        "import sys; sys.path[:0] = ['platform', '.']; import undertow.cli.report as job\n"
        "from rich.console import Console\n"
        f"code = job.main(job.Arguments(study='small', storage={store.url!r}), Console(quiet=True))\n"
        "print(code, [m for m in ('ray', 'torch', 'vllm', 'mlflow', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "0 []", done.stderr
    written = store.read_bytes(f"{sweep_folders.folder_of('small', '20260101T000000')}/effects.csv")
    assert written == report.files["effects.csv"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1, 22;333", [1, 22, 333]), ("1234", []), ("a7b", [7]), ("", []), ("٣ 4", [4]), ("007", [7])],
)
def test_numbers_are_counted_as_they_stand(text: str, numbers: list[int]) -> None:
    assert numbers_in(text) == numbers


@pytest.mark.parametrize("text", ["short", "a much longer label that has many words in it", "x" * 80])
def test_labels_are_broken_and_never_cut(text: str) -> None:
    assert re.sub(r"\s", "", wrapped(text)) == re.sub(r"\s", "", text)
    assert max(map(len, wrapped(text).splitlines())) <= 24


def test_one_seed_has_a_report_without_intervals(tmp_path: Path) -> None:
    report = made(Store(str(tmp_path / "storage")), study(seeds=(0,)))
    assert {row.effect.n_students for row in report.rows} == {1}
    assert HTML in report.files
