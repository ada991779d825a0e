"""Trains groups of models as they become ready: one run of Ray Tune, with a trial for each group.

Tune asks a searcher for its next trial. A wave adds all its groups at once (`train`); an overlapping schedule
adds each when it starts it (`train_as_ready`). The parameters of a trial state what it trains, and it drives
a worker group of Ray Train with DeepSpeed.

Reports of epochs and steps reach the sweep through one queue. If the node of a trial is lost, Tune restarts
the trial. A trial reports any other failure instead of raising it, so that Tune does not retry it.

This module imports Ray Tune, so it is imported only where a sweep trains.
"""

import queue
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.search import Searcher

from undertow.cluster.interrupts import raise_if_stopping
from undertow.cluster.messages import forwarding, message_queue
from undertow.cluster.placement_groups import without_orphans
from undertow.cluster.worker_failures import LOST_NODES, TRAINING, in_words
from undertow.engines.quiet import quiet
from undertow.planning.resources import Machine
from undertow.stages.finetuning import train_in_workers
from undertow.stages.training_group import Group, Watched
from undertow.stages.training_listener import TrainingListener
from undertow.stages.trials import TRIAL_MEMORY, group_name, group_parameters, set_environment_of_trials
from undertow.stages.weights import Trained
from undertow.storage.store import Store
from undertow.study.identity import key

SECONDS_BETWEEN_CHECKS = 0.2  # for a new group, or an interrupt, while no trial runs


class ReadyGroups(Searcher):
    """A searcher of Ray Tune: suggests the groups that `add` was given, in their order.

    It has no suggestion while no group waits, and ends Tune's run after `close`. `add` and `close` may be
    called from any thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: queue.SimpleQueue[tuple[int, Group] | None] = queue.SimpleQueue()
        self._added = 0
        self._running: set[str] = set()

    def add(self, group: Group) -> int:
        """Hands over a group; returns its number, the parameter "group" of its trial."""
        self._added += 1
        self._waiting.put((self._added - 1, group))
        return self._added - 1

    def close(self) -> None:
        """Ends the run once all groups that were added have been trained."""
        self._waiting.put(None)

    def suggest(self, trial_id: str) -> Any:
        """The configuration of the next trial, None if no group waits, or "FINISHED"."""
        try:
            added = self._next()
        except queue.Empty:
            return None
        if added is None:
            return Searcher.FINISHED
        number, group = added
        self._running.add(trial_id)
        return {"group": number, **group_parameters(group), "keys": list(map(key, group.models))}

    def _next(self) -> tuple[int, Group] | None:
        """What was added or closed; waits for it while no trial runs. Raises queue.Empty or StoppedError."""
        if self._running:
            return self._waiting.get_nowait()
        while True:  # Tune itself would ask once a second only
            raise_if_stopping()
            try:
                return self._waiting.get(timeout=SECONDS_BETWEEN_CHECKS)
            except queue.Empty:
                continue

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Called by Tune at the end of a trial."""
        self._running.discard(trial_id)

    # Tune saves its searcher for a restore. A sweep never restores one: a rerun plans the missing artifacts.

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Restores nothing."""

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadyGroups, ()


class _Ends(Callback):
    """Reports the end of each trial with the reason of a failure, and ends Tune's run with the sweep."""

    def __init__(self, on_end: Callable[[int, str], None] | None = None) -> None:
        self._on_end = on_end

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        raise_if_stopping()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial, (trial.last_result or {}).get("failure") or "")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = trial.get_pickled_error() or trial.get_error()
        self._end(trial, in_words(error, TRAINING) if error else "its trial ended without a reason")

    def _end(self, trial: Any, failure: str) -> None:
        if self._on_end is not None:
            self._on_end(trial.config["group"], failure)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Ends, ()  # see `ReadyGroups`


def train(
    groups: Sequence[Group], store: Store, machine: Machine, listener: TrainingListener
) -> dict[str, str]:
    """Trains groups that are all ready. Returns the reasons of failures by model key.

    Args:
        listener: receives all reports but failures, which are returned.
    """
    ready, failures = ReadyGroups(), dict[str, str]()
    for group in groups:
        ready.add(group)
    ready.close()

    def end(number: int, failure: str) -> None:
        for model in groups[number].models:
            if failure and not store.has(model):
                failures.setdefault(key(model), failure)

    train_as_ready(
        ready,
        {key(model): model for group in groups for model in group.models},
        store,
        machine,
        watch=groups[0].watch,
        system=groups[0].system,
        listener=replace(listener, on_failed=failures.__setitem__),
        on_end=end,
    )
    return failures


def train_as_ready(
    ready: ReadyGroups,
    models: Mapping[str, Trained],
    store: Store,
    machine: Machine,
    *,
    watch: Watched,
    system: str | None,
    listener: TrainingListener,
    on_end: Callable[[int, str], None],
) -> None:
    """Trains the groups of `ready` until it is closed. Raises StoppedError if the sweep ends before.

    The functions are called in the threads of this run.

    Args:
        models: by key, those that groups may have.
        watch, system: see `training_group.Group`.
        on_end: called with a group's number when its trial has ended, after the reports of its models, and
            with the reason if the trial failed, else "".
    """
    set_environment_of_trials()
    scratch = f"ray-{min(models)[:16]}"  # a concurrent sweep trains other models
    reports = message_queue()
    with without_orphans(), forwarding(reports, listener.forward) as drain:

        def end(number: int, failure: str) -> None:
            drain()
            on_end(number, failure)

        # The models are shared once through Ray's object store; a trial's parameters name those of its group.
        trial = tune.with_parameters(
            _trial,
            models=dict(models),
            watch=watch,
            system=system,
            store=store,
            machine=machine,
            reports=reports,
            scratch=scratch,
        )
        tune.Tuner(
            tune.with_resources(trial, tune.PlacementGroupFactory([{"memory": TRIAL_MEMORY}])),
            tune_config=tune.TuneConfig(
                search_alg=ready,
                num_samples=-1,  # as many as the searcher suggests
                # By default Tune starts the next trial of a searcher only when the one before runs. Some
                # trials more than slots wait for resources while their controller already starts.
                max_concurrent_trials=machine.slots + machine.ahead,
                reuse_actors=False,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                verbose=0,
                name="ready",
                failure_config=tune.FailureConfig(max_failures=LOST_NODES),
                callbacks=[_Ends(end)],
                **store.for_arrow(scratch),
            ),
        ).fit()
    store.drop_scratch(scratch)


def _name(trial: Any) -> str:
    return group_name(trial.config["group"], trial.config)


def _trial(
    config: dict[str, Any],
    *,
    models: Mapping[str, Trained],
    watch: Watched,
    system: str | None,
    store: Store,
    machine: Machine,
    reports: Any,
    scratch: str,
) -> None:
    """One trial: runs the worker group of one group of models."""
    quiet()
    group = Group(tuple(models[name] for name in config["keys"]), watch, system)
    failure = train_in_workers(group, store, machine, reports, scratch)
    tune.report({"group": config["group"], "failure": failure})
