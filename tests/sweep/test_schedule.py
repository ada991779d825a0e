"""Tests of the schedules: properties on random graphs, and the order of the waves on shipped studies."""

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.barriers import WithBarriers, divided
from tests.examples import STUDIES
from undertow.cli.studies import load
from undertow.planning.plan import Plan
from undertow.planning.resources import Machine
from undertow.results.events import EventLog
from undertow.results.sweep_record import Record
from undertow.stages import grouping
from undertow.storage.leases import Leases
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.references import Artifact
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.sweep.executors import Executors
from undertow.sweep.graph import Step, Work, graph, step_of
from undertow.sweep.plans import make_plan
from undertow.sweep.schedule import Overlapping, Schedule
from undertow.sweep.scheduled_jobs import Capacity, Give, Job, Start, Stop
from undertow.sweep.waves import Waves
from undertow.tracking.link import Link
from undertow.tracking.tracker import Tracker

MERGE = Step((0, 0), "references", "references", "tasks")
TEACH = Step((1, 0), "teachers", "teachers", "training")
SAMPLE = Step((2, 0), "datasets", "datasets", "engines")
FILTER = Step((2, 3), "filters", "datasets", "tasks")
TRAIN = Step((3, 0), "students", "students", "training")
MEASURE = Step((4, 0), "evaluations", "evaluations", "engines")
STEPS = (MERGE, TEACH, SAMPLE, FILTER, TRAIN, MEASURE)

MACHINES = [
    Capacity(places=1, engines=1, groups=1),
    Capacity(places=2, engines=2, groups=2),
    Capacity(places=8, engines=8, groups=8),
    Capacity(places=8, engines=2, groups=1, per_engine=4.0, per_group=8.0),
    Capacity(places=4, engines=12, groups=2, per_engine=1 / 3, per_group=2.0),
]


@st.composite
def graphs(draw: st.DrawFn) -> list[Work]:
    """Work of any step that is made from any earlier work."""
    works: list[Work] = []
    for number in range(draw(st.integers(1, 20))):
        step = draw(st.sampled_from(STEPS))
        inputs = draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []
        works.append(
            Work(
                key=str(number),
                step=step,
                inputs=tuple(map(str, inputs)),
                pool=None if step.by == "tasks" else draw(st.sampled_from("ab")),
                parts=draw(st.integers(1, 4)) if step.by == "engines" else 1,
                seconds=draw(st.sampled_from((0.0, 1.0, 50.0, 500.0))),
            )
        )
    return works


class Caller:
    """Applies the actions of a schedule, and lets a random job go on until nothing runs any more.

    Attributes:
        made: the keys in the order in which their artifacts were made.
        given: how often each part was made.
        order: with barriers, the steps with the keys that were attempted in each.
    """

    def __init__(self, schedule: Schedule, rng: random.Random, failing: Collection[str], losses: int) -> None:
        self.schedule, self.rng, self.failing, self.losses = schedule, rng, failing, losses
        self.made: list[str] = []
        self.given: Counter[tuple[str, int]] = Counter()
        self.order: list[tuple[str, set[str]]] = []

    def run(self) -> None:
        self._apply()
        while busy := [job for job in self.schedule.running if not job.is_idle]:
            self._go_on(self.rng.choice(busy))
            self._apply()

    def _apply(self) -> None:
        while actions := self.schedule.next():
            for action in actions:
                match action:
                    case Start(job):
                        for key in job.keys:
                            self._attempt(key)
                    case Give(engine, key, part):
                        assert engine.part == (key, part)
                        self._attempt(key)
                    case Stop(engine):
                        self.schedule.ended(engine)
            used = sum(job.places for job in self.schedule.running)
            assert used <= self.schedule.capacity.places + 1e-6

    def _attempt(self, key: str) -> None:
        work = self.schedule.work.works[key]
        assert set(work.inputs) <= self.schedule.work.made
        if not self.order or self.order[-1][0] != work.step.name:
            self.order.append((work.step.name, set()))
        self.order[-1][1].add(key)

    def _go_on(self, job: Job) -> None:
        """Reports the next thing that happens to a job."""
        if self.losses and self.rng.random() < 0.2:
            self.losses -= 1
            self.schedule.ended(job)
        elif not job.is_up and job.places:
            self.schedule.up(job)
        elif job.part is not None:
            key = job.part[0]
            if key in self.failing:
                self.schedule.fail(key)
            else:
                self.given[job.part] += 1
            self.schedule.part_done(job)
            self._note(key)
        else:
            left = [key for key in job.keys if not self.schedule.work.is_settled(key)]
            if left:
                (self.schedule.fail if left[0] in self.failing else self.schedule.make)(left[0])
                self._note(left[0])
            if len(left) <= 1:
                self.schedule.ended(job)

    def _note(self, key: str) -> None:
        if key in self.schedule.work.made and key not in self.made:
            self.made.append(key)


