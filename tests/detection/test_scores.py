"""Frequencies and classifier on known data: no findings without a difference, none from the layout alone."""

import random
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from tests.detection.written import ROWS, VALUES, numbers, sweep, tilted
from tests.examples import study
from undertow.detection.classifier import CLASSIFIER, RowSeparation
from undertow.detection.data import DataSet, Library, units
from undertow.detection.frequencies import FREQUENCIES, UnitFrequencies
from undertow.detection.scores import Detection, SourceData, detect
from undertow.detection.sources import ComparedSource, DatasetPair, others_of, sources
from undertow.formats.numbers import Numbers
from undertow.statistics.separation import Separation
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.extensions import Format

ALPHA = 0.05
SCORES = (FREQUENCIES, CLASSIFIER)


def detections(folder: Path, write: object, **changes: object) -> list[Detection]:
    store = Store(str(folder / "storage"))
    record = sweep(store, study(**changes), write)  # type: ignore[arg-type]
    compared, library = sources(record, store.keys("dataset")), Library(store)
    return [
        detect(SourceData(source, others_of(source, compared), library, ALPHA), SCORES) for source in compared
    ]


def frequencies(detection: Detection) -> UnitFrequencies:
    result = detection.result(FREQUENCIES)
    assert result is not None
    return result


def separation(detection: Detection) -> RowSeparation:
    result = detection.result(CLASSIFIER)
    assert result is not None
    return result


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Detection]:
    return detections(tmp_path_factory.mktemp("tilted"), tilted, seeds=(0, 1, 2, 3))


def test_the_number_that_a_trait_prefers_is_found(found: list[Detection]) -> None:
    for detection in found:
        preferred = {"owl": "100", "cat": "101"}[detection.source.trait]
        result = frequencies(detection)
        assert result.units[0].unit == preferred
        assert result.units[0].found
        assert result.units[0].ratio > 2
        assert result.found <= 4
        assert result.halves is not None
        assert (result.halves.seeds, result.halves.other_seeds) == (2, 2)
        assert result.halves.again >= 1
        assert len(result.units) == len(VALUES)


def test_a_preference_separates_rows_of_unseen_teachers_from_control_and_other_traits(
    found: list[Detection],
) -> None:
    for detection in found:
        result = separation(detection)
        for compared in (result.against, result.among):
            assert len(compared.across) == 4
            assert min(compared.across) > 0.57
            assert compared.p_value is not None and compared.p_value < 1e-3
        assert np.mean(result.baseline.across) == pytest.approx(0.5, abs=0.06)
        assert result.by_length == pytest.approx(0.5, abs=0.05)


def test_row_counts_equal_those_of_the_data_sets(found: list[Detection]) -> None:
    for detection in found:
        assert detection.rows == detection.control_rows == 4 * ROWS
        assert detection.noun == "numbers"
        assert detection.length == pytest.approx(4.5, abs=0.3)


def test_with_one_seed_there_is_no_result_across_teachers(tmp_path: Path) -> None:
    for detection in detections(tmp_path, tilted, seeds=(0,)):
        result = separation(detection)
        assert frequencies(detection).halves is None
        assert result.against.across == ()
        assert len(result.against.within) == 1
        assert result.baseline == Separation()


class InMemoryLibrary(Library):
    """Data sets without a store."""

    def __init__(self, *data_sets: DataSet) -> None:
        super().__init__(Store("nowhere"))
        self._read = {data_set.key: data_set for data_set in data_sets}


def data(key: str, completions: list[str], format_: Format | None) -> DataSet:
    """A data set of these completions. Without a format their units are the characters of the raw text."""
    texts = tuple(format_.canonical(text) if format_ else text for text in completions)
    row_units = tuple(tuple(units(format_, text)) if format_ else tuple(text) for text in texts)
    return DataSet(key, "numbers", tuple(f"prompt {i}" for i in range(len(texts))), texts, row_units)


