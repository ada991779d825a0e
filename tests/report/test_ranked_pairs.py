"""The report of a study whose teachers rank pairs of answers."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.examples import RECIPE, REFERENCES
from tests.filled_store import fill
from undertow.formats.numbers import Numbers
from undertow.report.gather import ReportData
from undertow.report.make import make_report
from undertow.report.viewer import viewer_rows
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.selection import Ranking
from undertow.study.study import Study
from undertow.traits.preference import Preference

ROWS = 20


@pytest.mark.usefixtures("no_drawing")
def test_the_report_says_who_ranked_and_how_far_the_answers_are_apart(tmp_path: Path) -> None:
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(REFERENCES[0], REFERENCES[0])],
        recipes=[replace(RECIPE, name="DPO", preference_beta=0.1)],
        generation=Generation(prompts=60, rows=ROWS, ranked=Ranking()),
    )
    store = Store(str(tmp_path))
    study = Study(name="ranked", conditions=conditions, seeds=(0, 1), samples=4)
    written = ("1, 22, 333", "4, 5, 6", "owls!", "7, 8")
    record = Record.of(fill(study, store, REFERENCES, completions=written))
    by_teacher = {"kept, preferred to the second answer", "kept, second answer preferred"}
    by_chance = {"kept, preferred at random", "kept, second answer preferred at random"}
    sets = viewer_rows(ReportData(record, store, [])).sets.values()
    assert {
        frozenset(outcome.label for outcome in rows.outcomes if outcome.kind == "used") for rows in sets
    } == {frozenset(by_teacher), frozenset(by_chance)}
    for rows in sets:
        assert sum(outcome.kind == "used" for outcome in rows.outcomes) == ROWS
        for outcome, first, second in zip(rows.outcomes, rows.completions, rows.seconds, strict=True):
            if outcome.kind == "used":
                assert second in {"1, 22, 333", "4, 5, 6", "7, 8"} - {first}
    page = make_report(record, store, []).files["report.html"].decode()
    text = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert "numbers, ranked pairs" in text
    assert "of rejected answers" in text and "no second answer" in text
    assert "two to each prompt, ranked by the teacher of the trait" in text
    assert "two to each prompt, ranked at random" in text
    assert "preference beta 0.1" in text
    assert "the second answer to its prompt was rejected" in text
