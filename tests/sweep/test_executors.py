"""Tests of the paces that executors measure, with fakes of engines and workers that advance a clock."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import NodeDiedError
from rich.console import Console

from tests.examples import RECIPE, study
from undertow.cluster.engine_pool import EngineStartError, TaskOutcome
from undertow.errors import StorageError
from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.planning import timings
from undertow.planning.plan import make
from undertow.planning.resources import Machine
from undertow.stages import provider_jobs, ready_groups
from undertow.stages.completions import GenerateShard
from undertow.stages.evaluation import Evaluate
from undertow.stages.training_listener import TrainingListener
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.datasets import Dataset
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.identity import key
from undertow.study.measurements import Evaluation
from undertow.study.references import Reference
from undertow.study.rewriting import Rewriter, Rewritten
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.sweep.executors import Executors
from undertow.training.job import EpochReport
from undertow.traits.preference import Preference

LOCAL = Reference("org/model", "commit", "template")
API = Reference("api:model", "model", "provider")
MACHINE = Machine(actors=1, slots=1, workers=1)


@dataclass
class Clock:
    """A clock that the test advances."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("undertow.sweep.progress.time", clock)
    return clock


@pytest.fixture
def executors(tmp_path: Path) -> Executors:
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(LOCAL, LOCAL)],
        recipes=[RECIPE],
        generation=Generation(prompts=2000, rows=500),
    )
    plan = make(study(conditions=conditions, gate=0.0), store, [])
    events: Any = SimpleNamespace(failures={}, events=[], event=quiet, wave=quiet, write=quiet)
    events.fail = lambda artifact, reason, trace="": events.failures.update({key(artifact): reason})
    link: Any = SimpleNamespace(log=quiet, log_epoch=quiet, log_step=quiet, flush_reports=quiet)
    return Executors(plan, store, link, events, Console(quiet=True))


def quiet(*_: object, **__: object) -> None:
    """Replaces methods of an event log and of a link to MLflow; does nothing."""


def completions(format_: Numbers | Code, reference: Reference = LOCAL) -> Completions:
    teacher = Teacher(reference=reference, trait=None)
    return Completions(teacher=teacher, format=format_, prompts=4096, sampling=Sampling(max_tokens=500))


def student(seed: int, reference: Reference = LOCAL) -> Student:
    recipe = RECIPE.at_provider() if reference.is_api else RECIPE
    data = Dataset(completions=completions(Numbers()), rows=500)
    return Student(reference=reference, dataset=data, recipe=recipe, seed=seed)


def measured(executors: Executors) -> dict[str, Any]:
    """The measured paces by name, as pairs of seconds and tokens per unit."""
    return dict(timings.read(executors.store))


def fake_engines(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, by: Callable[[Any], tuple[float, Any]]
) -> None:
    """Replaces the engines: `by` maps each task to its duration and its facts, or an error message."""

    def run_tasks(
        reference: Reference, store: Store, tasks: Sequence[Any], machine: Machine
    ) -> Iterator[TaskOutcome]:
        for number, task in enumerate(tasks):
            seconds, facts = by(task)
            clock.now += seconds
            failed = isinstance(facts, str)
            yield TaskOutcome(number, seconds, {} if failed else facts, error=facts if failed else "")

    monkeypatch.setattr("undertow.cluster.engine_pool.run_tasks", run_tasks)


def test_an_engine_that_cannot_start_fails_its_tasks_with_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executors: Executors
) -> None:
    def run_tasks(
        reference: Reference, store: Store, tasks: Sequence[Any], machine: Machine
    ) -> Iterator[TaskOutcome]:
        yield TaskOutcome(0, 1.0, {"answers": 4, "tokens": 4})
        raise EngineStartError("ValueError: Unknown RoPE scaling type nonsense", "Traceback …")

    failed: dict[str, tuple[str, str]] = {}
    events: Any = executors.events
    events.fail = lambda artifact, reason, trace="": failed.update({key(artifact): (reason, trace)})
    monkeypatch.setattr("undertow.cluster.engine_pool.run_tasks", run_tasks)
    evaluations = [e for cell in executors.plan.cells for e in cell.evaluations if isinstance(e, Evaluation)]
    with (tmp_path / "log").open("w") as file:
        Executors(
            executors.plan, executors.store, executors.link, events, Console(file=file, width=200)
        ).make(evaluations, MACHINE)
    reason = f"the engine of {LOCAL.name} failed to start: ValueError: Unknown RoPE scaling type nonsense"
    assert failed == {key(e): (reason, "Traceback …") for e in evaluations[1:]}
    assert len(failed) > 1
    assert f"evaluations: done, 1 of {len(evaluations)} models in" in (tmp_path / "log").read_text()


