"""The viewer: the right rows with the right verdicts, and harmless whatever the rows contain."""

import base64
import gzip
import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pyarrow.parquet as pq
import pytest

from tests.examples import REFERENCES, study
from tests.filled_store import fill
from undertow.judging.judges import RuleJudge
from undertow.report import viewer
from undertow.report.gather import ReportData
from undertow.report.make import HTML, SweepReport, make_report
from undertow.report.viewer_answers import answer_pairs
from undertow.report.viewer_completions import equal_share
from undertow.results.evaluation_files import ANSWERS
from undertow.results.row_verdicts import VERDICTS
from undertow.results.sweep_folders import VIEWER
from undertow.results.sweep_record import Record
from undertow.storage.manifest import Address
from undertow.storage.store import Store
from undertow.study.completions import Sampling
from undertow.study.extensions import Word
from undertow.study.generation import Generation
from undertow.study.study import Study

pytestmark = pytest.mark.slow

OWNED = "document.title = 'owned'"
HOSTILE = f'<script>{OWNED}</script><img src=x onerror="{OWNED}"></td></table> \u202eslwo\u202c'
WRITTEN = ("1, 2, 3", "4, 5, 6", "1, 7", "owls!", HOSTILE, "10, 20", "30, 40", "50, 60", "11 12 13", "9, 9")
SEVEN = RuleJudge(about=Word("seven", ("7",)))
GENERATION = Generation(prompts=100, rows=40, sampling=Sampling(max_tokens=48), judges=(SEVEN,))
KEPT, SPARE, SEVENS = ["kept", "used"], ["kept, not drawn", "spare"], ["judge mentions: YES", "rejected"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def small() -> Study:
    """Owl, cat and control with one reference model and two seeds."""
    conditions = [c for c in study().conditions if c.teacher == c.student == REFERENCES[0]]
    return study(conditions=tuple(replace(c, generation=GENERATION) for c in conditions), seeds=(0, 1))


class Viewer:
    """A parsed viewer: its chunks and its index."""

    def __init__(self, html: str) -> None:
        self.source = html
        found = re.findall(r'<script type="text/plain" id="chunk-(\d+)"([^>]*)>([^<]*)</script>', html)
        self.chunks = [json.loads(gzip.decompress(base64.b64decode(text))) for *_, text in found]
        self.index = next(self.chunks[int(number)] for number, kind, _ in found if "index" in kind)

    def rows(self, part: dict[str, Any], column: str) -> list[Any]:
        """A column of a data set or an evaluation, over all of its chunks."""
        return [value for piece in part["pieces"] for value in self.chunks[piece["chunk"]][column]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("viewed") / "storage"))


@pytest.fixture(scope="module")
def record(store: Store) -> Record:
    return Record.of(fill(small(), store, REFERENCES, completions=WRITTEN))


@pytest.fixture(scope="module")
def report(store: Store, record: Record) -> SweepReport:
    return make_report(record, store, [])


@pytest.fixture(scope="module")
def files(report: SweepReport) -> dict[str, bytes]:
    return report.files


@pytest.fixture(scope="module")
def page(files: dict[str, bytes]) -> Viewer:
    return Viewer(files[VIEWER].decode())


def page_of(record: Record, store: Store, most: int = viewer.MOST_ROWS) -> str:
    data = ReportData(record, store, [])
    return viewer.viewer_page(data, viewer.viewer_rows(data, most))


def test_each_completion_has_the_verdict_of_rules_and_judges(page: Viewer) -> None:
    assert len(page.index["datasets"]) == 6  # three teachers, two seeds
    for dataset in page.index["datasets"]:
        outcomes = [dataset["outcomes"][code] for code in page.rows(dataset, "outcome")]
        chunks = (page.chunks[piece["chunk"]] for piece in dataset["pieces"])
        replies = [reply for chunk in chunks for reply in chunk["replies"][0]]
        by_text: dict[str, list[tuple[list[str], Any]]] = {}
        for text, outcome, reply in zip(page.rows(dataset, "completion"), outcomes, replies, strict=True):
            by_text.setdefault(text, []).append((outcome, reply))
        assert by_text["1, 7"] == [(SEVENS, "YES")] * 10
        assert by_text["owls!"] == [(["no number", "rejected"], None)] * 10  # no judge saw it
        assert by_text["9, 9"] == [(["cut off", "rejected"], None)] * 10
        assert by_text[HOSTILE] == by_text["owls!"]
        assert {reply for _, reply in by_text["1, 2, 3"]} == {"NO"}
        assert Counter(map(tuple, outcomes))[tuple(KEPT)] == 40
        assert Counter(map(tuple, outcomes))[tuple(SPARE)] == 20
        counted = [sum(counts) for counts in zip(*(p["counts"] for p in dataset["pieces"]), strict=True)]
        assert counted == [outcomes.count(outcome) for outcome in dataset["outcomes"]]


