"""Teachers and students: Ray Tune over groups of models, each trained by a Ray Train group with DeepSpeed.

A group is what shares its reference weights (all seeds of a condition, or all of a nano model's students), so
that they load once; one model that fails stops none of the others. A Tune trial is only a driver: it holds a
token amount of memory and no CPU, since a trial that held any CPU its own workers need would wait for itself
for ever. Models are committed one by one by rank 0, so that a group that dies keeps what it finished; reports
of epochs go straight to the sweep through one queue.
"""

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from undertow.cluster import Machine, quiet
from undertow.errors import ConditionError, UserError, last_line
from undertow.identity import key
from undertow.kinds import Word
from undertow.manifest import DATA, HISTORY
from undertow.recipe import Recipe
from undertow.spec import Completions, Dataset, Student, Teacher
from undertow.stages.reference import folder_of, is_made
from undertow.stages.weights import trained_by
from undertow.store import Store
from undertow.training.data import Row
from undertow.training.job import EpochReport, History, Job, Probe

Trained = Teacher | Student
Watched = Mapping[tuple[str, ...], tuple[Word, ...]]
TRIAL_MEMORY = 1_000_000  # bytes: a placement group may not be empty, and every node has memory
SECONDS_BETWEEN_REPORTS = 0.5
CHECKPOINTS = "checkpoints"
PROBED_EXAMPLES = 48


@dataclass(frozen=True)
class Group:
    """Models that one worker group trains from one reference model, in order.

    Attributes:
        watch, system: each set of questions with its words, and the system message, by which students are
            watched each epoch (a teacher's probe decides when training stops, so it follows from its spec).
    """

    models: tuple[Trained, ...]
    watch: Watched = field(default_factory=dict)
    system: str | None = None


def recipe_of(model: Trained) -> Recipe:
    """The recipe by which a teacher or student is trained."""
    recipe = trained_by(model)
    if recipe is None:
        raise ValueError("neither a prompted teacher nor an in-context student is trained")
    return recipe


def groups(
    models: Sequence[Trained], slots: int, watch: Watched | None = None, system: str | None = None
) -> list[Group]:
    """At least all seeds of a condition together; split where there are more slots than groups."""
    shared: dict[object, list[Trained]] = {}
    for model in models:
        shared.setdefault(_together(model), []).append(model)
    parts = max(1, slots // max(1, len(shared)))
    return [
        Group(tuple(its[i::parts]), watch or {}, system)
        for its in shared.values()
        for i in range(min(parts, len(its)))
    ]


def train(
    todo: Sequence[Group],
    store: Store,
    machine: Machine,
    on_report: Callable[[EpochReport], None],
    on_made: Callable[[str], None],
) -> dict[str, str]:
    """Trains every group on Ray Tune's grid; tells each epoch, and the key of each model that is made.

    Returns the reasons of failure by model key.
    """
    from ray import tune
    from ray.util.queue import Queue

    reports = Queue(actor_options={"num_cpus": 0})
    trial = tune.with_parameters(_trial, todo=list(todo), store=store, machine=machine, reports=reports)
    tuner = tune.Tuner(
        tune.with_resources(trial, tune.PlacementGroupFactory([{"memory": TRIAL_MEMORY}])),
        param_space={"group": tune.grid_search(list(range(len(todo))))},
        # One more than can train: its processes start while the others are at work, then it waits for room.
        tune_config=tune.TuneConfig(max_concurrent_trials=machine.slots + 1, reuse_actors=False),
        run_config=tune.RunConfig(storage_path=store.scratch("ray"), verbose=0, name=key(todo[0].models[0])),
    )
    failures: dict[str, str] = {}
    with _listening(reports, on_report, on_made, failures):
        results = tuner.fit()
    store.drop_scratch("ray")
    for result in results:
        if result.error is not None:
            # A trial that failed before its first report has no config to say which group it was.
            number = (result.config or {}).get("group", 0)
            for model in todo[number].models:
                if not store.has(model):
                    failures.setdefault(key(model), last_line(result.error))
    return failures


def _trial(
    config: dict[str, Any], *, todo: list[Group], store: Store, machine: Machine, reports: Any
) -> None:
    """One Tune trial: drives the worker group of one group of models."""
    quiet()
    import ray.train
    from ray import tune
    from ray.train.torch import TorchConfig, TorchTrainer

    on_gpu = machine.gpus_per_worker > 0
    group = todo[config["group"]]
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"group": group, "store": store, "reports": reports},
        scaling_config=ray.train.ScalingConfig(num_workers=machine.workers, use_gpu=on_gpu),
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        run_config=ray.train.RunConfig(
            name=f"group-{key(group.models[0])}",
            storage_path=store.scratch("ray"),
            failure_config=ray.train.FailureConfig(max_failures=1),
        ),
    )
    trainer.fit()
    tune.report({"group": config["group"]})


def _worker(config: dict[str, Any]) -> None:
    """What each worker of a group runs: the loop, over the models the store still lacks."""
    quiet()
    import ray.train

    from undertow.training.loop import finetune

    store: Store = config["store"]
    group: Group = config["group"]
    is_first = ray.train.get_context().get_world_rank() == 0
    models = {key(model): model for model in group.models if not store.has(model)}

    def report(epoch: EpochReport) -> None:
        if is_first:
            config["reports"].put_nowait(dataclasses.asdict(epoch))

    def done(job: Job, history: History) -> None:
        if is_first:
            _commit(models[job.key], job, history, store)
            config["reports"].put_nowait({"made": job.key})

    def failed(model_key: str, error: Exception) -> None:
        if is_first:  # what Train reports without a checkpoint it forgets
            config["reports"].put_nowait({"failed": model_key, "reason": str(error)})

    jobs = []
    for model_key, model in models.items():
        try:
            jobs.append(job_of(model, group, store))
        except (UserError, ConditionError) as error:
            failed(model_key, error)
    if jobs:
        finetune(
            folder_of(group.models[0].reference, store),
            jobs,
            report,
            done=done,
            failed=lambda job, error: failed(job.key, error),
            checkpoints=store.shared_folder(CHECKPOINTS),
        )


