"""A pool of engines that runs all tasks of one reference model: one engine per Ray Data actor.

A task is a small object with `run(engine, store)`: a shard of completions, or an evaluation. The rows of the
Ray Data pipeline are the tasks, one per block, so that Ray Data gives each one to whichever actor is free.
System prompts and weights travel with the tasks, and each actor starts its engine once. A task commits its
own artifact, so that only its outcome is sent back and a rerun finds every finished one.

The table of engines (`engines/registry.py`) decides which engine serves the reference model. An engine that
only sends requests (`runs_in_driver`) needs no actor: its tasks run one after the other in the sweep's own
process. Its limit on concurrent calls then holds for the whole sweep, and its key stays in that process.
"""

import atexit
import json
import os
import pickle
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from undertow.cluster import attempts
from undertow.cluster.worker_failures import ENGINES, error_line, out_of_memory, vanished
from undertow.engines.literal_paths import remove_links
from undertow.engines.protocol import CanBreak, Engine
from undertow.engines.quiet import quiet
from undertow.engines.registry import EngineKind, engine_for, register_engine
from undertow.errors import ConditionError, ReadError, UserError
from undertow.planning.given_models import folder_of
from undertow.planning.resources import Machine
from undertow.storage.store import Store
from undertow.study.references import Artifact, Reference
from undertow.study.steering import ProjectedOut

# Restarts of an engine whose process died; Ray does not count those caused by losing a node. They suffice for
# three tasks that kill it (`attempts.LIMIT` each). Ray Data's default is no limit, which would restart an
# engine that has too little memory forever.
RESTARTS = 6


class Task(Protocol):
    """Work for an engine: the artifact that it makes, and the engine settings that it requires.

    Attributes:
        lora_rank: the rank of the adapter that it uses; 0 for none.
        window: an upper bound on the tokens of prompt and answer together; 0 for the model's own maximum.
    """

    @property
    def artifact(self) -> Artifact: ...

    @property
    def lora_rank(self) -> int: ...

    @property
    def window(self) -> int: ...

    def run(self, engine: Engine, store: Store) -> dict[str, Any]:
        """Makes and commits the artifact; returns facts about it as JSON data."""
        ...


@dataclass(frozen=True)
class TaskOutcome:
    """The outcome of one task: its facts, or an error message.

    Attributes:
        task: the task's number in the sequence passed to `run_tasks`.
        traceback: of an unexpected error; empty for errors that the user or the condition caused.
        retried: the traceback of a first attempt that failed, if the task was attempted twice.
        is_start: whether the error is that of an engine that could not start; the task was not attempted.
    """

    task: int
    seconds: float
    facts: dict[str, Any]
    error: str = ""
    traceback: str = ""
    retried: str = ""
    is_start: bool = False

    @property
    def units(self) -> int:
        """The rows or answers that it made; 0 if it failed or another sweep had already made them."""
        return int(self.facts.get("rows", self.facts.get("answers", 0)))


class EngineStartError(Exception):
    """An engine could not start; the message is the engine's own error in one line.

    Attributes:
        traceback: of the engine's error; empty for errors that the user or the condition caused.
    """

    def __init__(self, message: str, traceback: str) -> None:
        super().__init__(message)
        self.traceback = traceback


class EngineActor:
    """One engine of the pool. Ray Data calls it with batches of pickled tasks."""

    def __init__(
        self, kind: EngineKind, reference: Reference, store: Store, settings: Mapping[str, Any]
    ) -> None:
        quiet()
        register_engine(kind)  # a worker process starts with the built-in table; tasks look their engine up
        self.kind, self.reference, self.store, self.settings = kind, reference, store, settings
        self.engine: Engine | None = None
        self._attempts = attempts.Attempts(_actor_id())
        # An exception here would end the actor: Ray prints such an end with several tracebacks and reports it
        # like that of a process that was killed. The first task carries the error to the driver instead.
        try:
            self.engine = self._build()
        except (ConditionError, UserError) as error:
            self.failure = {"error": str(error), "traceback": ""}
        except Exception as error:
            text = out_of_memory(error, ENGINES) or error_line(error)
            self.failure = {"error": text, "traceback": traceback.format_exc()}
        if settings.get("tensor_parallel", 1) == 1:  # otherwise the engine ends processes of its own
            _skip_clean_up()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        rows = zip(batch["number"], batch["task"], strict=True)
        outcomes = [self._outcome(int(number), task) for number, task in rows]
        return {"outcome": [json.dumps(outcome.__dict__) for outcome in outcomes]}

    def _outcome(self, number: int, task: bytes) -> TaskOutcome:
        if self.engine is None:
            return TaskOutcome(number, 0.0, {}, **self.failure, is_start=True)
        if is_broken(self.engine):
            self._restart()
        ended = self._attempts.begin(task)
        try:
            if ended >= attempts.LIMIT:
                text = f"its engine's process died at each of {ended} attempts: it {vanished(ENGINES)}"
                return TaskOutcome(number, 0.0, {}, text)
            return _run(number, pickle.loads(task), self.engine, self.store)
        finally:
            self._attempts.end(task)

    def _build(self) -> Engine:
        return build_engine(self.kind, self.reference, self.store, self.settings)

    def _restart(self) -> None:
        """Replaces an engine that the task before has broken, so that only that task fails.

        If this process cannot, as after an error of CUDA, it ends before the new task: Ray starts the actor
        in another one, which runs the task (see RESTARTS).
        """
        try:
            assert self.engine is not None
            self.engine.close()
            self.engine = self._build()
        except Exception:
            os._exit(1)


