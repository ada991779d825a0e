"""One engine in a Ray actor of its own, which lives until the schedule stops it.

`engine_pool` gives a pool of engines a fixed list of tasks. An overlapping schedule gives each engine its
next task when it is free, and takes its place away when a worker group needs it.
"""

import json
from collections.abc import Mapping
from typing import Any

from undertow.cluster.engine_pool import (
    RESTARTS,
    EngineActor,
    EngineStartError,
    Task,
    TaskOutcome,
    needed,
    reserved,
)
from undertow.engines.registry import engine_for
from undertow.planning.resources import Machine
from undertow.storage.store import Store
from undertow.study.references import Reference

SECONDS_BETWEEN_CHECKS = 1.0  # for an interrupt


class _Actor(EngineActor):
    """The engine in its own process."""

    def start_failure(self) -> dict[str, str] | None:
        """Why the engine could not start; None if it did."""
        return None if self.engine is not None else self.failure

    def run(self, task: bytes) -> str:
        """Runs a pickled task; returns its outcome as JSON."""
        return json.dumps(self._outcome(0, task).__dict__)


class EngineWorker:
    """The driver's handle of one engine. Its calls raise StoppedError if the sweep ends meanwhile."""

    def __init__(
        self, reference: Reference, store: Store, settings: Mapping[str, Any], machine: Machine
    ) -> None:
        """Requests the actor, which starts as soon as its resources are free.

        Raises UserError if no engine serves the reference model.
        """
        self.reference, self.store, self.machine = reference, store, machine
        self.settings = dict(settings)
        self._kind = engine_for(reference)
        self._actor = self._requested()

    def _requested(self) -> Any:
        import ray

        options = reserved(self._kind, self.machine)
        actor = ray.remote(_Actor).options(**options, max_task_retries=RESTARTS)
        return actor.remote(self._kind, self.reference, self.store, self.settings)

    def start(self) -> None:
        """Waits until the engine works. Raises EngineStartError, or Ray's error if its process died."""
        failure = _result(self._actor.start_failure.remote())
        if failure is not None:
            raise EngineStartError(failure["error"], failure["traceback"])

    def run(self, task: Task) -> TaskOutcome:
        """Runs one task. Raises Ray's error if the engine's process died and could not be restarted.

        An engine whose context or adapters are too small for the task is first replaced by a larger one: how
        long some requests are is known only when their data exist.
        """
        from ray import cloudpickle

        if (settings := enlarged(self.settings, task)) != self.settings:
            self.stop()
            self.settings = settings
            self._actor = self._requested()
            self.start()
        outcome = TaskOutcome(**json.loads(_result(self._actor.run.remote(cloudpickle.dumps(task)))))
        if outcome.is_start:  # Ray has started the actor again, and the engine could not
            raise EngineStartError(outcome.error, outcome.traceback)
        return outcome

    def stop(self) -> None:
        """Ends the engine's process, which frees its GPU."""
        import ray

        ray.kill(self._actor)


def enlarged(settings: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """The settings of an engine that can run the task too (see `engine_pool.needed`)."""
    more = needed([task])
    lengths = settings["max_model_len"], more["max_model_len"]
    return {
        **settings,
        "max_lora_rank": max(settings["max_lora_rank"], more["max_lora_rank"]),
        "max_model_len": None if None in lengths else max(lengths),
        "eager": settings["eager"] or more["eager"],
    }


def _result(call: Any) -> Any:
    """The result of a call of an actor."""
    import ray

    from undertow.cluster.interrupts import raise_if_stopping

    while not ray.wait([call], timeout=SECONDS_BETWEEN_CHECKS)[0]:
        raise_if_stopping()
    return ray.get(call)