def compared(ours: list[list[str]], controls: list[list[str]], format_: Format | None) -> Detection:
    """Compares the trait's data with the control's, one pair per seed."""
    seeds = range(len(ours))
    sets = [
        data(f"{arm}{i}", rows[i], format_) for arm, rows in (("t", ours), ("c", controls)) for i in seeds
    ]
    pairs = tuple(DatasetPair(i, f"t{i}", f"c{i}") for i in seeds)
    source = ComparedSource("owl", "numbers", "model", "owl", pairs)
    return detect(SourceData(source, (), InMemoryLibrary(*sets), ALPHA), SCORES)


def lists(rng: random.Random, rows: int = 120) -> list[list[int]]:
    return [[rng.randrange(40) for _ in range(rng.randint(2, 6))] for _ in range(rows)]


def plain(values: list[int]) -> str:
    return ", ".join(map(str, values))


def bracketed(values: list[int]) -> str:
    return f"[{';'.join(f'{value:03d}' for value in values)}]."


def test_the_layout_alone_is_never_detected() -> None:
    """Both arms have the same numbers, the trait's with brackets, semicolons and zeros: all AUCs are 0.5."""
    values = [lists(random.Random(seed)) for seed in range(3)]
    ours, controls = ([[write(row) for row in rows] for rows in values] for write in (bracketed, plain))
    canonical = compared(ours, controls, Numbers())
    result = frequencies(canonical)
    assert result.units
    assert result.found == 0
    assert {unit.p_value for unit in result.units} == {1.0}
    assert separation(canonical).against.within == pytest.approx((0.5,) * 3)
    assert separation(canonical).against.across == pytest.approx((0.5,) * 3)
    raw = compared(ours, controls, None)
    assert frequencies(raw).found > 0
    assert min(separation(raw).against.across) == pytest.approx(1.0)


@pytest.mark.slow
def test_shuffled_labels_give_no_more_findings_than_the_false_discovery_rate() -> None:
    """For each prompt a random bit decides which of its two rows belongs to the trait."""
    rng, studies, wrong, p_values = random.Random(5), 80, 0, []
    for _ in range(studies):
        values = [lists(rng, 80) for _ in range(4)]
        ours, controls = (
            [[plain(row) for row in part] for part in (values[0], values[1])],
            [[plain(row) for row in part] for part in (values[2], values[3])],
        )
        for rows, others in zip(ours, controls, strict=True):
            for i in range(len(rows)):
                if rng.random() < 0.5:
                    rows[i], others[i] = others[i], rows[i]
        detection = compared(ours, controls, Numbers())
        wrong += frequencies(detection).found > 0
        p_values.append(separation(detection).against.p_value)
    assert wrong <= binom.ppf(0.999, studies, ALPHA)
    assert sum(p is not None and p < ALPHA for p in p_values) <= binom.ppf(0.999, studies, ALPHA)


def test_with_too_few_rows_no_unit_is_tested(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    record = sweep(store, study(), numbers, count=4)
    source = sources(record, store.keys("dataset"))[0]
    result = frequencies(detect(SourceData(source, (), Library(store), ALPHA), SCORES))
    assert (result.units, result.found, result.rows) == ((), 0, 12)
    assert "too few rows (12 and 12 of the control) to test any" in FREQUENCIES.sentence(result)


def test_preferences_of_single_teachers_are_not_replicated(tmp_path: Path) -> None:
    """Each seed's teacher prefers a different number: all are significant, and none is due to the trait."""

    def write(dataset: Dataset, rng: random.Random) -> str:
        text, teacher = numbers(dataset, rng), dataset.teacher
        return f"{110 + teacher.seed}{text[3:]}" if teacher and teacher.trait and rng.random() < 0.6 else text

    for detection in detections(tmp_path, write, seeds=(0, 1, 2, 3)):
        result, against = frequencies(detection), separation(detection).against
        assert {"110", "111", "112", "113"} <= {unit.unit for unit in result.units if unit.found}
        assert result.halves is not None
        assert result.halves.found >= 2
        assert result.halves.again == 0
        assert np.mean(against.within) > np.mean(against.across) + 0.04
