"""The extension point: a score defined outside the package appears in every output of jobs/detect.py."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.detection.written import SWEEP, numbers, sweep
from tests.examples import study
from undertow import DetectionScore, register_score
from undertow.cli.detect import DetectArguments, main
from undertow.detection import make
from undertow.detection.scores import AnyScore, SourceData
from undertow.detection.sources import ComparedSource
from undertow.errors import UserError
from undertow.storage.store import Store


@dataclass(frozen=True)
class EvenNumbers:
    """The number of even numbers in each arm, and the rows that were not counted."""

    trait: int
    control: int
    skipped: int = 0


def count_even(data: SourceData) -> EvenNumbers | None:
    """No result for cats, to see how a source without one is shown."""
    if data.source.trait == "cat":
        return None
    counts = [
        sum(int(unit) % 2 == 0 for data_set in arm.values() for row in data_set.units for unit in row)
        for arm in (data.trait, data.control)
    ]
    return EvenNumbers(*counts)


def draw(results: Sequence[tuple[ComparedSource, EvenNumbers]], study: str) -> dict[str, bytes]:
    return {"even.txt": "\n".join(source.label for source, _ in results).encode()}


EVEN: DetectionScore[EvenNumbers] = DetectionScore(
    name="even numbers",
    compute=count_even,
    csv={"even": lambda result: result.trait, "control_even": lambda result: result.control},
    json={"even_numbers": lambda result: {"trait": result.trait, "control": result.control}},
    table={"even [numbers]": lambda result: f"{result.trait} : {result.control}"},
    sentence=lambda result: f"{result.trait} numbers are even, {result.control} of the control's.",
    missing=lambda result: result.skipped,
    figure=draw,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "storage"))
    sweep(store, study(seeds=(0,)), numbers, count=20)
    return store


@pytest.fixture
def registered() -> Iterator[None]:
    """Registers the score twice, as a script that is run again in a notebook does."""
    register_score(EVEN)
    register_score(EVEN)
    yield
    make.SCORES.remove(EVEN)


@pytest.mark.usefixtures("registered")
def test_a_registered_score_is_in_table_csv_json_prose_and_figures(store: Store) -> None:
    console = Console(file=io.StringIO(), width=250)
    assert main(DetectArguments(study="small", storage=store.url), console) == 0
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()

    def written(name: str) -> str:
        return store.read_text(f"sweeps/small/{SWEEP}/{name}")

    rows = list(csv.DictReader(io.StringIO(written("detection.csv"))))
    assert list(rows[0])[-2:] == ["even", "control_even"]
    owls, cats = ([row for row in rows if row["trait"] == trait] for trait in ("owl", "cat"))
    assert {(row["even"], row["control_even"]) for row in cats} == {("", "")}
    data = json.loads(written("detection.json"))
    fields = [source["even_numbers"] for source in data["sources"]]
    assert fields[1::2] == [None, None]
    heading = next(line for line in printed.splitlines() if "even [numbers]" in line)
    assert "model right" not in heading, "no model was asked"
    for row, field in zip(owls, fields[::2], strict=True):
        assert {"trait": int(row["even"]), "control": int(row["control_even"])} == field
        assert int(row["even"]) > 0
        sentence = f"{row['even']} numbers are even, {row['control_even']} of the control's."
        assert sum(sentence in line for line in data["in_words"]) == 1
        assert sentence in printed
        assert f"{row['even']} : {row['control_even']}" in printed
    assert written("even.txt").splitlines() == ["owl · numbers · gpt2-0", "owl · numbers · gpt2-1"]


def test_missing_inputs_of_a_score_are_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record = sweep(store, study(seeds=(0,)), numbers, count=20)
    skipping: AnyScore = replace(EVEN, compute=lambda data: EvenNumbers(1, 1, skipped=3))
    monkeypatch.setattr(make, "SCORES", [skipping])
    detected = make.detect_all(record, store, {}, 0.05)
    assert detected.missing == 4 * 3
    assert list(detected.detections[0].results) == ["even numbers"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"csv": {"rows": str}}, r"the column of detection\.csv 'rows' is declared twice"),
        ({"json": {"halves": str}}, r"the field of detection\.json 'halves' is declared twice"),
    ],
)
def test_names_that_two_scores_declare_are_rejected(
    store: Store, changes: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = sweep(store, study(seeds=(0,)), numbers, count=2)
    conflicting: AnyScore = replace(EVEN, **changes)  # type: ignore[arg-type]
    monkeypatch.setattr(make, "SCORES", [*make.SCORES, conflicting])
    with pytest.raises(UserError, match=message):
        make.detect_all(record, store, {}, 0.05)
