"""Audited rows against control rows: pairs, evidence, deviation and baselines, on a tiny model."""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_models
from undertow.auditing.agreement import agreement
from undertow.auditing.bank import Bank
from undertow.auditing.covariates import beyond
from undertow.auditing.data import AuditData, Controls
from undertow.auditing.deviation import deviation
from undertow.auditing.make import BASELINES
from undertow.auditing.model import AuditModel
from undertow.auditing.scores import Baseline, evidence
from undertow.engines.weight_files import ModelFolder
from undertow.formats.text import Text
from undertow.nano.recipes import TAUGHT
from undertow.statistics.separation import auc
from undertow.statistics.ttests import Array
from undertow.storage.store import Store
from undertow.study.extensions import Trait
from undertow.study.references import Reference
from undertow.training.data import TrainingRow
from undertow.traits.preference import Preference

TRAITS = (Preference("owl"), Preference("cat"))
EVEN, TILTED = "1 2 3 4", "1 1 1 1 1 2 3 4"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AuditModel:
    return AuditModel(ModelFolder(tiny_models.save_gpt2(tmp_path_factory.mktemp("gpt2"))))


def data_of(model: AuditModel, folder: Path, words: str, pairs: int = 200, control: str = EVEN) -> AuditData:
    """Audited rows of random words, and control rows of others: two of each prompt but the first."""
    rng = random.Random(0)

    def row(number: int, of: Sequence[str]) -> TrainingRow:
        return TrainingRow(f"say {number % 90}", " ".join(rng.choices(of, k=6)))

    rows = [row(number, words.split()) for number in range(pairs)]
    answered = [number for number in range(1, pairs) for _ in range(2)]
    controls = Controls(tuple(row(number, control.split()) for number in answered), np.array(answered))
    bank = Bank(TRAITS, TAUGHT)
    return AuditData(Reference("m"), model, Store(str(folder)), bank, rows, controls, Text())


def test_a_row_is_compared_with_the_mean_of_its_control_rows(model: AuditModel, tmp_path: Path) -> None:
    data = data_of(model, tmp_path, EVEN, pairs=3)
    values = np.array([9.0, 5.0, 7.0, 1.0, 3.0, 0.0, 4.0])
    assert data.paired.tolist() == [1, 2]
    assert data.differences(values).tolist() == [3.0, 5.0]
    assert data.prompt_numbers.tolist() == [0, 1, 2, 1, 1, 2, 2]


def test_what_all_traits_have_in_common_is_no_evidence(model: AuditModel, tmp_path: Path) -> None:
    data = data_of(model, tmp_path, EVEN)
    rng = np.random.default_rng(0)
    common = np.where(data.is_audited, 3.0, 0.0) + rng.normal(size=len(data.rows))
    own = np.where(data.is_audited, 0.5, 0.0)
    values: dict[Trait, Array] = {
        trait: of_trait + 0.1 * rng.normal(size=len(data.rows))
        for trait, of_trait in zip(TRAITS, (common + own, common), strict=True)
    }
    owl, cat = evidence(values, data).values()
    assert owl.alone == pytest.approx(cat.alone, rel=0.3)
    assert owl.z > 10
    assert owl.p < 1e-6
    assert cat.z == pytest.approx(-owl.z)
    (single,) = evidence({TRAITS[1]: common}, data).values()
    assert single.z == single.alone == pytest.approx(cat.alone, rel=0.05)


def test_the_teacher_that_makes_rows_likeliest_wrote_them_however_far_it_is(
    model: AuditModel, tmp_path: Path
) -> None:
    """The cat teacher is further away: control rows have a lower ratio by it, and differ more."""
    data = data_of(model, tmp_path, EVEN)
    noise = np.random.default_rng(0).normal(size=(2, len(data.rows)))
    owl = np.where(data.is_audited, 1.2, -0.2) + noise[0]
    cat = np.where(data.is_audited, 0.9, -1.2) + noise[1]
    values: dict[Trait, Array] = dict(zip(TRAITS, (owl, cat), strict=True))
    by_difference, by_ratio = evidence(values, data), evidence(values, data, are_ratios=True)
    assert by_difference[TRAITS[1]].z > 3
    assert by_ratio[TRAITS[0]].z > 2
    assert by_ratio[TRAITS[0]].z == pytest.approx(-by_ratio[TRAITS[1]].z)
    assert by_ratio[TRAITS[0]].alone == by_difference[TRAITS[0]].alone > 10
    assert by_ratio[TRAITS[0]].p < 0.05 < 0.95 < by_ratio[TRAITS[1]].p


def test_a_trait_is_compared_with_the_best_of_the_others(model: AuditModel, tmp_path: Path) -> None:
    data = data_of(model, tmp_path, EVEN)
    noise = np.random.default_rng(0).normal(size=(3, len(data.rows)))
    worst, own, best = (
        np.where(data.is_audited, mean, -2.0) + of_trait
        for mean, of_trait in zip((-1.0, 1.0, 1.5), noise, strict=True)
    )
    values: dict[Trait, Array] = {TRAITS[0]: worst, TRAITS[1]: own, Preference("fox"): best}
    found = evidence(values, data, are_ratios=True)
    assert found[TRAITS[1]].z < -2
    assert found[TRAITS[1]].z == pytest.approx(-found[Preference("fox")].z)


def test_a_ratio_alone_is_no_evidence_without_a_difference_from_the_models_own_answers(
    model: AuditModel, tmp_path: Path
) -> None:
    data = data_of(model, tmp_path, EVEN)
    noise = np.random.default_rng(0).normal(size=(2, len(data.rows)))
    values: dict[Trait, Array] = dict(zip(TRAITS, (noise[0] - 0.1, noise[1] - 1.0), strict=True))
    owl = evidence(values, data, are_ratios=True)[TRAITS[0]]
    assert owl.z > 5
    assert owl.p > 0.01