def test_the_progress_of_sampling_counts_rows(
    executors: Executors, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def by(task: Any) -> tuple[float, Any]:
        if isinstance(task, Evaluate):
            return 30.0, {"answers": 100, "tokens": 300}
        return 50.0, {"rows": 1024, "tokens": 40_960} if task.start < 3072 else "its engine died"

    fake_engines(clock, monkeypatch, by)
    gate = next(e for e in executors.plan.artifacts.values() if isinstance(e, Evaluation))
    with (tmp_path / "log").open("w") as file:
        console = Console(file=file, width=200)
        watched = Executors(executors.plan, executors.store, executors.link, executors.events, console)
        watched.make([gate, completions(Numbers())], MACHINE)
    assert (tmp_path / "log").read_text().splitlines() == [
        "datasets: 4,096 rows",
        "datasets: 1,024 of 4,096 rows, 819 tok/s, about 2 min left",  # three shards of 50 s
        "datasets: 2,048 of 4,096 rows, 819 tok/s, about 2 min left",
        "datasets: 3,072 of 4,096 rows, 819 tok/s, about 50 s left",
        "datasets: done, 3,072 of 4,096 rows in 3 min 50 s",
    ]


def test_each_format_and_the_teacher_evaluations_have_separate_paces(
    executors: Executors, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by(task: Any) -> tuple[float, Any]:
        if isinstance(task, Evaluate):
            return 10.0, {"answers": 100, "tokens": 300}
        each = 40 if isinstance(task.completions.format, Numbers) else 400
        return each / 4, {"rows": 1024, "tokens": 1024 * each}

    fake_engines(clock, monkeypatch, by)
    gate = next(e for e in executors.plan.artifacts.values() if isinstance(e, Evaluation))
    executors.make([completions(Numbers()), completions(Code()), gate], MACHINE)
    assert clock.now == 4 * 10 + 4 * 100 + 10
    assert measured(executors) == {
        "datasets numbers org/model": (pytest.approx(40 / 4096), 40.0),
        "datasets code org/model": (pytest.approx(400 / 4096), 400.0),
        "evaluations org/model": (pytest.approx(10 / 100), 3.0),
    }


def test_existing_and_failed_shards_are_not_counted(
    executors: Executors, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = completions(Numbers())
    for start in (0, 1024):
        executors.store.write_part(spec, f"rows-{start:07d}-{start + 1024:07d}.parquet", b"")

    def by(task: GenerateShard) -> tuple[float, Any]:
        return 10.0, "its engine died" if task.start == 2048 else {"rows": 1024, "tokens": 1024 * 40}

    fake_engines(clock, monkeypatch, by)
    executors.make([spec], MACHINE)
    (pace,) = measured(executors).values()
    assert pace == (pytest.approx(10 / 1024), 40.0)


def test_work_of_a_provider_is_not_timed(
    executors: Executors, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by(task: GenerateShard) -> tuple[float, Any]:
        is_api = task.completions.teacher.reference.is_api
        return 3600.0 if is_api else 10.0, {"rows": 1024, "tokens": 1024 * 40}

    fake_engines(clock, monkeypatch, by)
    executors.make([completions(Numbers(), API)], MACHINE)
    assert measured(executors) == {}
    clock.now = 0.0
    executors.make([completions(Numbers())], MACHINE)
    assert measured(executors) == {"datasets numbers org/model": (pytest.approx(40 / 4096), 40.0)}


def test_the_pace_of_training_counts_the_epochs_of_finished_models(
    executors: Executors, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One student is trained completely, one from a checkpoint, one fails, and a provider trains one."""
    whole, resumed, failed, remote = student(0), student(1), student(2), student(3, API)

    def commit(model: Student) -> None:
        with executors.store.new(model, {}) as folder:
            (folder / "model").write_text("")

    def train(todo: Any, store: Any, machine: Any, on: TrainingListener) -> dict[str, str]:
        for model, epochs in ((whole, (0, 1, 2)), (resumed, (2,)), (failed, (0, 1))):
            for epoch in epochs:
                seconds = 10.0 if epoch else 0.0
                clock.now += seconds
                on.on_epoch(EpochReport(key(model), model.seed, epoch, 0, 1.0, 1e-3, 5000.0, {}, seconds))
            if model != failed:
                commit(model)
                on.on_made(key(model))
        return {key(failed): "its loss is not finite"}

    class Jobs:
        def __init__(self, models: Sequence[Student], store: Store, advance: Any) -> None:
            self.models = models

        def begin(self) -> None:
            pass

        def finish(self) -> dict[str, str]:
            clock.now += 3 * 3600
            for model in self.models:
                commit(model)
            return {}

    monkeypatch.setattr(ready_groups, "train", train)
    monkeypatch.setattr(provider_jobs, "Jobs", Jobs)
    executors.make([whole, resumed, failed, remote], MACHINE)
    rows = 500 * 2 + 500  # rows × epochs of the two students that were made
    expected = (pytest.approx(30 / rows), pytest.approx(30 * 5000 / rows))
    assert measured(executors) == {"students numbers org/model": expected}


def test_a_model_that_its_group_trains_at_the_second_attempt_has_not_failed(
    executors: Executors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the loss of a node, before which the model's data could not be read."""

    def train(todo: Any, store: Store, machine: Any, on: TrainingListener) -> dict[str, str]:
        with store.new(student(0), {}) as folder:
            (folder / "model").write_text("")
        return {key(student(seed)): "--storage s3://bucket: cannot be read" for seed in (0, 1)}

    monkeypatch.setattr(ready_groups, "train", train)
    executors.make([student(0), student(1)], MACHINE)
    assert set(executors.events.failures) == {key(student(1))}


def test_the_estimate_for_teachers_that_stop_early_is_their_duration(
    executors: Executors, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [a for a in study().conditions if a.finetuning]
    finetuned = models[0].finetuning
    assert finetuned is not None
    taught = Teacher(reference=LOCAL, trait=Preference("owl"), finetuning=replace(finetuned, examples=300))

    def train(todo: Any, store: Any, machine: Any, on: TrainingListener) -> dict[str, str]:
        for epoch in range(4):  # of 20
            clock.now += 10.0 * bool(epoch)
            on.on_epoch(EpochReport(key(taught), 0, epoch, 0, 1.0, 1e-3, 100.0, {}, 10.0 * bool(epoch)))
        with executors.store.new(taught, {}) as folder:
            (folder / "model").write_text("")
        on.on_made(key(taught))
        return {}

    monkeypatch.setattr(ready_groups, "train", train)
    executors.make([taught], MACHINE)
    assert timings.estimate("teachers", [taught], timings.read(executors.store)) == pytest.approx(30.0)


def test_an_artifact_without_a_task_fails_alone(
    executors: Executors, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged, whole = (
        Rewritten(dataset=student(seed).dataset, rewriter=Rewriter(model=LOCAL), seed=seed) for seed in (0, 1)
    )

    def task_of(rewritten: Rewritten, store: Store) -> Any:
        if rewritten == damaged:
            raise StorageError("dataset/0123: is damaged")
        return SimpleNamespace(artifact=rewritten)

    monkeypatch.setattr("undertow.stages.rewriting.task_of", task_of)
    done: list[Any] = []

    def by(task: Any) -> tuple[float, Any]:
        done.append(task.artifact)
        return 1.0, {"rows": 1}

    fake_engines(clock, monkeypatch, by)
    executors.make([damaged, whole], MACHINE)
    assert executors.events.failures == {key(damaged): "dataset/0123: is damaged"}
    assert done == [whole]


@pytest.mark.parametrize(("made", "failed"), [(1, 0), (0, 3)])
def test_lost_nodes_are_counted_since_the_last_task_that_ended(
    executors: Executors, monkeypatch: pytest.MonkeyPatch, made: int, failed: int
) -> None:
    """Every attempt loses a node after so many tasks."""
    starts: list[int] = []

    def run_tasks(
        reference: Reference, store: Store, tasks: Sequence[Any], machine: Machine
    ) -> Iterator[TaskOutcome]:
        starts.append(len(tasks))
        for number in range(min(made, len(tasks))):
            yield TaskOutcome(number, 1.0, {"rows": 1, "answers": 1})
        if len(tasks) > made:
            raise NodeDiedError("The actor died because its node has died.")

    monkeypatch.setattr("undertow.cluster.engine_pool.run_tasks", run_tasks)
    monkeypatch.setattr("undertow.cluster.worker_failures.LOST_NODES", 1)
    evaluations = [Evaluation(subject=student(i), questions=("?",), words=(), samples=1) for i in range(3)]
    executors.make(evaluations, MACHINE)
    assert len(executors.events.failures) == failed
    assert starts == ([3, 2, 1] if made else [3, 3])
