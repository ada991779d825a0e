"""A pool of engines, shared by everything that one reference model has to answer: vLLM actors under Ray Data.

A task is a small object with `run(engine, store)`: a shard of completions, an evaluation. The pipeline's
rows are the tasks, one a block, so that Ray Data hands them to whichever actor is free; system prompts and
weights travel with them, and each actor starts its engine once. A task commits what it made itself, so that
only its outcome travels back, and a rerun finds all that was finished.

A provider's model needs no actor: its tasks run one after the other in the sweep's own process, so that the
number of calls at a time holds for the whole sweep, and the key stays in its environment and travels nowhere.
"""

import json
import pickle
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from undertow.api.endpoint import MODELS, Endpoint
from undertow.cluster.connection import quiet
from undertow.cluster.worker_failures import ENGINES, out_of_memory
from undertow.engines import Engine
from undertow.engines.openai import OpenAIEngine
from undertow.errors import ConditionError, UserError
from undertow.planning.resources import Machine
from undertow.storage.store import Store
from undertow.study.artifacts import Artifact, Reference

# Of an engine whose process died (Ray does not count a node that was taken away). Without a number, which is
# what Ray Data has, an engine for which there is no memory would be started for ever.
RESTARTS = 4


class Task(Protocol):
    """Work for an engine: what it makes, and what the engine must be made for.

    Attributes:
        lora_rank: the rank of the adapter it needs; 0 for none.
        window: tokens of prompt and answer together, at most; 0 for as many as the model has.
    """

    @property
    def artifact(self) -> Artifact: ...

    @property
    def lora_rank(self) -> int: ...

    @property
    def window(self) -> int: ...

    def run(self, engine: Engine, store: Store) -> dict[str, Any]:
        """Does the work, commits it, and returns facts about it as JSON data."""
        ...


@dataclass(frozen=True)
class TaskOutcome:
    """What became of one task: facts, or an error in words (with its traceback where it is ours).

    Attributes:
        retried: the traceback of a first try that failed where the second did not.
    """

    task: int
    seconds: float
    facts: dict[str, Any]
    error: str = ""
    traceback: str = ""
    retried: str = ""

    @property
    def units(self) -> int:
        """The rows or answers that it made; none where it failed, or another sweep had made them."""
        return int(self.facts.get("rows", self.facts.get("answers", 0)))


class EngineActor:
    """One engine in one actor of the pool."""

    def __init__(self, reference: Reference, store: Store, settings: Mapping[str, Any]) -> None:
        quiet()
        from undertow.engines.vllm import VLLMEngine
        from undertow.planning.pinning import folder_of

        self.store = store
        self.engine: Engine = VLLMEngine(str(folder_of(reference, store)), **settings)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        rows = zip(batch["number"], batch["task"], strict=True)
        return {
            "outcome": [
                json.dumps(_run(int(number), pickle.loads(task), self.engine, self.store).__dict__)
                for number, task in rows
            ]
        }


def _run(number: int, task: Task, engine: Engine, store: Store) -> TaskOutcome:
    """A task's outcome; what is not its own fault is tried a second time, and the first try is told."""
    start, retried = time.time(), ""
    for last in (False, True):
        try:
            facts = task.run(engine, store)
            return TaskOutcome(number, time.time() - start, facts, retried=retried)
        except (ConditionError, UserError) as error:
            return TaskOutcome(number, time.time() - start, {}, str(error), retried=retried)
        except Exception as error:
            retried = traceback.format_exc()
            if last:
                text = out_of_memory(error, ENGINES) or f"{type(error).__name__}: {error}"
                return TaskOutcome(number, time.time() - start, {}, text, retried)
    raise AssertionError("a task ends by its second try")


def needed(tasks: Sequence[Task]) -> dict[str, Any]:
    """What an engine that does all these tasks must be made for."""
    windows = [task.window for task in tasks]
    return {
        "max_lora_rank": max((task.lora_rank for task in tasks), default=0),
        "max_model_len": max(windows) if windows and all(windows) else None,
    }


def run_tasks(
    reference: Reference, store: Store, tasks: Sequence[Task], machine: Machine
) -> Iterator[TaskOutcome]:
    """Runs tasks on a pool of `machine.actors` engines; outcomes come as they are ready, in any order.

    Of a provider's model in this process, without Ray. Raises UserError where no endpoint is named.
    """
    if reference.is_api:
        engine = OpenAIEngine(reference.served_name, Endpoint.from_environment(MODELS))
        yield from (_run(number, task, engine, store) for number, task in enumerate(tasks))
        return
    import ray
    from ray import cloudpickle
    from ray.data import ActorPoolStrategy

    # Pickle is transport between processes of one program here; nothing stored is ever unpickled.
    rows = [{"number": number, "task": cloudpickle.dumps(task)} for number, task in enumerate(tasks)]
    settings = machine.engine_settings() | needed(tasks)
    pipeline = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        EngineActor,
        fn_constructor_args=(reference, store, settings),
        batch_size=1,
        compute=ActorPoolStrategy(size=min(machine.actors, len(tasks))),
        num_cpus=machine.cpus_per_engine,
        num_gpus=machine.gpus_per_engine,
        max_restarts=RESTARTS,  # Ray 2.60 knows no other way to say it, and warns that 2.64 will have none
    )
    for row in pipeline.iter_rows():
        yield TaskOutcome(**json.loads(row["outcome"]))