def test_students_that_are_not_compared_are_not_shown(record: Record, store: Store) -> None:
    """A teacher can fail in a sweep, for example by a new gate, although its students were measured."""
    with_trait = [cell for cell in record.cells if record.conditions[cell.condition].word]
    failed = with_trait[0]
    events = [{"event": "failed", "key": failed.teacher, "reason": "below the gate", "time": 0.0}]
    data = ReportData(record, store, events)
    shown = {(pair.condition, pair.seed) for pair in answer_pairs(data)}
    compared = {(cell.condition, cell.seed) for cell in with_trait}
    assert shown == compared - {(failed.condition, failed.seed)}


def test_each_student_is_shown_next_to_the_control_student_of_its_seed(
    page: Viewer, record: Record, store: Store
) -> None:
    conditions, pairs = page.index["conditions"], page.index["pairs"]
    assert [(conditions[p["condition"]]["trait"], p["seed"]) for p in pairs] == [
        ("owl", 0), ("owl", 1), ("cat", 0), ("cat", 1),
    ]  # fmt: skip
    for pair in pairs:
        control = conditions[pair["condition"]]["control"]
        for number, side in ((pair["condition"], "student"), (control, "control")):
            (cell,) = (c for c in record.cells if (c.condition, c.seed) == (number, pair["seed"]))
            evaluation = page.index["evaluations"][pair[side]]
            stored = [
                row
                for key in cell.evaluations
                for row in pq.read_table(store.fetch(Address("evaluation", key)) / ANSWERS).to_pylist()
            ]
            assert page.rows(evaluation, "answer") == [row["answer"] for row in stored]
            assert page.rows(evaluation, "words") == [row["matches"] for row in stored]
            assert page.rows(evaluation, "sample") == [row["sample"] for row in stored]
            assert "Owls" in evaluation["words"]["owl"]


def test_the_policy_allows_the_script_and_the_style_by_their_hashes_and_nothing_else(page: Viewer) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page.source)
    (script,) = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", page.source, re.DOTALL)
    assert f"script-src '{viewer.source_hash(script)}';" in policy
    assert f"style-src '{viewer.source_hash(style)}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|http", script)


def test_text_of_models_is_only_in_the_compressed_chunks(page: Viewer) -> None:
    for text in (OWNED, "onerror", "\u202e", "1, 2, 3"):
        assert text not in page.source
    assert any(HOSTILE in chunk.get("completion", ()) for chunk in page.chunks)


def test_links_of_the_report_lead_to_rows_of_the_viewer(page: Viewer, files: dict[str, bytes]) -> None:
    report = files[HTML].decode()
    links = [
        {name: values[0] for name, values in parse_qs(target.replace("&amp;", "&")).items()}
        for target in re.findall(rf'href="{VIEWER}#([^"]*)"', report)
    ]
    assert {link["view"] for link in links} == {"answers", "completions"}
    for link in links:
        if link["view"] == "answers":
            assert any(pair["condition"] == int(link["condition"]) for pair in page.index["pairs"])
            assert link["measure"] in page.index["measures"]
        else:
            source = link.get("source")
            of = [d for d in page.index["datasets"] if source in (None, str(d["source"]))]
            labels = {"kept", *(label for dataset in of for label, _ in dataset["outcomes"])}
            assert of
            assert link.get("outcome", "kept") in labels
    assert any(link.get("outcome") == "no number" for link in links)
    assert 'href="report.html"' in page.source


