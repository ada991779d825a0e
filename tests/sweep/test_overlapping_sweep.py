"""Tests of an overlapping sweep, with fakes of engines, worker groups and tasks that commit at once."""

import io
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.exceptions import ActorDiedError, NodeDiedError
from rich.console import Console

from tests.examples import RECIPE, REFERENCES, STUDIES, study
from tests.sweep import judged_study, provider_study
from tests.sweep.test_schedule import NAMES
from undertow.cli.studies import load
from undertow.cluster.engine_pool import EngineStartError, TaskOutcome
from undertow.cluster.tasks import TaskWorkers
from undertow.cluster.worker_failures import LOST_NODES
from undertow.errors import ConditionError
from undertow.formats.numbers import Numbers
from undertow.planning.costs import Hardware
from undertow.planning.plan import Plan, make
from undertow.planning.resources import Layout, Machine, Node
from undertow.results.events import EventLog
from undertow.results.sweep_record import Record
from undertow.stages import judgements
from undertow.stages.completions import GenerateShard
from undertow.stages.ready_groups import ReadyGroups
from undertow.stages.rewriting import Rewrite
from undertow.stages.training_listener import TrainingListener
from undertow.storage.leases import Leases
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.identity import key
from undertow.study.measurements import Evaluation
from undertow.study.references import Artifact, Reference
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.study.teachers import Teacher
from undertow.sweep.executors import Executors
from undertow.sweep.outcomes import FAILED_ENGINES
from undertow.sweep.overlapping_sweep import OverlappingSweep, reason_for_waves
from undertow.sweep.plans import make_plan
from undertow.tracking.link import Link
from undertow.traits.preference import Preference

TWO_GPUS = Machine(actors=1, slots=1, workers=1, gpus_per_engine=1, gpus_per_worker=1, gpus=2)
PROBLEM = Callable[[Any], object]


class Fakes:
    """The artifacts in the order of making, and functions that may raise or wait before one is made."""

    def __init__(self) -> None:
        self.made: list[Artifact] = []
        self.engines = 0
        self.before_start: PROBLEM = lambda reference: None
        self.before_task: PROBLEM = lambda task: None
        self.before_model: PROBLEM = lambda model: None
        self.after_stop: Callable[[], object] = lambda: None

    def commit(self, artifact: Artifact, store: Store) -> None:
        assert all(
            store.has(other) for other in artifact.with_ancestors() if other.is_stored and other != artifact
        )
        self.made.append(artifact)
        with store.new(artifact, {}) as folder:
            (folder / "file").write_text("")


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    fakes = Fakes()

    class Worker:
        def __init__(self, reference: Any, store: Store, settings: Any, machine: Machine) -> None:
            self.reference, self.store = reference, store
            fakes.engines += 1

        def start(self) -> None:
            fakes.before_start(self.reference)

        def run(self, task: Any) -> TaskOutcome:
            try:
                fakes.before_task(task)
            except ConditionError as error:
                return TaskOutcome(0, 1.0, {}, str(error))
            if not isinstance(task, GenerateShard):
                fakes.commit(task.artifact, self.store)
                return TaskOutcome(0, 1.0, {"answers": 10, "tokens": 20})
            fakes.made.append(task)  # type: ignore[arg-type]
            file = io.BytesIO()
            pq.write_table(pa.table({"index": list(range(task.start, task.stop))}), file)
            self.store.write_part(task.completions, task.name, file.getvalue())
            return TaskOutcome(0, 1.0, {"rows": task.stop - task.start, "tokens": 100})

        def stop(self) -> None:
            fakes.after_stop()

    def train_as_ready(
        ready: ReadyGroups, models: Any, store: Store, *_: Any, listener: TrainingListener, **on: Any
    ) -> None:
        while (trial := ready.suggest("trial")) != "FINISHED":
            for model in (models[name] for name in trial["keys"]):
                try:
                    fakes.before_model(model)
                    fakes.commit(model, store)
                    listener.on_made(key(model))
                except ConditionError as error:
                    listener.on_failed(key(model), str(error))
            ready.on_trial_complete("trial")
            on["on_end"](trial["group"], "")

    def run_each(
        workers: TaskWorkers, make: Any, store: Store, artifacts: Sequence[Any], **_: Any
    ) -> Iterator[tuple[Any, None]]:
        for artifact in artifacts:
            fakes.commit(artifact, store)
            yield artifact, None

    monkeypatch.setattr("undertow.cluster.engine_worker.EngineWorker", Worker)
    monkeypatch.setattr("undertow.sweep.session.places_up", lambda machine: math.inf)
    monkeypatch.setattr("undertow.cluster.tasks.TaskWorkers.run_each", run_each)
    monkeypatch.setattr("undertow.sweep.outcomes.passes_gate", lambda *_: None)
    monkeypatch.setattr("undertow.stages.ready_groups.train_as_ready", train_as_ready)
    monkeypatch.setattr("undertow.stages.rewriting.task_of", lambda artifact, _: Rewrite(artifact, 100))
    return fakes


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    return store