@settings(max_examples=200)
@given(
    works=graphs(),
    capacity=st.sampled_from(MACHINES),
    kind=st.sampled_from((WithBarriers, Overlapping)),
    seed=st.integers(0, 1000),
    losses=st.integers(0, 3),
    data=st.data(),
)
def test_every_artifact_is_made_once_after_its_inputs_or_skipped_for_a_failed_one(
    works: list[Work], capacity: Capacity, kind: type[Schedule], seed: int, losses: int, data: st.DataObject
) -> None:
    failing = data.draw(st.sets(st.sampled_from([work.key for work in works]), max_size=2))
    schedule = kind(works, capacity)
    caller = Caller(schedule, random.Random(seed), failing, losses)
    caller.run()
    assert schedule.is_over
    assert not schedule.running
    by_key = {work.key: work for work in works}
    hit = set[str]()  # what fails, and everything that depends on it
    for work in works:
        if work.key in failing or hit.intersection(work.inputs):
            hit.add(work.key)
    assert set(caller.made) == by_key.keys() - hit == schedule.work.made
    assert schedule.work.failed | schedule.work.skipped == hit
    assert schedule.work.failed <= failing
    for number, name in enumerate(caller.made):
        assert set(by_key[name].inputs) <= set(caller.made[:number])
    parts = {(w.key, part) for w in works if w.step.by == "engines" for part in range(w.parts)}
    assert {part for part in parts if part[0] not in hit} <= caller.given.keys() <= parts
    assert set(caller.given.values()) <= {1}
    left = (schedule.work.waiting_seconds, schedule.work.training_seconds, schedule.work.sampling_seconds)
    assert left == pytest.approx((0.0, 0.0, 0.0), abs=1e-6)


@given(works=graphs(), capacity=st.sampled_from(MACHINES))
@settings(max_examples=50)
def test_with_barriers_one_step_runs_at_a_time(works: list[Work], capacity: Capacity) -> None:
    schedule = WithBarriers(works, capacity)

    class Watching(Caller):
        def _go_on(self, job: Job) -> None:
            assert {running.step for running in schedule.running} == {schedule.step}
            super()._go_on(job)

    Watching(schedule, random.Random(0), (), losses=0).run()


def two_students(seconds: float = 500.0) -> list[Work]:
    """Two data sets of one reference model, a student of each, and their evaluations."""
    return [
        work
        for name in "ab"
        for work in (
            Work(f"data {name}", SAMPLE, pool="model", parts=4, seconds=800.0),
            Work(f"student {name}", TRAIN, (f"data {name}",), pool="condition", seconds=seconds),
            Work(f"evaluation {name}", MEASURE, (f"student {name}",), pool="model", seconds=5.0),
        )
    ]


def started(schedule: Schedule) -> list[str]:
    """Applies all actions; returns what was started: "engine", or the keys of a group or task."""
    names = []
    while actions := schedule.next():
        for action in actions:
            if isinstance(action, Start):
                names.append("engine" if action.job.is_engine else ", ".join(action.job.keys))
            elif isinstance(action, Stop):
                schedule.ended(action.engine)
    return names


def finish_parts(schedule: Schedule, key: str) -> None:
    """Starts all engines, and lets those that work on an artifact finish."""
    for job in list(schedule.running):
        if job.is_engine:
            schedule.up(job)
    while not schedule.work.is_settled(key):
        schedule.next()
        for job in list(schedule.running):
            if job.part and job.part[0] == key:
                schedule.part_done(job)


def test_a_student_starts_when_its_data_set_is_complete() -> None:
    schedule = Overlapping(two_students(), Capacity(places=2, engines=1, groups=1))
    assert started(schedule) == ["engine"]
    finish_parts(schedule, "data a")
    assert started(schedule) == ["student a"]
    assert schedule.work.made == {"data a"}


def test_with_barriers_students_wait_for_all_data_sets() -> None:
    schedule = WithBarriers(two_students(), Capacity(places=2, engines=1, groups=1))
    assert started(schedule) == ["engine"]
    finish_parts(schedule, "data a")
    assert started(schedule) == []
    finish_parts(schedule, "data b")
    assert started(schedule) == ["student a, student b"]