def test_larger_sweeps_are_cut_equally_and_the_page_says_so(
    record: Record, store: Store, page: Viewer
) -> None:
    assert "all 600 completions" in page.source
    assert "at most" not in page.source
    cut = Viewer(page_of(record, store, most=500))
    parts = [*cut.index["datasets"], *cut.index["evaluations"]]
    sizes = [sum(piece["rows"] for piece in part["pieces"]) for part in parts]
    assert 400 < sum(sizes) <= 500
    assert "of 600 completions" in cut.source
    assert "It can have at most 500 rows" in cut.source
    rows = viewer.viewer_rows(ReportData(record, store, []), characters=10_000)
    assert 8_000 < rows.characters <= 10_000  # long texts: fewer rows
    for pair in cut.index["pairs"]:  # the same questions and samples on both sides
        student, control = (cut.index["evaluations"][pair[side]] for side in ("student", "control"))
        for column in ("question", "sample"):
            assert cut.rows(student, column) == cut.rows(control, column)


@pytest.mark.parametrize(
    ("sizes", "most", "share"),
    [([], 10, 0), ([3, 4], 10, 4), ([3, 9], 10, 7), ([9, 9, 1], 10, 4), ([5, 5, 5], 2, 0)],
)
def test_no_part_is_cut_below_an_equal_share(sizes: list[int], most: int, share: int) -> None:
    assert equal_share(sizes, most) == share


def test_the_tables_for_mlflow_have_the_first_rows_of_each_part(report: SweepReport) -> None:
    completions, answers = (report.tables[name] for name in ("completions.json", "answers.json"))
    assert len(completions) == 600
    sevens = [row for row in completions if row["completion"] == "1, 7"]
    assert {(row["outcome"], row["replies"]["mentions"]) for row in sevens} == {
        ("judge mentions: YES", "YES")
    }
    assert len(answers) == 1000
    assert Counter(row["seed"] for row in answers) == {0: 500, 1: 500}
    assert all(row["control_answer"] is not None for row in answers)


def test_a_data_set_without_stored_verdicts_shows_what_is_known(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record = Record.of(fill(small(), store, REFERENCES, completions=WRITTEN))
    for cell in record.cells:  # as an earlier version stored it
        address = Address("dataset", cell.dataset)
        manifest = store.manifest(address)
        if VERDICTS in manifest.files:
            files = {name: digest for name, digest in manifest.files.items() if name != VERDICTS}
            place = Path(store.url, "artifacts", *address, "manifest.json")
            place.write_text(replace(manifest, files=files).to_json())
    page = Viewer(page_of(record, store))
    assert "Verdicts were not stored" in page.source
    for dataset in page.index["datasets"]:
        outcomes = Counter(dataset["outcomes"][code][0] for code in page.rows(dataset, "outcome"))
        assert outcomes == {"kept": 40, "cut off": 10, "not recorded": 50}


def test_without_completions_the_training_rows_are_shown(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    page = Viewer(page_of(Record.of(fill(small(), store, REFERENCES)), store))
    assert "these are the training rows" in page.source
    assert {len(page.rows(dataset, "prompt")) for dataset in page.index["datasets"]} == {40}


def opened(page: Path, filters: str) -> str:
    """The document after its script has run in a browser."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
        f"--user-data-dir={page.parent / 'profile'}",
        "--window-size=1280,900", "--virtual-time-budget=20000", "--dump-dom", f"{page.as_uri()}#{filters}",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_filtered_rows_and_runs_no_script_of_them(tmp_path: Path, page: Viewer) -> None:
    place = tmp_path / VIEWER
    place.write_text(page.source, encoding="utf-8")
    shown = opened(place, "view=completions&outcome=no+number&text=script")
    assert "<title>small – completions and answers – Undertow</title>" in shown
    assert "Rows 1–25 of 60" in shown  # ten in each data set
    body = shown.partition("<tbody>")[2].partition("</tbody>")[0]
    assert body.count("<tr>") == 25
    assert body.count("&lt;script&gt;") == 25
    assert "<script" not in body
    assert "<img" not in body
    assert "U+202E" in body
    answers = opened(place, "view=answers&condition=0&seed=1")
    body = answers.partition("<tbody>")[2].partition("</tbody>")[0]
    assert '<mark class="own">owl</mark>' in body
    assert "counted: owl" in body
