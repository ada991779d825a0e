"""jobs/detect.py from end to end: printed text, files, sources that are left out, and exit codes."""

import csv
import io
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from tests.detection.written import SWEEP, numbers, sweep, tilted
from tests.examples import REFERENCES, study
from tests.judging.server import fails, says, serving
from undertow.cli.detect import DetectArguments, main
from undertow.detection.frequencies import FREQUENCIES, Unit
from undertow.detection.make import detect_all
from undertow.errors import UserError
from undertow.formats.numbers import Numbers
from undertow.formats.reasoning import Reasoning
from undertow.planning.plan import make
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.grids import grid
from undertow.study.identity import key
from undertow.study.recipe import InContext
from undertow.study.study import Study
from undertow.traits.preference import Preference

pytestmark = pytest.mark.slow

COLUMNS = [
    "study", "trait", "induced", "format", "teacher", "recipe", "seeds", "teachers", "rows", "control_rows",
    "length", "control_length", "units_tested", "units_found", "found_in_half", "same_side", "found_again",
    "auc_within", "auc_across", "auc_across_low", "auc_across_high", "p_across",
    "auc_control_within", "auc_control_across", "auc_length", "auc_traits_within", "auc_traits_across",
    "model", "right", "wrong", "garbled", "refused", "missing",
    "share_right", "share_low", "share_high", "p_share",
]  # fmt: skip
FIELDS = {
    "source", "noun", "rows", "control_rows", "length", "control_length", "by_length", "units", "halves",
    "against", "baseline", "among", "asked",
}  # fmt: skip
FILES = ["detection.csv", "detection.json", "detection.png", "detection.svg"]


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "UNDERTOW_JUDGE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "storage"))


def run(store: Store, **flags: object) -> tuple[int, str]:
    """The exit code of jobs/detect.py and the text that it printed."""
    console = Console(file=io.StringIO(), width=200)
    code = main(DetectArguments(study="small", storage=store.url, **flags), console)  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def written(store: Store, name: str) -> str:
    return store.read_text(f"sweeps/small/{SWEEP}/{name}")


def test_a_sweep_is_analysed_without_a_language_model(store: Store) -> None:
    sweep(store, study(), tilted)
    code, printed = run(store)
    assert code == 0
    assert [n for n in store.names(f"sweeps/small/{SWEEP}") if n.startswith("detection")] == FILES
    lines = [line for line in printed.splitlines() if " · numbers · gpt2-" in line]
    assert len(lines) == 4
    assert "of 60 numbers appear in more or in fewer rows" in lines[0]
    assert "100 × " in lines[0]
    assert "AUC" in lines[0]
    assert "A control teacher was not finetuned at all" in " ".join(printed.split())
    rows = list(csv.DictReader(io.StringIO(written(store, "detection.csv"))))
    assert list(rows[0]) == COLUMNS
    assert [(r["trait"], r["teacher"]) for r in rows] == [
        (t, m.name) for m in REFERENCES for t in ("owl", "cat")
    ]
    assert {row["model"] for row in rows} == {""}
    data = json.loads(written(store, "detection.json"))
    assert [source["source"]["trait"] for source in data["sources"]] == ["owl", "cat"] * 2
    assert data["in_words"][:4] == lines
    for row, source in zip(rows, data["sources"], strict=True):
        assert source.keys() == FIELDS
        assert source["asked"] is None
        assert list(source["units"]) == list(Unit.__dataclass_fields__)
        assert len(source["units"]["unit"]) == int(row["units_tested"]) == 60
        assert sum(source["units"]["found"]) == int(row["units_found"])
        assert source["against"]["p_value"] == pytest.approx(float(row["p_across"]))
    image = Image.open(io.BytesIO(store.read_bytes(f"sweeps/small/{SWEEP}/detection.png")))
    assert image.width > 800


def test_the_same_store_gives_the_same_files(store: Store) -> None:
    sweep(store, study(seeds=(0, 1)), tilted, count=60)
    contents = []
    for _ in range(2):
        run(store)
        contents.append([store.read_bytes(f"sweeps/small/{SWEEP}/{name}") for name in FILES])
    assert contents[0] == contents[1]


def test_a_named_language_model_is_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(store, study(seeds=(0, 1)), numbers, count=60)
    with serving(lambda *_: says("B")) as server:
        monkeypatch.setenv("UNDERTOW_JUDGE_URL", server.url)
        code, printed = run(store, model="judge-1", draws=6, rows=20)
    assert code == 0
    assert len(server.messages) == 4 * 6
    assert {request["model"] for request in server.requests} == {"judge-1"}
    assert (
        "judge-1, shown 20 rows of each, was right in 3 of 6 (50 %, 19 % to 81 %; guessing: p = 1.000)"
        in printed
    )
    (row, *_) = csv.DictReader(io.StringIO(written(store, "detection.csv")))
    assert (row["model"], row["right"], row["wrong"], row["share_right"]) == ("judge-1", "3", "3", "0.5")


def test_without_an_endpoint_the_other_scores_are_written(store: Store) -> None:
    sweep(store, study(seeds=(0,)), numbers, count=60)
    code, printed = run(store, model="judge-1")
    assert code == 1
    assert "No language model was asked: a judge is needed and no endpoint is configured" in printed
    assert written(store, "detection.json")