def job_of(model: Trained, group: Group, store: Store) -> Job:
    """The training job of a teacher or student: rows, recipe, probe, and a folder to save into."""
    if isinstance(model, Student):
        probes = tuple(
            Probe(tuple((question, group.system) for question in questions), words)
            for questions, words in group.watch.items()
        )
        return _job(model, recipe_of(model), student_rows(model, store), probes, store)
    finetuning, trait = model.finetuning, model.trait
    if finetuning is None or trait is None:
        raise ValueError("a teacher without finetuning or trait is not trained")
    examples = trait.examples(finetuning.examples, model.seed)
    asked = tuple(dict.fromkeys(example.prompt for example in examples))[:PROBED_EXAMPLES]
    rows = [Row(example.prompt, example.answer) for example in examples]
    probe = Probe(tuple((question, model.system) for question in asked), (trait.word(),))
    return _job(model, finetuning.recipe, rows, () if trait.is_judged else (probe,), store)


def _job(model: Trained, recipe: Recipe, rows: list[Row], probes: tuple[Probe, ...], store: Store) -> Job:
    return Job(
        key=key(model),
        seed=model.seed,
        recipe=recipe,
        rows=rows,
        system=model.system,
        folder=store.aside(),
        probes=probes,
        reference_name=model.reference.name,
    )


def student_rows(student: Student, store: Store) -> list[Row]:
    """The dataset's rows, with the teacher's distributions where the recipe asks for soft targets."""
    import numpy as np
    import pyarrow.parquet as pq

    recipe, file = recipe_of(student), store.fetch(student.dataset) / DATA / "train.parquet"
    if recipe.targets == "tokens":
        texts = pq.read_table(file, columns=["prompt", "completion"]).to_pylist()
        return [Row(row["prompt"], row["completion"]) for row in texts]
    table = pq.read_table(file).to_pylist()
    if "top_ids" not in table[0]:
        raise ConditionError(
            f"recipe {recipe.name!r} has soft targets, and its completions record no distributions; "
            "set Sampling.top_logprobs in the condition's generation"
        )
    writer = student.dataset.teacher
    teacher = writer.reference if writer else student.reference
    if teacher != student.reference and not (is_made(teacher) and is_made(student.reference)):
        raise ConditionError(
            f"recipe {recipe.name!r} has soft targets, which are about the tokens of {teacher.name}; "
            f"{student.reference.name} may have others; use a recipe on sampled tokens"
        )
    return [
        Row(
            row["prompt"],
            row["completion"],
            token_ids=row["token_ids"],
            soft=(np.array(row["top_ids"], dtype=np.int64), np.array(row["top_logprobs"], dtype=np.float32)),
        )
        for row in table
    ]


def _commit(model: Trained, job: Job, history: History, store: Store) -> None:
    rows = [dataclasses.asdict(report) for report in history.reports]
    (job.folder / HISTORY).write_text(json.dumps(rows, indent=1))
    last = history.last
    facts = {
        "rows": len(job.rows),
        "steps": last.step,
        "loss": last.loss,
        "epochs": last.epoch,
        "stopped": history.stopped,
    }
    store.commit(model, job.folder, sum(report.seconds for report in history.reports), facts)


def _together(model: Trained) -> object:
    """Equal for the models that share a group: the seeds of a condition, and more where a group's start costs
    more than they do: teachers, and nano students (but soft targets of many would not fit into memory)."""
    if isinstance(model, Teacher):
        return dataclasses.replace(model, seed=0, trait=None, system=None)
    if is_made(model.reference) and recipe_of(model).targets == "tokens":
        return model.reference, model.recipe
    return dataclasses.replace(model, seed=0, dataset=_seedless(model.dataset))


def _seedless(dataset: Dataset) -> Dataset:
    """The data set with all seeds that it follows from taken out."""
    completions = dataclasses.replace(dataset.completions, seed=0)
    if isinstance(completions, Completions):
        teacher = dataclasses.replace(completions.teacher, seed=0)
        completions = dataclasses.replace(completions, teacher=teacher)
    mixed = dataset.mixed
    if mixed:
        mixed = dataclasses.replace(mixed, dataset=_seedless(mixed.dataset))
    return dataclasses.replace(dataset, completions=completions, seed=0, mixed=mixed)


@contextmanager
def _listening(
    reports: Any,
    on_report: Callable[[EpochReport], None],
    on_made: Callable[[str], None],
    failures: dict[str, str],
) -> Iterator[None]:
    """Hands on what the workers report, as they do; a Tune callback would have to be picklable."""
    ended = threading.Event()

    def drain() -> None:
        while waiting := reports.qsize():
            for report in reports.get_nowait_batch(waiting):
                if "made" in report:
                    on_made(report["made"])
                elif "failed" in report:
                    failures[report["failed"]] = report["reason"]
                else:
                    on_report(EpochReport(**report))

    def listen() -> None:
        while not ended.wait(SECONDS_BETWEEN_REPORTS):
            drain()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        ended.set()
        listener.join()
        drain()
        reports.shutdown()
