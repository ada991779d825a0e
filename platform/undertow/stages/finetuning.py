"""Trains teachers and students: Ray Tune over groups of models, each in a Ray Train group with DeepSpeed.

A Tune trial only drives its worker group: it reserves a token amount of memory and no CPU, because a trial
that held a CPU that its own workers need would deadlock. Reports of epochs and steps reach the sweep through
one queue.

A node that leaves is not a failure of the models trained on it. If the workers were on it, the trial trains
its group again; if the trial was on it, Tune restarts the trial; both resume from the checkpoints of the
training loop. A trial reports any other failure instead of raising it, so that Tune does not retry it.
"""

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from undertow.cluster.background import repeating
from undertow.cluster.placement_groups import without_orphans
from undertow.cluster.worker_failures import LOST_NODES, TRAINING, in_words, lost_node
from undertow.engines.quiet import quiet
from undertow.planning.pinning import is_nano
from undertow.planning.resources import START_SHARE, Machine, parts_of
from undertow.stages.training_group import Group, Watched, recipe_of, train_group
from undertow.stages.trials import group_name, group_parameters
from undertow.stages.weights import Trained
from undertow.storage.store import Store
from undertow.study.completions import Completions, ImportedCompletions
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.references import Reference
from undertow.study.rewriting import Rewritten
from undertow.study.row_scores import Ranked, RowScores, TokenScores
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.training.job import EpochReport, StepReport

TRIAL_MEMORY = 1_000_000  # bytes: a placement group may not be empty, and every node has memory
SECONDS_BETWEEN_REPORTS = 0.5
# Tokens per micro-batch. Small ones have less padding, which costs a CPU as much as other tokens: with 4,096
# the format tuning of SmolLM2 took 1.4 times as long.
MICRO_TOKENS, CPU_MICRO_TOKENS = 4096, 1024
NODE_LOSS_SECONDS = 30.0  # by its default settings Ray notices a vanished node within 15 seconds
S = TypeVar("S", bound=RowScores)


def groups(
    models: Sequence[Trained], slots: int, watch: Watched | None = None, system: str | None = None
) -> list[Group]:
    """Groups of models that share a start, divided so that all slots work to the end (`parts_of`).

    Nano models are divided only for slots without a group: their trainings are shorter than a start.
    """
    shared: dict[object, list[Trained]] = {}
    for model in models:
        shared.setdefault(_group_key(model), []).append(model)
    start = math.inf if all(is_nano(model.reference) for model in models) else START_SHARE
    parts = parts_of(list(map(len, shared.values())), slots, start)
    return [
        Group(tuple(members[i::parts]), watch or {}, system)
        for members in shared.values()
        for i in range(min(parts, len(members)))
    ]


def train(
    todo: Sequence[Group],
    store: Store,
    machine: Machine,
    on_report: Callable[[EpochReport], None],
    on_made: Callable[[str], None],
    on_note: Callable[[str, str], None] = lambda model_key, text: None,
    on_step: Callable[[StepReport], None] = lambda step: None,
) -> dict[str, str]:
    """Trains every group as one trial of a Ray Tune grid. Returns the reasons of failures by model key.

    Args:
        on_report: called with the report of every epoch of every model.
        on_made: called with the key of every model that is committed.
        on_note: called with a model's key and a deviation from its recipe (see `loop.finetune`).
        on_step: called every few seconds of a long training with the state after its last step.
    """
    import ray
    from ray import tune
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    set_environment_of_trials()
    scratch = _scratch(todo)
    # On the driver's node: on another node the queue could be lost while the driver lives.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    reports = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
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
    with (
        without_orphans(),
        listening(reports, on_report, on_made, failures.__setitem__, on_note, on_step),
    ):
        results = tuner.fit()
    store.drop_scratch(scratch)
    for result in results:
        reason = in_words(result.error, TRAINING) if result.error else (result.metrics or {}).get("failure")
        if reason:
            # A trial that was lost before its first report has no config that names its group.
            number = (result.config or {}).get("group")
            for group in todo if number is None else [todo[number]]:
                for model in group.models:
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
    tune.report({"group": config["group"], "failure": failure})


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


def _group_key(model: Trained) -> object:
    """A key that is equal for models that share a worker group.

    That is all seeds of a condition. Teachers and nano students are cheaper than the start of a worker group,
    so all of one reference model share a group, except students on soft targets: those of many students would
    not fit into memory.
    """
    if isinstance(model, Teacher):
        reference = _seedless_reference(model.reference)
        return dataclasses.replace(model, reference=reference, seed=0, trait=None, system=None)
    if is_nano(model.reference) and recipe_of(model).targets == "tokens":
        return model.reference.root, model.recipe
    return _seedless_student(model)