def test_an_engine_stays_up_for_work_that_comes_unless_its_place_is_needed() -> None:
    wide, narrow = Capacity(places=2, engines=1, groups=1), Capacity(places=1, engines=1, groups=1)
    for capacity, stays in ((wide, True), (narrow, False)):
        schedule = Overlapping(two_students()[:3], capacity)
        started(schedule)
        (engine,) = schedule.running
        finish_parts(schedule, "data a")
        assert started(schedule) == ["student a"]
        assert (engine in schedule.running) is stays


def test_an_engine_does_not_wait_on_the_place_of_a_training_that_has_lost_its_node() -> None:
    schedule = Overlapping(two_students()[:3], Capacity(places=2, engines=1, groups=1))
    started(schedule)
    (engine,) = schedule.running
    finish_parts(schedule, "data a")
    assert started(schedule) == ["student a"]
    assert schedule.next() == []
    schedule.places_up = 1.0
    assert schedule.next() == [Stop(engine)]
    assert schedule.next() == []


def test_an_evaluation_runs_on_the_engine_that_is_up() -> None:
    schedule = Overlapping(two_students()[:3], Capacity(places=2, engines=2, groups=1))
    started(schedule)
    finish_parts(schedule, "data a")
    started(schedule)
    schedule.make("student a")
    schedule.ended(next(job for job in schedule.running if not job.is_engine))
    assert started(schedule) == []
    assert [job.part for job in schedule.running if job.part] == [("evaluation a", 0)]


def test_work_that_a_longer_chain_depends_on_comes_first() -> None:
    works = [
        Work("data of no student", SAMPLE, pool="model", seconds=100.0),
        Work("data", SAMPLE, pool="model", seconds=100.0),
        Work("student", TRAIN, ("data",), pool="condition", seconds=500.0),
    ]
    schedule = Overlapping(works, Capacity(places=1, engines=1, groups=1))
    assert started(schedule) == ["engine"]
    (engine,) = schedule.running
    schedule.up(engine)
    schedule.next()
    assert engine.part == ("data", 0)


def short_students(count: int) -> list[Work]:
    """Data sets of one reference model, and a student of each that is trained for 20 seconds."""
    return [
        work
        for name in map(str, range(count))
        for work in (
            Work(f"data {name}", SAMPLE, pool="model", seconds=100.0),
            Work(f"student {name}", TRAIN, (f"data {name}",), pool="condition", seconds=20.0),
        )
    ]


def test_short_trainings_wait_until_they_take_half_as_long_as_a_start() -> None:
    two = Capacity(places=2, engines=1, groups=1)
    schedule = Overlapping(short_students(5), two, start_seconds=120.0)
    assert started(schedule) == ["engine"]
    for name in "01":
        finish_parts(schedule, f"data {name}")
        assert started(schedule) == []
    finish_parts(schedule, "data 2")
    assert started(schedule) == ["student 0, student 1, student 2"]


def test_the_last_trainings_do_not_wait() -> None:
    schedule = Overlapping(short_students(2), Capacity(places=2, engines=1, groups=1), start_seconds=120.0)
    started(schedule)
    finish_parts(schedule, "data 0")
    assert started(schedule) == []
    finish_parts(schedule, "data 1")
    assert started(schedule) == ["student 0, student 1"]


def test_no_training_waits_for_data_that_cannot_come() -> None:
    schedule = Overlapping(short_students(2), Capacity(places=2, engines=1, groups=1), start_seconds=120.0)
    started(schedule)
    finish_parts(schedule, "data 0")
    schedule.fail("data 1")
    assert started(schedule) == ["student 0"]


@pytest.mark.parametrize(
    ("start", "groups"),
    [(0.0, ["0, 1, 2, 3", "4, 5"]), (120.0, ["0, 1, 2, 3", "4, 5, 6"]), (400.0, ["0, 1, 2, 3, 4, 5, 6, 7"])],
)
def test_no_worker_group_is_smaller_than_is_worth_its_start(start: float, groups: list[str]) -> None:
    students = [Work(str(number), TRAIN, pool="condition", seconds=20.0) for number in range(8)]
    schedule = Overlapping(students, Capacity(places=2, engines=2, groups=2), start)
    assert started(schedule) == groups