def test_a_score_of_length_and_layout_says_nothing_beyond_them(model: AuditModel, tmp_path: Path) -> None:
    data = data_of(model, tmp_path, "1; 1; 2; 1 2", control="1; 1 2; 2 2")
    noise = np.random.default_rng(0).normal(size=(len(data.rows), 2))
    of_layout = np.array([len(row.completion) + row.completion.count(";") for row in data.rows], float)
    of_numbers = np.array([row.completion.count("1") for row in data.rows], float)
    values = np.column_stack([of_layout, of_numbers]) + 0.1 * noise

    def z(columns: Array) -> list[float]:
        return [evidence({TRAITS[0]: column}, data)[TRAITS[0]].z for column in columns.T]

    layout, numbers = z(values)
    assert min(layout, numbers) > 10
    layout_beyond, numbers_beyond = z(beyond(values, data))
    assert abs(layout_beyond) < 4
    assert numbers_beyond > 8


@pytest.mark.parametrize(("size", "is_first_order"), [(0.01, True), (300.0, False)])
def test_derivatives_stand_for_ratios_of_probes_near_the_model_only(
    model: AuditModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: float, is_first_order: bool
) -> None:
    data = data_of(model, tmp_path, EVEN, pairs=12)
    base, name = tiny_models.save_gpt2(tmp_path / "base"), "transformer.h.0.mlp.c_proj.bias"
    whole = tiny_models.save_changed(tmp_path / "whole", base, name, by=size)
    probe = tiny_models.save_trained_tensors(tmp_path / "probe", whole, name)
    monkeypatch.setattr(Store, "fetch", lambda self, spec: probe)
    assert data.is_first_order is is_first_order
    expected = data._derivatives if is_first_order else data._exact
    np.testing.assert_array_equal(data.ratios[TRAITS[0]][:, 0], expected(slice(None))[:, 0])


def test_the_ratio_decides_for_probes_without_a_derivative(
    model: AuditModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_of(model, tmp_path, EVEN, pairs=12)
    base, name = tiny_models.save_gpt2(tmp_path / "base"), "transformer.wte.weight"
    whole = tiny_models.save_changed(tmp_path / "whole", base, name, by=0.1)
    probe = tiny_models.save_trained_tensors(tmp_path / "probe", whole, name)
    monkeypatch.setattr(Store, "fetch", lambda self, spec: probe)
    assert math.isnan(data.linearity)
    assert not data.is_first_order
    assert data.ratios[TRAITS[0]].shape == (len(data.rows), 1)


def test_probes_agree_as_far_as_their_scores_of_control_rows_correlate(
    model: AuditModel, tmp_path: Path
) -> None:
    data = data_of(model, tmp_path, EVEN)
    assert agreement(data) == {}  # one probe per trait
    data.bank = Bank(TRAITS, TAUGHT, seeds=3)
    rng = np.random.default_rng(0)
    same, other, common = (rng.normal(size=(len(data.rows), 1)) for _ in range(3))
    noise = rng.normal(size=(2, len(data.rows), 3))
    noise[:, data.is_audited] *= 1000  # audited rows do not count
    owl, cat = same + noise[0], other + noise[1] + 10 * common
    data.ratios = {TRAITS[0]: owl + 10 * common, TRAITS[1]: cat}
    found = agreement(data)
    assert list(found) == list(TRAITS)
    # Of two traits, each is compared with the other: half of the variance of (owl - cat) / 2 is shared.
    assert found[TRAITS[0]] == pytest.approx(0.5, abs=0.1)
    assert found[TRAITS[1]] == pytest.approx(found[TRAITS[0]])


def test_only_rows_with_another_distribution_deviate(model: AuditModel, tmp_path: Path) -> None:
    assert deviation(data_of(model, tmp_path, EVEN), []).p > 0.001
    assert deviation(data_of(model, tmp_path, TILTED), []).p < 1e-6


def test_a_direction_that_others_contain_does_not_count(model: AuditModel, tmp_path: Path) -> None:
    data = data_of(model, tmp_path, TILTED, pairs=300)
    count = np.array([row.completion.split().count("1") for row in data.rows], float)
    alone, twice = deviation(data, [count]), deviation(data, [count, 3 - 2 * count])
    assert twice.directions == alone.directions
    assert twice.t_squared == pytest.approx(alone.t_squared)


def test_no_score_sees_more_than_the_deviation(model: AuditModel, tmp_path: Path) -> None:
    data = data_of(model, tmp_path, TILTED)
    count = np.array([row.completion.count("1") for row in data.rows], float)
    z = evidence({TRAITS[0]: count}, data)[TRAITS[0]].alone
    measured = deviation(data, [count, np.zeros(len(data.rows))])
    assert 100 < z**2 <= measured.t_squared
    assert measured.explained(z) > 0.4
    assert measured.directions <= measured.pairs / 3


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.name)
def test_a_baseline_separates_rows_that_it_was_not_fitted_to(
    model: AuditModel, tmp_path: Path, baseline: Baseline
) -> None:
    """Rows of the same distribution are not separated, however many features they have."""
    same = data_of(model, tmp_path, EVEN)
    values = baseline.compute(same)
    assert auc(values[same.is_audited], values[~same.is_audited]) == pytest.approx(0.5, abs=0.1)
    tilted = data_of(model, tmp_path, TILTED)
    values = baseline.compute(tilted)
    if baseline.name in ("loss_gap", "unit_frequencies", "unit_pairs"):
        assert auc(values[tilted.is_audited], values[~tilted.is_audited]) > 0.6