def _seedless_student(student: Student) -> Student:
    """The student with all seeds in its spec set to 0."""
    reference, dataset = _seedless_reference(student.reference), _seedless(student.dataset)
    return dataclasses.replace(student, reference=reference, seed=0, dataset=dataset)


def _seedless_reference(reference: Reference) -> Reference:
    """The reference model; if it is a student, with all seeds in that student's spec set to 0."""
    student = reference.student
    return reference if student is None else reference.changed(student=_seedless_student(student))


def _seedless(dataset: Dataset) -> Dataset:
    """The data set with all seeds in its spec set to 0."""
    completions = dataclasses.replace(dataset.completions, seed=0)
    if isinstance(completions, Rewritten):
        completions = dataclasses.replace(completions, dataset=_seedless(completions.dataset))
    if isinstance(completions, Completions):
        completions = dataclasses.replace(
            completions,
            teacher=_seedless_teacher(completions.teacher),
            sampler=completions.sampler
            and completions.sampler.changed(model=_seedless_reference(completions.sampler.model)),
        )
    mixed, selected, masked = dataset.mixed, dataset.selected, dataset.masked
    if mixed:
        mixed = dataclasses.replace(mixed, dataset=_seedless(mixed.dataset))
    if selected and isinstance(completions, Completions | ImportedCompletions):
        selected = dataclasses.replace(selected, scores=_seedless_scores(selected.scores, completions))
    if masked and masked.scores and isinstance(completions, Completions | ImportedCompletions):
        masked = dataclasses.replace(masked, scores=_seedless_scores(masked.scores, completions))
    return dataclasses.replace(
        dataset,
        completions=completions,
        seed=0,
        mixed=mixed,
        selected=selected,
        masked=masked,
        ranked=_seedless_pairs(dataset.ranked) if dataset.ranked else None,
    )


def _seedless_pairs(ranked: Ranked) -> Ranked:
    """The second answers and the scores of both with all seeds in their specs set to 0."""
    other = _seedless(ranked.other)
    one, second = ranked.scores, ranked.other_scores
    if one and second and isinstance(other.completions, Completions):
        first = other.completions.changed(sample=0)
        one, second = _seedless_scores(one, first), _seedless_scores(second, other.completions)
    return Ranked(other=other, scores=one, other_scores=second)


def _seedless_teacher(teacher: Teacher) -> Teacher:
    """The teacher with all seeds in its spec set to 0."""
    return dataclasses.replace(
        teacher,
        reference=_seedless_reference(teacher.reference),
        seed=0,
        student=_seedless_student(teacher.student) if teacher.student else None,
    )


def _seedless_scores(scores: S, completions: Completions | ImportedCompletions) -> S:
    """The scores of `completions`, which have no seeds, by teachers without seeds."""
    if isinstance(scores, TokenScores):
        return dataclasses.replace(
            scores,
            completions=completions,
            teacher=_seedless_teacher(scores.teacher),
            control=_seedless_teacher(scores.control),
        )
    return dataclasses.replace(scores, completions=completions)


@contextmanager
def listening(
    reports: Any,
    on_report: Callable[[EpochReport], None],
    on_made: Callable[[str], None],
    on_failed: Callable[[str, str], None],
    on_note: Callable[[str, str], None],
    on_step: Callable[[StepReport], None],
) -> Iterator[Callable[[], None]]:
    """Forwards the workers' reports while the block runs; gives it a function that forwards them at once.

    (A Tune callback in their place would have to be picklable.)
    """
    draining = threading.Lock()

    def drain() -> None:
        errors: list[Exception] = []
        with draining:
            while waiting := reports.qsize():
                for report in reports.get_nowait_batch(waiting):
                    try:
                        forward(report)
                    except Exception as error:  # the other reports are forwarded first
                        errors.append(error)
        if errors:
            raise errors[0]

    def forward(report: Mapping[str, Any]) -> None:
        if "made" in report:
            on_made(report["made"])
        elif "failed" in report:
            on_failed(report["failed"], report["reason"])
        elif "noted" in report:
            on_note(report["noted"], report["text"])
        elif "step" in report:
            on_step(StepReport(**report["step"]))
        else:
            on_report(EpochReport(**report["epoch"]))

    try:
        with repeating(SECONDS_BETWEEN_REPORTS, drain):
            yield drain
    finally:
        drain()
        reports.shutdown()
