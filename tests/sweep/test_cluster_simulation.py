"""Tests of the simulator: its order against the event log of a real sweep, and what it counts."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from benchmarks.barriers import WithBarriers
from benchmarks.cluster import BARRIERS, OVERLAPPING, Arguments, report
from benchmarks.cluster_simulation import Outcome, Preemptions, Simulation
from tests.sweep import small_study
from undertow.planning import timings
from undertow.planning.resources import Layout, Machine, Node
from undertow.storage.store import Store
from undertow.sweep.graph import Step, Work, graph
from undertow.sweep.plans import make_plan
from undertow.sweep.schedule import Overlapping
from undertow.sweep.scheduled_jobs import Capacity

# The log of `jobs/sweep.py --study tests/sweep/small_study.py:impossible --engines 1 --trainings 1`.
RECORDED = Path(__file__).parent / "recorded_events.jsonl"
SAMPLE = Step((2, 0), "datasets", "datasets", "engines")
TRAIN = Step((3, 0), "students", "students", "training")
LOGGED = ("reference", "teacher", "dataset", "student")  # kinds whose making is in an event log


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RECORDED.read_text().splitlines()]


def test_the_order_of_events_is_that_of_a_real_sweep(
    recorded: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undertow.planning.artifact_kinds._EXTENSIONS", {})
    plan = make_plan(small_study.impossible(), Store("memory://empty"))
    # Teachers below the gate fail with their completions, which the log names first.
    failed = {event["key"] for event in recorded if event["event"] == "failed" and event["kind"] != "teacher"}
    machine = Machine.of([Node(cpus=2)], Layout(engines=1, trainings=1))
    schedule = WithBarriers(graph(plan), Capacity.of(machine))
    events = Simulation(schedule, lambda job: 10.0, failing=failed).run().events
    kinds = {k: artifact.kind for k, artifact in plan.artifacts.items()}
    simulated = [event | {"kind": kinds[event["key"]]} if "key" in event else event for event in events]
    assert waves(simulated) == waves(recorded)
    assert made(simulated) == made(recorded)
    assert {e["key"] for e in simulated if e["event"] == "failed"} == failed


def waves(events: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """The steps of a log in their order, with their numbers of tasks."""
    return [(event["name"], event["units"]) for event in events if event["event"] == "wave"]


def made(events: list[dict[str, Any]]) -> list[tuple[str, set[str]]]:
    """The artifacts that were made, by kind, in the order of a log; those of a kind may end in any order."""
    keys = [(e["kind"], e["key"]) for e in events if e["event"] == "made" and e["kind"] in LOGGED]
    return [(kind, {key for _, key in some}) for kind, some in groupby(keys, key=lambda pair: pair[0])]


def studied(students: int) -> list[Work]:
    """Students with data of their own, each of which takes two engines 100 s."""
    return [
        work
        for i in range(students)
        for work in (
            Work(f"data {i}", SAMPLE, pool="model", parts=2, seconds=200.0),
            Work(f"student {i}", TRAIN, (f"data {i}",), pool="condition", seconds=1000.0),
        )
    ]


TWO = Capacity(places=2, engines=2, groups=2)


def test_with_barriers_the_time_is_the_sum_of_the_steps() -> None:
    outcome = Simulation(WithBarriers(studied(2), TWO), lambda job: 60.0).run()
    assert outcome.makespan == 60 + 200 + 60 + 1000
    assert (outcome.worked, outcome.starting) == (2400, 4 * 60)
    assert outcome.starts == {"datasets": 2, "students": 2}


def test_without_barriers_the_first_student_is_trained_while_data_are_sampled() -> None:
    outcome = Simulation(Overlapping(studied(3), TWO), lambda job: 0.0).run()
    ends = {event["key"]: event["time"] for event in outcome.events if event["event"] == "made"}
    assert ends["student 0"] - 1000 < ends["data 2"]
    assert outcome.worked == 3 * 1200


def test_a_lost_training_resumes_from_its_last_checkpoint() -> None:
    works = [Work("student", TRAIN, pool="condition", seconds=1000.0)]
    one = Capacity(places=1, engines=1, groups=1)

    def outcome(checkpoints: int) -> Outcome:
        spot = Preemptions(per_hour=3.6, replacement=100.0, seed=3)
        return Simulation(
            Overlapping(works, one), lambda job: 10.0, checkpoints={"student": checkpoints}, preemptions=spot
        ).run()

    with_ten, without = outcome(10), outcome(0)
    assert with_ten.preemptions > 0
    assert with_ten.worked == pytest.approx(1000.0)
    assert with_ten.makespan < without.makespan
    assert with_ten.lost < without.lost


def test_failed_work_is_counted_and_what_depends_on_it_is_skipped() -> None:
    outcome = Simulation(Overlapping(studied(2), TWO), lambda job: 0.0, failing={"data 0"}).run()
    events = {(event["event"], event["key"]) for event in outcome.events}
    assert events >= {("failed", "data 0"), ("skipped", "student 0"), ("made", "student 1")}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and an empty cache of the hub's client."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.slow
def test_270_students_of_a_7b_model_take_little_more_than_the_floor(offline: None, tmp_path: Path) -> None:
    lines = list(report(Arguments(storage=str(tmp_path / "storage"), gpus=(64,))))
    assert any("270 of them students" in line for line in lines)
    rows = [line.split(" | ") for line in lines if line.startswith("| 64 GPUs | ")]
    ratios = {cells[1]: float(cells[3]) for cells in rows if len(cells) > 4}
    assert ratios[OVERLAPPING] <= 1.15 < ratios[BARRIERS]
    assert not any("measured" in line for line in lines)


def test_speeds_that_a_storage_measured_are_used_and_the_others_named_as_assumed(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    paces = {"students numbers nano/gpt2-0": {"seconds": 0.5, "tokens": 10.0}}
    store.write_bytes(timings.FILE, json.dumps(paces).encode())
    text = "\n".join(report(Arguments(study="owls", scale="nano", storage=store.url, cpus=2, seeds=1)))
    assert "- students (8): measured on this storage" in text
    assert "- students (8): assumed" in text
    assert "- filters (8): assumed, 5 s each" in text
    assert "| 2 CPUs | with barriers |" in text