@pytest.fixture
def sweep(store: Store) -> OverlappingSweep:
    here = [c for c in study().conditions if c.teacher == c.student == REFERENCES[0]]
    return sweep_of(make(replace(study(), conditions=tuple(here)), store, REFERENCES), store)


def sweep_of(plan: Plan, store: Store) -> OverlappingSweep:
    link: Any = Link(lambda: pytest.fail("MLflow is not needed"), print, print)
    executors = Executors(plan, store, link, EventLog(Record.of(plan), store), Console(quiet=True))
    return OverlappingSweep(executors, Leases(store), Hardware())


def missing(sweep: OverlappingSweep) -> set[str]:
    plan, store = sweep.executors.plan, sweep.executors.store
    return {name for name in plan.missing if not store.has(plan.artifacts[name])}


def test_everything_is_made_once(sweep: OverlappingSweep, fakes: Fakes) -> None:
    sweep.make(TWO_GPUS)
    assert missing(sweep) == set()
    assert max(Counter(fakes.made).values()) == 1
    assert sweep.executors.events.failures == {}
    names = [event["name"] for event in sweep.executors.events.events if event["event"] == "wave"]
    assert names == ["references", "teachers", "datasets", "students", "evaluations"]
    assert fakes.engines == 1  # it makes data sets, waits for the students, and evaluates them


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_a_shipped_study_is_made_once_and_after_its_inputs(
    name: str, store: Store, fakes: Fakes
) -> None:
    plan = make_plan(replace(load(name, STUDIES), seeds=(0, 1)), store)
    sweep = sweep_of(plan, store)
    assert reason_for_waves(plan, TWO_GPUS) == ""
    sweep.make(TWO_GPUS)
    assert sweep.executors.events.failures == {}
    assert missing(sweep) == set()
    assert max(Counter(fakes.made).values()) == 1


def test_a_student_is_trained_while_data_are_sampled(
    sweep: OverlappingSweep, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OverlappingSweep, "_start_seconds", lambda *_: 0.0)  # every student is worth a start
    trained = threading.Event()
    last = [a for a in sweep.executors.plan.artifacts.values() if isinstance(a, Completions)][-1]

    def before_task(task: Any) -> None:
        assert task.artifact != last or trained.wait(30)

    def before_model(model: Teacher | Student) -> None:
        if isinstance(model, Student):
            trained.set()

    fakes.before_task, fakes.before_model = before_task, before_model
    sweep.make(TWO_GPUS)
    assert missing(sweep) == set()


