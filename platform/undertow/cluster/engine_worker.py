"""One engine in a Ray actor of its own, which lives until the schedule stops it.

`engine_pool` gives a pool of engines a fixed list of tasks. An overlapping schedule gives each engine its next
task when it is free, and takes its place away when a worker group needs it.
"""

import json
from collections.abc import Mapping
from typing import Any

from undertow.cluster.engine_pool import RESTARTS, EngineActor, EngineStartError, Task, TaskOutcome
from undertow.engines.registry import engine_for
from undertow.planning.resources import Machine
from undertow.storage.store import Store
from undertow.study.artifacts import Reference


class _Actor(EngineActor):
    """The engine in its own process."""

    def start_failure(self) -> dict[str, str] | None:
        """Why the engine could not start; None if it did."""
        return None if self.engine is not None else self.failure

    def run(self, task: bytes) -> str:
        """Runs a pickled task; returns its outcome as JSON."""
        return json.dumps(self._outcome(0, task).__dict__)


class EngineWorker:
    """The driver's handle of one engine."""

    def __init__(
        self, reference: Reference, store: Store, settings: Mapping[str, Any], machine: Machine
    ) -> None:
        """Requests the actor; it starts as soon as its resources are free."""
        import ray

        kind = engine_for(reference)
        self._actor = (
            ray.remote(_Actor)
            .options(
                num_cpus=machine.cpus_per_engine if kind.cpus is None else kind.cpus,
                num_gpus=machine.gpus_per_engine if kind.gpus is None else kind.gpus,
                max_restarts=RESTARTS,
                max_task_retries=RESTARTS,
            )
            .remote(kind, reference, store, settings)
        )

    def start(self) -> None:
        """Waits until the engine works. Raises EngineStartError, or Ray's error if its process died."""
        import ray

        failure = ray.get(self._actor.start_failure.remote())
        if failure is not None:
            raise EngineStartError(failure["error"], failure["traceback"])

    def run(self, task: Task) -> TaskOutcome:
        """Runs one task. Raises Ray's error if the engine's process died and could not be restarted."""
        import ray
        from ray import cloudpickle

        outcome = TaskOutcome(**json.loads(ray.get(self._actor.run.remote(cloudpickle.dumps(task)))))
        if outcome.is_start:
            raise EngineStartError(outcome.error, outcome.traceback)
        return outcome

    def stop(self) -> None:
        """Ends the engine's process, which frees its GPU."""
        import ray

        ray.kill(self._actor)
