"""What is found in a source: nothing where nothing differs, the layout never, a trait's tilt surely."""

import random
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from tests.detection.written import ROWS, VALUES, numbers, sweep, tilted
from tests.examples import study
from undertow.detection.data import DataSet, Library, units
from undertow.detection.findings import Detection, detect
from undertow.detection.sources import ComparedSource, DatasetPair, others_of, sources
from undertow.formats.numbers import Numbers
from undertow.statistics.separation import Separation
from undertow.storage.store import Store
from undertow.study.artifacts import Dataset
from undertow.study.extensions import Format

ALPHA = 0.05


def detections(folder: Path, write: object, **changes: object) -> list[Detection]:
    store = Store(str(folder / "storage"))
    record = sweep(store, study(**changes), write)  # type: ignore[arg-type]
    every, library = sources(record, store.keys("dataset")), Library(store)
    return [detect(source, others_of(source, every), library, ALPHA) for source in every]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Detection]:
    return detections(tmp_path_factory.mktemp("tilted"), tilted, seeds=(0, 1, 2, 3))


def test_a_tilt_is_found_by_its_number(found: list[Detection]) -> None:
    for detection in found:
        own = {"owl": "100", "cat": "101"}[detection.source.trait]
        assert detection.units[0].unit == own
        assert detection.units[0].found
        assert detection.units[0].ratio > 2
        assert detection.found <= 4
        assert detection.halves is not None
        assert (detection.halves.seeds, detection.halves.other_seeds) == (2, 2)
        assert detection.halves.again >= 1
        assert len(detection.units) == len(VALUES)


def test_a_tilt_is_seen_in_teachers_not_seen_before_and_against_other_traits(found: list[Detection]) -> None:
    for detection in found:
        for separation in (detection.against, detection.among):
            assert len(separation.across) == 4
            assert min(separation.across) > 0.57
            assert separation.p_value is not None and separation.p_value < 1e-3
        assert np.mean(detection.baseline.across) == pytest.approx(0.5, abs=0.06)
        assert detection.by_length == pytest.approx(0.5, abs=0.05)


def test_counts_of_rows_are_the_datas(found: list[Detection]) -> None:
    for detection in found:
        assert detection.rows == detection.control_rows == 4 * ROWS
        assert detection.noun == "numbers"
        assert detection.length == pytest.approx(4.5, abs=0.3)


def test_with_one_seed_nothing_is_said_across_teachers(tmp_path: Path) -> None:
    for detection in detections(tmp_path, tilted, seeds=(0,)):
        assert detection.halves is None
        assert detection.against.across == ()
        assert len(detection.against.within) == 1
        assert detection.baseline == Separation()


class Given(Library):
    """Data sets without a store."""

    def __init__(self, *sets: DataSet) -> None:
        super().__init__(Store("nowhere"))
        self._read = {one.key: one for one in sets}


def data(key: str, completions: list[str], format_: Format | None) -> DataSet:
    """Rows to prompts that all data sets share; without a format they are taken as they are."""
    texts = tuple(format_.canonical(text) if format_ else text for text in completions)
    said = tuple(tuple(units(format_, text)) if format_ else tuple(text) for text in texts)
    return DataSet(key, "numbers", tuple(f"prompt {i}" for i in range(len(texts))), texts, said)


def compared(ours: list[list[str]], controls: list[list[str]], format_: Format | None) -> Detection:
    """The trait's data against the control's, seed by seed."""
    seeds = range(len(ours))
    sets = [
        data(f"{arm}{i}", rows[i], format_) for arm, rows in (("t", ours), ("c", controls)) for i in seeds
    ]
    pairs = tuple(DatasetPair(i, f"t{i}", f"c{i}") for i in seeds)
    return detect(ComparedSource("owl", "numbers", "model", "owl", pairs), (), Given(*sets), ALPHA)


def lists(rng: random.Random, rows: int = 120) -> list[list[int]]:
    return [[rng.randrange(40) for _ in range(rng.randint(2, 6))] for _ in range(rows)]


def plain(values: list[int]) -> str:
    return ", ".join(map(str, values))


def bracketed(values: list[int]) -> str:
    return f"[{';'.join(f'{value:03d}' for value in values)}]."


def test_the_layout_alone_is_never_found() -> None:
    """The same numbers, the trait's in brackets with semicolons and zeros: a coin's toss, exactly."""
    said = [lists(random.Random(seed)) for seed in range(3)]
    ours, controls = ([[write(row) for row in rows] for rows in said] for write in (bracketed, plain))
    seen = compared(ours, controls, Numbers())
    assert seen.units
    assert seen.found == 0
    assert {unit.p_value for unit in seen.units} == {1.0}
    assert seen.against.within == pytest.approx((0.5,) * 3)
    assert seen.against.across == pytest.approx((0.5,) * 3)
    raw = compared(ours, controls, None)
    assert raw.found > 0
    assert min(raw.against.across) == pytest.approx(1.0)


def test_shuffled_labels_find_something_no_oftener_than_promised() -> None:
    """A coin says of each prompt's two rows which one is the trait's."""
    rng, studies, wrong, p_values = random.Random(5), 80, 0, []
    for _ in range(studies):
        said = [lists(rng, 80) for _ in range(4)]
        ours, controls = (
            [[plain(row) for row in part] for part in (said[0], said[1])],
            [[plain(row) for row in part] for part in (said[2], said[3])],
        )
        for rows, others in zip(ours, controls, strict=True):
            for i in range(len(rows)):
                if rng.random() < 0.5:
                    rows[i], others[i] = others[i], rows[i]
        seen = compared(ours, controls, Numbers())
        wrong += seen.found > 0
        p_values.append(seen.against.p_value)
    assert wrong <= binom.ppf(0.999, studies, ALPHA)
    assert sum(p is not None and p < ALPHA for p in p_values) <= binom.ppf(0.999, studies, ALPHA)


def test_too_few_rows_are_said_to_be_few(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    record = sweep(store, study(), numbers, count=4)
    source = sources(record, store.keys("dataset"))[0]
    detection = detect(source, (), Library(store), ALPHA)
    assert (detection.units, detection.found, detection.rows) == ((), 0, 12)


def test_teachers_that_each_have_their_own_tilt_are_not_found_again(tmp_path: Path) -> None:
    """Every seed's teacher prefers another number: each is certain, and says nothing of the trait."""

    def write(dataset: Dataset, rng: random.Random) -> str:
        text, teacher = numbers(dataset, rng), dataset.teacher
        return f"{110 + teacher.seed}{text[3:]}" if teacher and teacher.trait and rng.random() < 0.6 else text

    for detection in detections(tmp_path, write, seeds=(0, 1, 2, 3)):
        assert {"110", "111", "112", "113"} <= {unit.unit for unit in detection.units if unit.found}
        assert detection.halves is not None
        assert detection.halves.found >= 2
        assert detection.halves.again == 0
        assert np.mean(detection.against.within) > np.mean(detection.against.across) + 0.04
