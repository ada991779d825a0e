"""Tests of the table of a search, its CSV file and its result in sentences."""

import csv
import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.examples import REFERENCES, study
from tests.filled_store import fill
from undertow.report.search_table import (
    OWN,
    confirmation_line,
    search_csv,
    search_table,
    selection_line,
)
from undertow.results.effect_rows import effects
from undertow.results.evaluation_files import Evaluations
from undertow.results.sweep_record import Record
from undertow.stages.search_points import TrialOutcome
from undertow.storage.store import Store
from undertow.study.search_space import parse

OWL = study().conditions[0]
SPACE = parse(["learning_rate=log:0.01:0.1", "epochs=1,3"], OWL)
TRIALS = [
    TrialOutcome({}, (0.2, 0.1)),
    TrialOutcome({"learning_rate": 0.03, "epochs": 1}, (0.3, 0.5)),
    TrialOutcome({"learning_rate": 0.02, "epochs": 3}, stopped=2, score=0.11),
    TrialOutcome({"learning_rate": 0.1, "epochs": 3}, failure="[out of memory]"),
    TrialOutcome({}, failure="its node left the cluster"),
]


def test_the_table_begins_with_the_strongest_recipe_and_ends_with_failures() -> None:
    text = io.StringIO()
    Console(file=text, width=200).print(search_table(TRIALS, OWL, SPACE, (0, 1), "rate"))
    lines = [line for line in text.getvalue().splitlines() if line[:1] != "─" and line.strip()]
    cells = [line.split() for line in lines]
    rows = [row for row in cells if row[0].isdecimal()]
    assert "seeds 0 1" in lines[0]
    assert [row[0] for row in rows] == ["1", "0", "2", "3", "4"]
    assert rows[0][1:6] == ["0.03", "1", "+0.400", "+0.300", "+0.500"]
    assert rows[1][1:4] == ["0.05", "2", "+0.150"]
    assert " ".join(rows[1]).endswith(OWN)
    assert " ".join(rows[2]).endswith("– stopped after epoch 2: the trait rose by +0.110")
    assert " ".join(rows[3]).endswith("– failed: [out of memory]")
    assert " ".join(rows[4]).endswith("– – – failed: its node left the cluster")


def test_the_csv_file_has_every_trial_in_its_order() -> None:
    rows = list(csv.DictReader(io.StringIO(search_csv(TRIALS, OWL, SPACE))))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert (rows[1]["learning_rate"], rows[1]["effect"], rows[1]["by_seed"]) == ("0.03", "0.4", "0.3 0.5")
    assert (rows[2]["effect"], rows[2]["stopped"]) == ("", "2")
    assert rows[3]["remark"] == "failed: [out of memory]"


def test_the_effect_on_the_seeds_of_the_search_is_called_too_large() -> None:
    line = selection_line(TRIALS[1], TRIALS)
    assert "learning_rate=0.03, epochs=1, effect +0.400." in line
    assert "As the largest of 2 effects, it probably overestimates its recipe." in line
    assert OWN in selection_line(TRIALS[0], TRIALS)


def test_the_confirmation_has_interval_and_verdict_and_is_called_unbiased(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    plan = fill(replace(study(), conditions=(OWL, OWL.control())), store, REFERENCES)
    (row,) = effects(Record.of(plan), Evaluations(store), {})
    line = confirmation_line(row, (5, 6, 7))
    assert line.startswith("Confirmation on the fresh seeds 5-7: effect +0.")
    assert ", transmitted. Only this effect is unbiased" in line
    assert "no result" in confirmation_line(None, (5,))