@pytest.mark.parametrize(
    ("models", "seconds", "share"),
    [
        (0, 0.0, 0),  # no training depends on the data
        (8, 200.0, 8),  # all trainings run in the last round, when engines are not needed any more
        (16, 100.0, 4),  # one of two rounds runs at the same time as the engines
        (16, 4000.0, 1),
    ],
)
def test_the_share_of_engines_leaves_the_last_round_to_trainings(
    models: int, seconds: float, share: int
) -> None:
    data = Work("data", SAMPLE, pool="model", parts=100, seconds=800.0)
    students = [Work(f"{i}", TRAIN, ("data",), pool="condition", seconds=seconds) for i in range(models)]
    schedule = Overlapping([data, *students], Capacity(places=8, engines=8, groups=8), start_seconds=0.0)
    assert schedule.share_of_engines() == share


class Recorder(Executors):
    """Records what it is asked to make, and commits it without making it, but for what fails."""

    steps: list[tuple[str, set[str]]]
    failing: Callable[[Artifact], bool]

    def _take(self, step: str, artifacts: Sequence[Artifact]) -> None:
        possible = [a for a in artifacts if not self.store.has(a)]
        if not possible:
            return
        if not self.steps or self.steps[-1][0] != step:
            self.steps.append((step, set()))
        self.steps[-1][1].update(map(key, possible))
        for artifact in possible:
            if self.failing(artifact):
                self.events.fail(artifact, "a reason")
                continue
            with self.store.new(artifact, {}) as folder:
                (folder / "file").write_text("")

    def make(self, artifacts: Sequence[Any], machine: Machine) -> None:
        self._take(step_of(artifacts[0]).name, artifacts)


def in_waves(plan: Plan, store: Store, failing: Callable[[Artifact], bool]) -> list[tuple[str, set[str]]]:
    """The steps that `Waves` runs, with the keys of the artifacts that each attempts."""
    link, events = Link(lambda: Tracker(plan.study, store), print, print), EventLog(Record.of(plan), store)
    recorder = Recorder(plan, store, link, events, Console(quiet=True))
    object.__setattr__(recorder, "steps", [])
    object.__setattr__(recorder, "failing", failing)
    Waves(recorder, Leases(store)).make(Machine(actors=1, slots=1, workers=1))
    return recorder.steps


def in_schedule(plan: Plan, failing: Mapping[str, bool]) -> list[tuple[str, set[str]]]:
    """The same of the schedule with barriers."""
    schedule = WithBarriers(graph(plan), Capacity(places=1, engines=1, groups=1))
    caller = Caller(schedule, random.Random(0), {name for name, fails in failing.items() if fails}, losses=0)
    caller.run()
    return caller.order


@dataclass(frozen=True)
class First:
    """Whether an artifact is the first of its kind in the plan, for some kinds."""

    kinds: tuple[type[Artifact], ...]
    plan: Plan

    def __call__(self, artifact: Artifact) -> bool:
        if not isinstance(artifact, self.kinds):
            return False
        return artifact == next(a for a in self.plan.artifacts.values() if type(a) is type(artifact))


NAMES = (
    *("chain", "further", "dilution", "in_context", "misaligned_numbers"),
    *("on_policy", "preference_labels", "rewriting", "selection", "steered"),
)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [(), (Teacher, Dataset), (Student,)], ids=["none", "data", "students"])
@pytest.mark.parametrize("name", NAMES)
def test_with_barriers_the_order_is_that_of_the_waves(
    name: str, kinds: tuple[type[Artifact], ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undertow.sweep.waves.passes_gate", lambda *_: None)  # the files have no rates
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    plan = make_plan(replace(load(name, STUDIES), seeds=(0, 1)), store)
    failing = First(kinds, plan)
    expected = in_waves(plan, store, failing)
    found = in_schedule(plan, {k: failing(artifact) for k, artifact in plan.artifacts.items()})
    assert found == expected
    attempted = set[str]().union(*(keys for _, keys in found))
    assert attempted == plan.missing or kinds


def test_worker_groups_are_divided_as_by_the_executor(tmp_path: Path) -> None:
    plan = make_plan(load("owls_lora", STUDIES), Store(str(tmp_path / "storage")))
    students = [a for a in plan.artifacts.values() if isinstance(a, Student)]
    pools = {work.key: work.pool for work in graph(plan)}
    members: dict[Any, list[str]] = {}
    for student in students:
        members.setdefault(pools[key(student)], []).append(key(student))
    for slots in (1, 2, 3, 8, 64):
        groups = grouping.groups(students, slots)
        assert divided(members, slots, math.inf) == [tuple(map(key, group.models)) for group in groups]