def _skip_clean_up() -> None:
    """Lets this process, if it is an actor's, end without the clean-up of the libraries imported so far.

    Their exit handlers free what the operating system frees anyway. Those of vLLM take two seconds, in which
    the engine's core has other work to do.
    """
    if _actor_id():
        atexit.register(_end_at_once)  # the handler that was registered last is called first


def _actor_id() -> str | None:
    """The id of the actor that this process runs, which Ray keeps when it starts the actor again."""
    import ray

    return ray.get_runtime_context().get_actor_id() if ray.is_initialized() else None


def _end_at_once() -> None:
    """Ends this process without further exit handlers; output is written and links are removed first."""
    remove_links()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def build_engine(kind: EngineKind, reference: Reference, store: Store, settings: Mapping[str, Any]) -> Engine:
    """Builds an engine of the table for a reference model, with its weights as a local folder if needed."""
    folder = folder_of(reference, store) if kind.needs_weights else None
    return kind.build(reference, folder, settings)


def is_broken(engine: Engine) -> bool:
    """Whether an engine must be built again before it can answer."""
    return isinstance(engine, CanBreak) and engine.is_broken


def _run(number: int, task: Task, engine: Engine, store: Store) -> TaskOutcome:
    """Runs a task and returns its outcome.

    An unexpected error, or a storage that cannot be read now, is retried once; the first traceback is kept.

    An error that breaks the engine is not: its cause is in the task, and the engine cannot answer again.
    """
    start, first_traceback = time.time(), ""
    for is_last in (False, True):
        try:
            facts = task.run(engine, store)
            return TaskOutcome(number, time.time() - start, facts, retried=first_traceback)
        except (ConditionError, UserError) as error:
            if is_last or not isinstance(error, ReadError):
                return TaskOutcome(number, time.time() - start, {}, str(error), retried=first_traceback)
            first_traceback = traceback.format_exc()
        except Exception as error:
            if is_last or is_broken(engine):
                text = out_of_memory(error, ENGINES) or error_line(error)
                seconds, lines = time.time() - start, traceback.format_exc()
                return TaskOutcome(number, seconds, {}, text, lines, retried=first_traceback)
            first_traceback = traceback.format_exc()
    raise AssertionError("a task has an outcome after its second attempt")


def needed(tasks: Sequence[Task]) -> dict[str, Any]:
    """The settings of an engine that can run all of the tasks."""
    windows = [task.window for task in tasks]
    return {
        "max_lora_rank": max((task.lora_rank for task in tasks), default=0),
        "max_model_len": max(windows) if windows and all(windows) else None,
        "eager": any(isinstance(a, ProjectedOut) for task in tasks for a in task.artifact.with_ancestors()),
    }


def reserved(kind: EngineKind, machine: Machine) -> dict[str, Any]:
    """What an actor with one engine reserves, and how often Ray starts it again, as Ray's options."""
    return {
        "num_cpus": machine.cpus_per_engine if kind.cpus is None else kind.cpus,
        "num_gpus": machine.gpus_per_engine if kind.gpus is None else kind.gpus,
        "max_restarts": RESTARTS,
    }


def run_tasks(
    reference: Reference, store: Store, tasks: Sequence[Task], machine: Machine
) -> Iterator[TaskOutcome]:
    """Runs tasks on the engine that serves their reference model; yields outcomes as they finish, in any
    order.

    On a pool of `machine.actors` engines or, for an engine that runs in the driver, in this process without
    Ray. Raises UserError if no engine serves the reference model, or if an API model's endpoint is not
    configured, and EngineStartError if an engine of the pool cannot start.
    """
    kind = engine_for(reference)
    settings = machine.engine_settings() | needed(tasks)
    if kind.runs_in_driver:
        engine = build_engine(kind, reference, store, settings)
        yield from (_run(number, task, engine, store) for number, task in enumerate(tasks))
        return
    import ray
    from ray import cloudpickle
    from ray.data import ActorPoolStrategy

    # Pickle is only the transport between processes of one program; nothing stored is ever unpickled.
    rows = [{"number": number, "task": cloudpickle.dumps(task)} for number, task in enumerate(tasks)]
    pipeline = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        EngineActor,
        fn_constructor_args=(kind, reference, store, settings),
        batch_size=1,
        compute=ActorPoolStrategy(size=min(machine.actors, len(tasks))),
        # Ray 2.60 has no other way to set max_restarts, and warns that 2.64 removes it.
        **reserved(kind, machine),
    )
    for row in pipeline.iter_rows():
        outcome = TaskOutcome(**json.loads(row["outcome"]))
        if outcome.is_start:
            raise EngineStartError(outcome.error, outcome.traceback)
        yield outcome