def test_finished_shards_are_read_once_to_join_them(
    sweep: OverlappingSweep, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[str] = Counter()
    digest = Store._digest

    def counted(store: Store, path: str) -> str:
        if "/partial/completions/" in path:
            read[path] += 1
        return digest(store, path)

    monkeypatch.setattr(Store, "_digest", counted)
    sweep.make(TWO_GPUS)
    completions = [a for a in fakes.made if isinstance(a, GenerateShard)]
    assert len(completions) == len(read) > 2
    assert set(read.values()) == {1}


def test_a_failure_skips_what_depends_on_it(sweep: OverlappingSweep, fakes: Fakes) -> None:
    failing = next(a for a in sweep.executors.plan.artifacts.values() if isinstance(a, Completions))

    def before_task(task: Any) -> None:
        if task.artifact == failing:
            raise ConditionError("too few rows")

    fakes.before_task = before_task
    sweep.make(TWO_GPUS)
    assert sweep.executors.events.failures == {key(failing): "too few rows"}
    plan = sweep.executors.plan
    hit = {name for name in plan.missing if failing in list(plan.artifacts[name].with_ancestors())}
    assert missing(sweep) == hit
    assert any(isinstance(plan.artifacts[name], Student) for name in hit)


def test_a_training_that_fails_does_not_stop_the_others(sweep: OverlappingSweep, fakes: Fakes) -> None:
    failing = next(a for a in sweep.executors.plan.artifacts.values() if isinstance(a, Student))

    def before_model(model: Teacher | Student) -> None:
        if model == failing:
            raise ConditionError("its loss is not finite")

    fakes.before_model = before_model
    sweep.make(TWO_GPUS)
    assert sweep.executors.events.failures == {key(failing): "its loss is not finite"}
    kinds = {type(sweep.executors.plan.artifacts[name]).__name__ for name in missing(sweep)}
    assert kinds == {"Student", "Evaluation"}


def test_an_engine_that_cannot_start_fails_its_work(sweep: OverlappingSweep, fakes: Fakes) -> None:
    def before_start(reference: Any) -> None:
        raise EngineStartError("ValueError: Unknown RoPE scaling type nonsense", "Traceback …")

    fakes.before_start = before_start
    sweep.make(TWO_GPUS)
    reasons = set(sweep.executors.events.failures.values())
    assert reasons == {
        "the engine of nano/gpt2-0 failed to start: ValueError: Unknown RoPE scaling type nonsense"
    }
    assert not any(isinstance(artifact, Dataset | Student) for artifact in fakes.made)


def test_an_engine_that_loses_its_node_is_started_again(sweep: OverlappingSweep, fakes: Fakes) -> None:
    left = [0, 1]

    def before_task(task: Any) -> None:
        if left:
            left.pop()
            raise NodeDiedError("The actor died because its node has died.")

    fakes.before_task = before_task
    sweep.make(TWO_GPUS)
    assert missing(sweep) == set()
    assert fakes.engines == 3


def test_an_engine_ends_if_a_training_waits_for_its_place_on_the_only_node_that_is_left(
    sweep: OverlappingSweep, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undertow.sweep.session.SECONDS_BETWEEN_LOOKS", 0.05)
    ended = threading.Event()

    def before_model(model: Teacher | Student) -> None:
        if isinstance(model, Student):
            monkeypatch.setattr("undertow.sweep.session.places_up", lambda machine: 1.0)
            assert ended.wait(30)

    fakes.before_model, fakes.after_stop = before_model, ended.set
    sweep.make(TWO_GPUS)
    assert missing(sweep) == set()
    assert fakes.engines > 1


def test_an_unexpected_error_ends_the_sweep(sweep: OverlappingSweep, fakes: Fakes) -> None:
    def before_model(model: Teacher | Student) -> None:
        raise ZeroDivisionError

    fakes.before_model = before_model
    with pytest.raises(ZeroDivisionError):
        sweep.make(TWO_GPUS)


def test_an_interrupt_ends_the_threads_and_a_rerun_makes_the_rest(
    sweep: OverlappingSweep, fakes: Fakes
) -> None:
    def before_model(model: Teacher | Student) -> None:
        if isinstance(model, Student) and model.seed == 1:
            raise KeyboardInterrupt  # in the main thread, as Ctrl-C

    before = set(threading.enumerate())
    fakes.before_model = before_model
    with pytest.raises(KeyboardInterrupt):
        sweep.make(TWO_GPUS)
    assert set(threading.enumerate()) <= before
    assert any(isinstance(artifact, Dataset) for artifact in fakes.made)
    assert sweep.executors.events.failures == {}
    fakes.before_model = lambda model: None
    sweep.make(TWO_GPUS)
    assert missing(sweep) == set()
    assert max(Counter(fakes.made).values()) == 1


def test_what_another_sweep_makes_is_waited_for(
    sweep: OverlappingSweep, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sweep.executors.store
    monkeypatch.setattr("undertow.storage.leases.POLL_SECONDS", 0.05)
    taken = next(a for a in sweep.executors.plan.artifacts.values() if isinstance(a, Completions))
    with Leases(store) as other:
        assert other.take(taken)
        before = missing(sweep)

        def end() -> None:
            while len(missing(sweep)) > len(before) / 2:
                time.sleep(0.05)
            fakes.commit(taken, store)
            other.release(taken)

        thread = threading.Thread(target=end)
        thread.start()
        sweep.make(TWO_GPUS)
        thread.join()
    assert missing(sweep) == set()
    assert fakes.made.count(taken) == 1


LARGE = Reference("org/model", "commit", "template")
CPUS = Machine.of([Node(cpus=8)], Layout())
PARTS = "engines take parts of GPUs or nodes, and worker groups need whole ones"


@pytest.mark.parametrize(
    ("models", "machine", "reason"),
    [
        (REFERENCES, TWO_GPUS, ""),
        (REFERENCES, CPUS, ""),
        ((LARGE,), CPUS, ""),
        ((*REFERENCES, LARGE), TWO_GPUS, ""),
        ((*REFERENCES, LARGE), CPUS, "nano and larger models share CPUs"),
        ((LARGE,), Machine.of([Node(cpus=8, gpus=2)], Layout(gpus_per_engine=0.5)), PARTS),
        ((LARGE,), Machine.of([Node(cpus=8, gpus=2)], Layout(gpus_per_engine=2)), ""),
        ((LARGE,), Machine.of([Node(cpus=8), Node(cpus=8)], Layout(engines=4)), PARTS),
        (REFERENCES, Machine.of([Node(cpus=8), Node(cpus=8)], Layout(engines=4)), ""),
    ],
)
def test_some_divisions_of_a_machine_need_waves(
    models: tuple[Reference, ...], machine: Machine, reason: str, store: Store
) -> None:
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(model, model) for model in models],
        recipes=[RECIPE],
        generation=Generation(prompts=100, rows=None),
    )
    plan = make(replace(study(), conditions=conditions), store, REFERENCES)
    assert reason_for_waves(plan, machine) == reason


@pytest.mark.parametrize("calling", [provider_study.study, provider_study.mixed])
def test_sweeps_that_call_a_provider_run_in_waves(calling: Callable[[], Study], store: Store) -> None:
    plan = make_plan(calling(), store)
    assert reason_for_waves(plan, TWO_GPUS) == "models of a provider are called"


def test_judges_are_asked_before_a_data_set_and_one_without_replies_fails_alone(
    store: Store, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(judged_study.study(), store)
    judged = [a for a in plan.artifacts.values() if isinstance(a, Dataset) and judgements.models_of(a)]

    def judge_all(some: Sequence[Any], *_: Any, **__: Any) -> Iterator[judgements.Judged]:
        assert not any(dataset in fakes.made for dataset in some)
        for dataset in some:
            failure = "no reply" if dataset == judged[0] else ""
            yield judgements.Judged(dataset, ({"judge": "alignment", "calls": 3},), failure)

    monkeypatch.setattr(judgements, "judge_all", judge_all)
    sweep = sweep_of(plan, store)
    sweep.make(TWO_GPUS)
    events = sweep.executors.events
    assert {e["key"] for e in events.events if e["event"] == "judged"} == set(map(key, judged))
    assert events.failures == {key(judged[0]): "no reply"}
    assert missing(sweep) == {
        name for name in plan.missing if judged[0] in plan.artifacts[name].with_ancestors()
    }


def test_an_engine_that_fails_takes_its_own_part_with_it_and_no_other(
    sweep: OverlappingSweep, fakes: Fakes
) -> None:
    failing = next(a for a in sweep.executors.plan.artifacts.values() if isinstance(a, Completions))

    def before_task(task: Any) -> None:
        if task.artifact == failing:
            raise ActorDiedError

    fakes.before_task = before_task
    sweep.make(TWO_GPUS)
    plan = sweep.executors.plan
    hit = {name for name in plan.missing if failing in list(plan.artifacts[name].with_ancestors())}
    assert missing(sweep) == hit
    assert list(sweep.executors.events.failures) == [key(failing)]


def test_nodes_may_be_lost_any_number_of_times_as_long_as_parts_are_made(
    sweep: OverlappingSweep, fakes: Fakes
) -> None:
    tasks: Counter[str] = Counter()

    def before_task(task: Any) -> None:
        tasks[task.artifact.kind + key(task.artifact)] += 1
        if tasks[task.artifact.kind + key(task.artifact)] == 1:
            raise NodeDiedError("The actor died because its node has died.")

    fakes.before_task = before_task
    sweep.make(TWO_GPUS)
    assert len(tasks) > LOST_NODES
    assert missing(sweep) == set()


def test_three_engines_in_a_row_that_fail_are_the_last(sweep: OverlappingSweep, fakes: Fakes) -> None:
    def before_task(task: Any) -> None:
        raise ActorDiedError

    fakes.before_task = before_task
    sweep.make(TWO_GPUS)
    asked = [a for a in sweep.executors.plan.artifacts.values() if isinstance(a, Completions | Evaluation)]
    assert (
        FAILED_ENGINES <= fakes.engines < len(asked) / 2
    )  # teachers that were ready later start further ones
    made = {type(artifact).__name__ for artifact in fakes.made}
    assert made == {"Reference", "Teacher"}


@pytest.mark.timeout(60)
def test_a_group_that_a_run_of_ray_tune_left_behind_has_failed_and_later_ones_begin_another(
    sweep: OverlappingSweep, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune's run should not end before its groups; the sweep must not wait for them forever."""
    runs: list[Any] = []

    def ends_early(ready: ReadyGroups, *_: Any, **__: Any) -> None:
        runs.append(ready.suggest("trial"))

    monkeypatch.setattr("undertow.stages.ready_groups.train_as_ready", ends_early)
    sweep.make(TWO_GPUS)
    reasons = set(sweep.executors.events.failures.values())
    assert reasons == {"the run of Ray Tune ended before it"}
    assert len(runs) > 1
