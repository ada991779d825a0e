"""Tests of paces: measured per wave, stored with the artifacts, and used by the next plan."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.examples import REFERENCES, study
from undertow.planning import timings
from undertow.planning.artifact_kinds import Wave, units, wave_of
from undertow.planning.plan import Plan, make
from undertow.planning.timings import (
    NANO,
    PRETRAINING_SECONDS,
    Pace,
    Timing,
    add,
    estimate,
    expected_units,
    pace_name,
    read,
    starts,
)
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.measurements import Evaluation
from undertow.study.references import Artifact, Reference
from undertow.study.students import Student
from undertow.study.teachers import Teacher

REAL = tuple(Reference(f"org/model-{i}", "commit", "template") for i in (0, 1))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    return store


def planned(store: Store, references: tuple[Reference, ...] = REFERENCES) -> Plan:
    renamed = dict(zip(REFERENCES, references, strict=True))
    conditions = [
        replace(c, teacher=renamed[c.teacher], student=renamed[c.student]) for c in study().conditions
    ]
    return make(study(conditions=tuple(conditions)), store, references)


def of_wave(plan: Plan, wave: str) -> list[Artifact]:
    return [artifact for artifact in plan.artifacts.values() if wave_of(artifact) == wave]


def test_a_teacher_that_stops_by_its_probe_is_expected_to_stop_early(store: Store) -> None:
    plan = planned(store)
    teacher, student = (of_wave(plan, wave)[0] for wave in ("teachers", "students"))
    assert expected_units(teacher) < units(teacher) / 2
    assert expected_units(student) == units(student)


def timed(artifacts: Sequence[Artifact], seconds: float, tokens: float = 0.0) -> list[Timing]:
    """The timings of artifacts made one after the other in `seconds`, with `tokens` tokens per unit."""
    sizes = {artifact: units(artifact) for artifact in artifacts if units(artifact)}
    each = seconds / len(sizes)
    return [
        Timing(artifact, each * i, each, size, tokens * size)
        for i, (artifact, size) in enumerate(sizes.items(), 1)
    ]


@pytest.mark.parametrize("wave", ["teachers", "datasets", "students", "evaluations"])
@pytest.mark.parametrize("references", [REFERENCES, REAL], ids=["nano", "real"])
def test_the_estimate_of_a_measured_wave_is_its_duration(
    store: Store, wave: Wave, references: tuple[Reference, ...]
) -> None:
    artifacts = of_wave(planned(store, references), wave)
    add(store, wave, timed(artifacts, 5000.0))
    assert estimate(wave, artifacts, read(store)) == pytest.approx(5000.0, rel=0.01)


def test_only_nano_models_have_an_estimate_before_the_first_sweep(store: Store) -> None:
    plan = planned(store, REAL)
    assert estimate("students", of_wave(plan, "students"), read(store)) is None
    assert estimate("students", [], read(store)) == 0.0
    assert estimate("students", of_wave(planned(store), "students"), read(store)) is not None


def test_the_estimate_of_a_few_nano_artifacts_includes_the_starts(store: Store) -> None:
    students = of_wave(planned(store), "students")
    add(store, "students", timed(students, 3600.0))
    one = estimate("students", students[:1], read(store))
    assert one is not None
    assert one > 100.0 / 2  # 36 students took an hour; the start that they shared is subtracted
    assert one >= NANO["students"].start + NANO["students"].artifact


def test_a_short_wave_whose_start_was_slow_changes_no_estimate(store: Store) -> None:
    evaluations = [a for a in of_wave(planned(store), "evaluations") if isinstance(a, Evaluation)]
    before = estimate("evaluations", evaluations, read(store))
    add(store, "evaluations", timed(evaluations[:1], 4 * NANO["evaluations"].start))
    assert estimate("evaluations", evaluations, read(store)) == before


def test_a_few_answers_after_a_slow_start_change_no_estimate(store: Store) -> None:
    evaluations = [a for a in of_wave(planned(store), "evaluations") if isinstance(a, Evaluation)]
    before = estimate("evaluations", evaluations, read(store))
    few = replace(evaluations[0], questions=evaluations[0].questions[:1], samples=1)
    add(store, "evaluations", timed([few], 20 * NANO["evaluations"].start))
    assert estimate("evaluations", evaluations, read(store)) == before


def test_engines_start_once_per_reference_and_workers_once_per_condition(store: Store) -> None:
    plan, real = planned(store), planned(store, REAL)
    assert starts(of_wave(plan, "evaluations")) == starts(of_wave(real, "evaluations")) == 2
    assert starts(of_wave(plan, "students")) == 2  # nano students of one reference and recipe share a start
    assert starts(of_wave(real, "students")) == len(real.study.conditions)
    assert starts(of_wave(real, "teachers")) == 2
    assert starts(of_wave(real, "references")) == 0


def test_the_name_of_a_pace_has_wave_format_and_model(store: Store) -> None:
    names = {
        type(artifact): pace_name(wave_of(artifact), artifact)
        for artifact in planned(store).artifacts.values()
    }
    assert names[Completions] == "datasets numbers nano/gpt2-1"
    assert names[Student] == "students numbers nano/gpt2-1"
    assert names[Teacher] == "teachers nano/gpt2-1"
    assert names[Evaluation] == "evaluations nano/gpt2-1"


def test_tokens_per_unit_are_stored(store: Store) -> None:
    completions = [a for a in of_wave(planned(store), "datasets") if isinstance(a, Completions)]
    add(store, "datasets", timed(completions, 600.0, tokens=20.0))
    assert {pace.tokens for pace in read(store).values()} == {20.0}


def test_an_empty_or_failed_wave_changes_no_pace(store: Store) -> None:
    students = of_wave(planned(store), "students")
    add(store, "students", [])
    add(store, "students", [one._replace(units=0.0) for one in timed(students, 60.0)])
    assert read(store) == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"students x": 1}', '{"students x": {"speed": 1}}'])
def test_an_unreadable_file_of_paces_is_replaced(store: Store, text: str) -> None:
    store.write_bytes(timings.FILE, text.encode())
    assert read(store) == {}
    add(store, "students", timed(of_wave(planned(store), "students"), 3600.0))
    assert all(isinstance(pace, Pace) for pace in read(store).values())
    assert read(store)


def test_a_nano_model_without_bundled_weights_is_planned_with_its_training() -> None:
    bundled, trained = (Reference(f"nano/gpt2-{seed}", "revision", "nano") for seed in (0, 99))
    both, one = (estimate("references", some, {}) for some in ([bundled, trained], [bundled]))
    assert both is not None and one is not None
    assert both - one > PRETRAINING_SECONDS
    assert one < 5
