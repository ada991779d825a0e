"""Trains teachers and students: Ray Tune over groups of models, each in a Ray Train group with DeepSpeed.

A Tune trial only drives its worker group: it reserves a token amount of memory and no CPU, because a trial
that held a CPU that its own workers need would deadlock. Reports of epochs and steps reach the sweep through
one queue.

A node that leaves is not a failure of the models trained on it. If the workers were on it, the trial trains
its group again; if the trial was on it, Tune restarts the trial; both resume from the checkpoints of the
training loop. A trial reports any other failure instead of raising it, so that Tune does not retry it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from undertow.cluster.messages import forwarding, message_queue
from undertow.cluster.placement_groups import without_orphans
from undertow.cluster.worker_failures import LOST_NODES, TRAINING, in_words, lost_node
from undertow.engines.quiet import quiet
from undertow.planning.given_models import is_nano
from undertow.planning.resources import Machine
from undertow.stages.training_group import Group, train_group
from undertow.stages.training_listener import TrainingListener
from undertow.stages.trials import group_name, group_parameters
from undertow.storage.store import Store
from undertow.study.identity import key

TRIAL_MEMORY = 1_000_000  # bytes: a placement group may not be empty, and every node has memory
# Tokens per micro-batch. Small ones have less padding, which costs a CPU as much as other tokens: with 4,096
# the format tuning of SmolLM2 took 1.4 times as long.
MICRO_TOKENS, CPU_MICRO_TOKENS = 4096, 1024
NODE_LOSS_SECONDS = 30.0  # by its default settings Ray notices a vanished node within 15 seconds


def train(
    todo: Sequence[Group], store: Store, machine: Machine, listener: TrainingListener
) -> dict[str, str]:
    """Trains every group as one trial of a Ray Tune grid. Returns the reasons of failures by model key.

    Args:
        listener: receives all reports but failures, which are returned.
    """
    from ray import tune

    set_environment_of_trials()
    scratch = _scratch(todo)
    reports = message_queue()
    parameters = [group_parameters(group) for group in todo]
    names = [group_name(number, shown) for number, shown in enumerate(parameters)]

    def name_of(trial: Any) -> str:
        number: int = trial.config["group"]
        return names[number]

    # The groups are shared once through Ray's object store; the grid is over their numbers.
    trial = tune.with_parameters(_trial, todo=list(todo), store=store, machine=machine, reports=reports)
    tuner = tune.Tuner(
        tune.with_resources(trial, tune.PlacementGroupFactory([{"memory": TRIAL_MEMORY}])),
        param_space=group_grid(parameters),
        tune_config=tune.TuneConfig(
            # Some trials more than slots: they wait for resources while their controller already starts.
            max_concurrent_trials=machine.slots + machine.ahead,
            reuse_actors=False,
            trial_name_creator=name_of,
            trial_dirname_creator=name_of,
        ),
        run_config=tune.RunConfig(
            verbose=0,
            name=key(todo[0].models[0]),
            failure_config=tune.FailureConfig(max_failures=LOST_NODES),
            **store.for_arrow(scratch),
        ),
    )
    failures: dict[str, str] = {}
    listener = replace(listener, on_failed=failures.__setitem__)
    with without_orphans(), forwarding(reports, listener.forward):
        results = tuner.fit()
    store.drop_scratch(scratch)
    for result in results:
        reason = in_words(result.error, TRAINING) if result.error else (result.metrics or {}).get("failure")
        if reason:
            # Its folder tells the group: a trial that was lost before its first report has no config.
            for model in todo[names.index(PurePath(result.path).name)].models:
                if not store.has(model):
                    failures.setdefault(key(model), reason)
    return failures


def group_grid(parameters: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The grid that Tune shows: one trial per group, with the parameters of what the group trains.

    The grid is over the groups' numbers, and the other parameters follow from the number. A grid over each of
    them would have trials of combinations that no group trains.
    """
    from ray import tune

    def of_group(name: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda config: parameters[config["group"]][name]

    followers = {name: tune.sample_from(of_group(name)) for name in parameters[0]}
    return {"group": tune.grid_search(list(range(len(parameters)))), **followers}


def set_environment_of_trials() -> None:
    """Stops Tune from copying AWS keys into its trials' runtime environment, which Ray logs.

    On a local Ray nothing is copied: trials inherit it, and Ray would start each process twice.
    """
    from ray.tune.execution import class_cache

    from undertow.cluster.address import is_local

    copied = class_cache.ENV_VARS_TO_PROPAGATE
    if is_local():
        copied.clear()
        class_cache.DEFAULT_ENV_VARS.clear()
    copied.difference_update({name for name in copied if name.startswith("AWS_")})


def _scratch(todo: Sequence[Group]) -> str:
    """The folder of Ray's own state of this training; a concurrent sweep trains other models."""
    return f"ray-{key(todo[0].models[0])[:16]}"


def _trial(
    config: dict[str, Any], *, todo: list[Group], store: Store, machine: Machine, reports: Any
) -> None:
    """One Tune trial: runs the worker group of one group of models."""
    quiet()
    from ray import tune

    failure = train_in_workers(todo[config["group"]], store, machine, reports, _scratch(todo))
    tune.report({"failure": failure})


def train_in_workers(group: Group, store: Store, machine: Machine, reports: Any, scratch: str) -> str:
    """Trains a group of models in a Ray Train worker group; returns why it failed, or "".

    Args:
        reports: the queue to which the workers report.
        scratch: the name of the folder of Ray's own state.
    """
    import ray.train

    from undertow.cluster.trainer import make_trainer

    on_gpu = machine.gpus_per_worker > 0
    # Rounding depends on the threads and on the micro-batches, so nano models have the same on every machine.
    nano = is_nano(group.models[0].reference)
    threads = 1 if nano else machine.cpus_per_worker
    micro_tokens = MICRO_TOKENS if nano or on_gpu else CPU_MICRO_TOKENS
    config = {
        "group": group,
        "store": store,
        "reports": reports,
        "threads": threads,
        "micro_tokens": micro_tokens,
    }

    def fit() -> None:
        make_trainer(
            train_group,
            on_gpu=on_gpu,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(
                num_workers=machine.workers,
                use_gpu=on_gpu,
                # As by default, a worker on a GPU reserves no CPU: some nodes have more GPUs than CPUs.
                resources_per_worker={"GPU": 1} if on_gpu else {"CPU": threads},
            ),
            run_config=ray.train.RunConfig(
                name=f"group-{key(group.models[0])}",
                failure_config=ray.train.FailureConfig(max_failures=1),
                **store.for_arrow(scratch),
            ),
        ).fit()

    return attempt(fit, machine.workers)


def attempt(fit: Callable[[], None], workers: int) -> str:
    """Trains a group, and again for each node that is lost; returns why it failed, or ""."""
    reason = ""
    for attempts in range(1, 2 + LOST_NODES):
        before = _nodes()
        try:
            fit()
        except Exception as error:  # from Train, a worker or the controller
            reason = in_words(error, TRAINING, attempts)
            if not (lost_node(error) or (workers > 1 and _lost_any(before))):
                return reason
        else:
            return ""
    return reason


def _nodes() -> set[str]:
    """The ids of the live nodes."""
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _lost_any(before: set[str]) -> bool:
    """Whether one of the nodes has left the cluster.

    The other workers of a group fail at once (their connection breaks), but Ray notices the lost node only
    after missed heartbeats, so that this function waits for up to `NODE_LOSS_SECONDS`.
    """
    deadline = time.monotonic() + NODE_LOSS_SECONDS
    while not (lost := before - _nodes()) and time.monotonic() < deadline:
        time.sleep(1.0)
    return bool(lost)