def test_missing_replies_are_reported(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(store, study(seeds=(0, 1)), numbers, count=60)
    with serving(lambda *_: fails(404, "no such model")) as server:
        monkeypatch.setenv("UNDERTOW_JUDGE_URL", server.url)
        code, printed = run(store, model="judge-1", draws=6)
    assert code == 1
    assert "judge-1 gave no answer (6 missing" in printed
    assert "no such model" in printed


class Haiku(Numbers):
    """A format that a study file defines."""

    name = "haiku"


def test_a_retry_is_not_logged(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("NOTSET", "stamina")  # an earlier test may have silenced it; undone after this one
    sweep(store, study(seeds=(0,)), numbers, count=20)
    with serving(lambda _, before: says("B") if before else fails(503, retry_after_ms="1")) as server:
        monkeypatch.setenv("UNDERTOW_JUDGE_URL", server.url)
        code, _ = run(store, model="judge-1", draws=1, rows=2)
    assert code == 0
    assert len(server.messages) == 8, "each of four sources is asked again"
    assert not [record for record in caplog.records if record.name == "stamina"]


def test_a_users_format_is_left_out_with_a_message(store: Store) -> None:
    small = study(seeds=(0,))
    own = grid(
        traits=[Preference("owl")],
        formats=[Haiku()],
        pairs=[(REFERENCES[0], REFERENCES[0])],
        recipes=[small.conditions[0].recipe],
        generation=small.conditions[0].generation,
    )
    sweep(store, replace(small, conditions=small.conditions + own), numbers, count=60)
    code, printed = run(store)
    assert code == 1
    assert (
        "owl by system prompt · haiku · gpt2-0: left out: its format 'Haiku' is defined in a study file"
        in printed
    )
    data = json.loads(written(store, "detection.json"))
    assert list(data["left_out"]) == ["owl by system prompt · haiku · gpt2-0"]
    assert len(data["sources"]) == 4


def test_sources_without_data_are_reported(store: Store) -> None:
    sweep(store, study(), numbers, count=2)
    for name in store.keys("dataset"):
        (Path(store.url) / "artifacts" / "dataset" / name / "manifest.json").unlink()
    code, printed = run(store)
    assert code == 1
    assert printed.count("the store lacks its data") == 4


def in_context() -> Study:
    small = study(seeds=(0, 1, 2))
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(REFERENCES[0], REFERENCES[0])],
        recipes=[InContext(rows=2), small.conditions[0].recipe],
        generation=small.conditions[0].generation,
        finetuning=small.conditions[0].finetuning,
    )
    return replace(small, conditions=conditions)


def test_only_effects_in_context_are_listed_with_the_scores(store: Store) -> None:
    record = sweep(store, in_context(), numbers, count=60, evaluated=True)
    detected = detect_all(record, store, {}, 0.05)
    assert len(detected.detections) == 1
    (row,) = detected.in_context
    assert row.condition.place.recipe == "in context, 2 rows"
    code, printed = run(store)
    assert code == 0
    assert "In context: models that had rows of the data in their prompt" in printed
    assert "in context, 2 rows" in printed
    (shown,) = json.loads(written(store, "detection.json"))["in_context"]
    assert (shown["recipe"], shown["verdict"]) == ("in context, 2 rows", row.verdict.verdict)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"alpha": 0.0}, "--alpha 0"),
        ({"draws": 0}, "--draws 0"),
        ({"rows": -1}, "--rows -1"),
        ({"sweep": "never"}, "--sweep never"),
    ],
)
def test_an_invalid_value_is_reported_with_its_flag(
    store: Store, flags: dict[str, object], message: str
) -> None:
    sweep(store, study(), numbers, count=2)
    with pytest.raises(UserError, match=message):
        run(store, **flags)


def test_any_unit_is_safe_in_tables_and_figures(store: Store) -> None:
    """Units can be any text: markup, spreadsheet formulas, TeX, other scripts."""
    odd = ["[", "=", "$", "梟", "\\", "<", "_", "^"]

    def write(dataset: Dataset, rng: random.Random) -> str:
        trait = dataset.teacher and dataset.teacher.trait
        return " ".join(
            rng.choices(odd, [4, 4, 4, 4, 1, 1, 1, 1] if trait else [1, 1, 1, 1, 4, 4, 4, 4], k=4)
        )

    small = study(seeds=(0, 1))
    worded = tuple(replace(condition, format=Reasoning()) for condition in small.conditions)
    record = sweep(store, replace(small, conditions=worded), write, count=80)
    detected = detect_all(record, store, {}, 0.05)
    for found in detected.detections:
        result = found.result(FREQUENCIES)
        assert result is not None
        assert result.noun == "words"
        assert set(odd) == {unit.unit for unit in result.units if unit.found}
    code, printed = run(store)
    assert code == 0
    assert "'$' × " in printed or "'[' × " in printed or "'=' × " in printed
    assert json.loads(written(store, "detection.json"))


def test_detection_changes_no_artifact(store: Store) -> None:
    """It only writes files in the sweep's folder."""
    record = sweep(store, study(seeds=(0,)), numbers, count=30)
    before = {kind: store.keys(kind) for kind in ("dataset", "student", "evaluation")}
    run(store)
    assert {kind: store.keys(kind) for kind in before} == before
    plan = make(study(seeds=(0,)), store, REFERENCES)
    assert [cell.dataset for cell in record.cells] == [key(cell.student.dataset) for cell in plan.cells]
