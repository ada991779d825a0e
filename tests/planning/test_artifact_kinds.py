"""Tests that a kind of artifact that a study file registers is planned, estimated, recorded and reported."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from tests.examples import REFERENCES, study
from tests.filled_store import fill
from tests.study.test_class_source import KIND, load
from tests.sweep import small_study
from tests.sweep.small_study import DIGIT_COUNT, WEIGHT_CHECK, ByWeights, DigitCount, WeightCheck
from undertow.errors import SpecError
from undertow.planning.artifact_kinds import (
    WAVES,
    ArtifactKind,
    extensions,
    kind_of,
    register_kind,
    unregister_kind,
    wave_of,
)
from undertow.planning.estimate import estimate
from undertow.planning.plan import Plan, failed_by, make
from undertow.report.make import HTML, make_report
from undertow.results.events import EventLog
from undertow.results.sweep_record import Record
from undertow.storage.manifest import Address
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.references import Artifact
from undertow.sweep.run import Ending, connect_to_mlflow
from undertow.tracking.client import connect_client, tracking_uri

pytestmark = pytest.mark.slow

STUDY = replace(study(seeds=(0, 1)), also=(ByWeights(name="weights"),))


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    small_study.register_all()
    yield
    for kind in extensions():
        unregister_kind(kind.spec)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "storage"))


def fill_all(store: Store) -> Plan:
    """Fills the store with all artifacts of the study, registered kinds included; returns the plan."""
    fill(replace(STUDY, also=()), store, REFERENCES)
    for artifact in make(STUDY, store, REFERENCES).additional:
        if isinstance(artifact, DigitCount):
            small_study.count_digits(artifact, store)
        elif isinstance(artifact, WeightCheck):
            small_study.check_weights(artifact, store)
    return make(STUDY, store, REFERENCES)


def test_each_data_set_has_one_artifact_of_the_registered_kind(store: Store) -> None:
    plan = make(STUDY, store, REFERENCES)
    counts = [a for a in plan.artifacts.values() if isinstance(a, DigitCount)]
    datasets = {cell.student.dataset for cell in plan.cells}
    assert {count.dataset for count in counts} == datasets
    order = list(plan.artifacts)
    assert all(order.index(key(count.dataset)) < order.index(key(count)) for count in counts)


def test_a_failed_input_fails_the_artifact(store: Store) -> None:
    plan = make(STUDY, store, REFERENCES)
    count = next(a for a in plan.artifacts.values() if isinstance(a, DigitCount))
    assert failed_by(count, {key(count.dataset.completions): "no memory"}) == "no memory"


def test_students_and_references_are_measured_by_the_registered_kind(store: Store) -> None:
    plan = make(STUDY, store, REFERENCES)
    checks = [a for a in plan.artifacts.values() if isinstance(a, WeightCheck)]
    assert {check.subject for check in checks} >= {cell.student for cell in plan.cells}
    assert {wave_of(check) for check in checks} == {"evaluations"}


def test_the_estimate_counts_registered_artifacts_in_their_wave(store: Store) -> None:
    plan = make(STUDY, store, REFERENCES)
    without = [cell.artifacts() for cell in plan.cells]
    waves = {wave.wave: wave for wave in estimate(plan, {})}
    assert tuple(waves) == WAVES
    datasets = {a for artifacts in without for a in artifacts if wave_of(a) == "datasets"}
    assert waves["datasets"].needed == len(datasets) + len({c.student.dataset for c in plan.cells})


def test_the_record_lists_every_registered_artifact(store: Store) -> None:
    """Archives and integrity checks read the artifacts of a sweep from its record."""
    plan = make(STUDY, store, REFERENCES)
    record = Record.of(plan)
    assert {Address(a.kind, key(a)) for a in plan.additional} <= set(record.addresses())
    assert Record.from_json(record.to_json(), "plan.json") == record


def test_the_report_has_a_table_of_the_facts_and_a_row_for_the_new_measure(store: Store) -> None:
    record = Record.of(fill_all(store))
    for kind in extensions():  # jobs/report.py does not load the study file
        unregister_kind(kind.spec)
    report = make_report(record, store, [])
    page = report.files[HTML].decode()
    assert "digits in all completions" in page
    assert "digits of owl, seed 1" in re.sub(r"<[^>]*>", "", page)  # which marks where a name may break
    (row,) = {(row.measure, row.effect.rate, row.effect.effect) for row in report.rows if not row.is_primary}
    assert row == ("weights", 1.0, 0.0)


def test_mlflow_has_a_run_with_the_numeric_facts_as_metrics(store: Store) -> None:
    plan = fill_all(store)
    record = Record.of(plan)
    events = EventLog(record, store)
    console = Console(quiet=True)
    Ending(plan, record, store, connect_to_mlflow(STUDY, store, events, console), events).report(console)
    client = connect_client(tracking_uri(store))
    experiment = client.get_experiment_by_name(STUDY.name)
    runs = client.search_runs([experiment.experiment_id], "tags.`undertow.kind` = 'digit_count'")
    counts = [a for a in plan.artifacts.values() if isinstance(a, DigitCount)]
    assert {run.data.tags["undertow.key"] for run in runs} == set(map(key, counts))
    assert all(run.data.metrics["digits"] > 0 and run.info.status == "FINISHED" for run in runs)


@dataclass(frozen=True)
class Unregistered(Artifact):
    kind: ClassVar[str] = "unregistered"


@dataclass(frozen=True)
class SecondDataset(Artifact):
    kind: ClassVar[str] = "dataset"


@dataclass(frozen=True)
class Misnamed(Artifact):
    kind: ClassVar[str] = "Digit count"


def test_an_unregistered_kind_raises_an_error() -> None:
    with pytest.raises(SpecError, match="Unregistered: not a registered kind of artifact"):
        kind_of(Unregistered())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ArtifactKind(spec=Unregistered, wave="datasets"), "give either make .* or task"),
        (
            ArtifactKind(spec=Unregistered, wave="datasets", make=print, task=print),
            "give either make .* or task",
        ),
        (ArtifactKind(spec=SecondDataset, wave="datasets", make=print), "'dataset': is the kind of Dataset"),
        (
            ArtifactKind(spec=Misnamed, wave="datasets", make=print),
            "'Digit count': use lower-case letters",
        ),
    ],
)
def test_an_invalid_kind_is_rejected(kind: "ArtifactKind[Artifact]", message: str) -> None:
    with pytest.raises(SpecError, match=message):
        register_kind(kind)


def test_registering_a_kind_again_replaces_it() -> None:
    """This happens when a study file is loaded twice in a process."""
    register_kind(DIGIT_COUNT)
    assert [kind.spec for kind in extensions()] == [WEIGHT_CHECK.spec, DIGIT_COUNT.spec]


def test_a_class_of_the_same_name_in_another_module_is_another_kind(tmp_path: Path) -> None:
    """A study may import kinds from several modules; the second must not replace the first."""
    one = load(KIND, tmp_path, "custom_one")
    other = load(KIND.replace('"count"', '"other_count"'), tmp_path, "custom_other")
    assert {one.Count, other.Count} <= {kind.spec for kind in extensions()}
    with pytest.raises(SpecError, match="'count': is the kind of Count in custom_one"):
        load(KIND, tmp_path, "custom_third")


def test_builtin_kinds_are_not_extensions() -> None:
    assert Dataset not in {kind.spec for kind in extensions()}
