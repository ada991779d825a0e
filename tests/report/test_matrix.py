"""The teacher × student matrix: cells of one condition and of several, and missing cells."""

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
from scipy import stats

from tests.examples import REFERENCES, study
from tests.filled_store import fill
from undertow.report.matrix import ModelMatrix, ModelPair, matrices, matrix_figure, matrix_sheet
from undertow.results.effect_rows import EffectRow, effects
from undertow.results.evaluation_files import Evaluations
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.study import Study

ONE, OTHER = (reference.name for reference in REFERENCES)
PAIRS = [(teacher, student) for teacher in (ONE, OTHER) for student in (ONE, OTHER)]
STUDY = study(seeds=(0, 1, 2, 3, 4))
OWLS = replace(STUDY, conditions=tuple(c for c in STUDY.conditions if c.place.trait != "cat"))


class Results:
    """The record and the effects of a filled store; the owl student of seed `lost` has failed."""

    def __init__(self, of: Study, store: Store, lost: int | None = None) -> None:
        self.record = Record.of(fill(of, store, REFERENCES))
        cells = [cell for cell in self.record.cells if self.record.conditions[cell.condition].place == LOST]
        failures = {} if lost is None else {cell.student: "lost" for cell in cells if cell.seed == lost}
        self.rows: list[EffectRow] = effects(self.record, Evaluations(store), failures)

    @property
    def matrix(self) -> ModelMatrix:
        (matrix,) = matrices(self.record, self.rows)
        return matrix


LOST = next(c.place for c in STUDY.conditions if c.place.trait == "owl")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("filled") / "storage"))


@pytest.fixture(scope="module")
def owls(store: Store) -> Results:
    return Results(OWLS, store)


@pytest.fixture(scope="module")
def both(store: Store) -> Results:
    return Results(STUDY, store)


def by_hand(rows: tuple[EffectRow, ...], seeds: set[int]) -> tuple[float, float, float]:
    """Mean and 95 % t interval over seeds of the mean over rows of student minus control student."""
    differences = [
        fmean(
            student.rate - control.rate
            for row in rows
            for student, control in zip(row.students, row.controls, strict=True)
            if student.seed == seed
        )
        for seed in sorted(seeds)
    ]
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    return float(np.mean(differences)), float(low), float(high)


def shown(pair: ModelPair) -> tuple[float | None, ...]:
    assert pair.effect is not None
    return pair.effect.effect, pair.effect.ci_low, pair.effect.ci_high


def test_a_pair_of_one_condition_has_its_effect_interval_and_verdict(owls: Results) -> None:
    assert list(owls.matrix.pairs) == PAIRS
    for row, pair in zip(owls.rows, owls.matrix.pairs.values(), strict=True):
        assert pair.effect == row.effect
    assert [pair.ruling for pair in owls.matrix.pairs.values()] == ["■", "○", "○", "■"]


def test_traits_of_a_pair_are_averaged_within_seeds_before_the_interval(both: Results) -> None:
    for pair in both.matrix.pairs.values():
        assert len(pair.rows) == 2
        assert shown(pair) == pytest.approx(by_hand(pair.rows, {0, 1, 2, 3, 4}))
    assert [pair.ruling for pair in both.matrix.pairs.values()] == ["2 of 2", "0 of 2", "0 of 2", "2 of 2"]


def test_a_seed_that_one_trait_lacks_is_excluded_from_the_mean(store: Store) -> None:
    pair = Results(STUDY, store, lost=3).matrix.pairs[LOST.teacher, LOST.student]
    assert sorted(row.effect.n_students for row in pair.rows) == [4, 5]
    assert pair.effect is not None and pair.effect.n_students == 4
    assert shown(pair) == pytest.approx(by_hand(pair.rows, {0, 1, 2, 4}))


def test_the_table_has_the_values_of_the_figure(owls: Results) -> None:
    sheet = matrix_sheet(owls.matrix)
    assert sheet["students"] == ["gpt2-0", "gpt2-1"]
    (teacher, cells), _ = sheet["lines"]
    effect = owls.rows[0].effect
    assert teacher == "gpt2-0"
    assert cells[0]["ruling"] == "■"
    assert float(cells[0]["effect"]) == pytest.approx(effect.effect, abs=5e-4)
    low, high = cells[0]["interval"].split(" … ")
    assert (float(low), float(high)) == pytest.approx((effect.ci_low, effect.ci_high), abs=5e-4)


def test_a_pair_that_the_study_lacks_has_a_dash(owls: Results) -> None:
    rows = [row for row in owls.rows if row.condition.place.teacher == row.condition.place.student]
    (found,) = matrices(owls.record, rows)
    assert [[cell["ruling"] for cell in cells] for _, cells in matrix_sheet(found)["lines"]] == [
        ["■", "–"],
        ["–", "■"],
    ]
    assert set(matrix_figure(owls.record, [found])) == {"initialisations.png", "initialisations.svg"}


def test_a_single_pair_has_no_matrix(owls: Results) -> None:
    assert matrices(owls.record, owls.rows[:1]) == []
    assert matrix_figure(owls.record, []) == {}
