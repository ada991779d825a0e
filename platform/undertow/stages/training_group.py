"""A group of models that one Ray Train worker group trains, and the function that each worker runs.

The models of a group share their reference weights (all seeds of a condition, or all students of a nano
model), so that these load once, or start from students of one such group. A model that fails does not stop
the others. Rank 0 commits the models one by one, so that finished models survive the death of the group.
"""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.engines.lean_imports import import_transformers
from undertow.engines.quiet import quiet
from undertow.engines.weight_files import ModelFolder
from undertow.errors import ConditionError, UserError
from undertow.planning.given_models import is_nano, model_of
from undertow.stages.conversations import training_examples
from undertow.stages.weights import Trained, start_of, trained_by
from undertow.storage.manifest import HISTORY, TRAINING_ROWS
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.extensions import Word
from undertow.study.identity import key, seed_for
from undertow.study.recipe import Recipe
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.training.data import TrainingRow
from undertow.training.job import History, Probe, TrainingJob

if TYPE_CHECKING:  # imports torch
    from undertow.training.workers import Workers

Watched = Mapping[tuple[str, ...], tuple[Word, ...]]
KnownRows = dict[tuple[Reference, Dataset, Recipe], list[TrainingRow]]
CHECKPOINTS = "checkpoints"
PROBED_EXAMPLES = 48  # prompts of a teacher's training examples that its probe asks after each epoch


@dataclass(frozen=True)
class Group:
    """Models that one worker group trains from one reference model, or its students, in order.

    Attributes:
        watch, system: the questions with their words, and the system message, for the probe of students after
            each epoch. A teacher's probe decides when its training stops, so it follows from its own spec.
    """

    models: tuple[Trained, ...]
    watch: Watched = field(default_factory=dict)
    system: str | None = None


def recipe_of(model: Trained) -> Recipe:
    """The recipe by which a worker group trains a teacher or student. Raises ValueError without one."""
    recipe = trained_by(model)
    if not isinstance(recipe, Recipe):
        raise ValueError(
            "prompted teachers, in-context students and API models are not trained in worker groups"
        )
    return recipe


def train_group(config: dict[str, Any]) -> None:
    """Runs in each worker of a group: the training loop over the models that the store still lacks."""
    quiet()
    import_transformers()
    from undertow.training.loop import finetune
    from undertow.training.workers import join

    store: Store = config["store"]
    group: Group = config["group"]
    workers = join("auto", config["threads"])
    models = {key(model): model for model in group.models}

    def send(**message: Any) -> None:
        config["reports"].put_nowait(message)

    def done(job: TrainingJob, history: History) -> None:
        commit_trained(models[job.key], job, history, store)
        send(made=job.key)

    aside = store.aside()
    try:
        jobs, reasons = _jobs(group, store, aside, workers)
        for model_key, reason in reasons.items() if workers.rank == 0 else ():
            send(failed=model_key, reason=reason)
        for start, of_start in jobs.items():
            finetune(  # which calls these functions on rank 0 only
                start.folder,
                of_start,
                lambda epoch: send(epoch=dataclasses.asdict(epoch)),
                changes=start.changes,
                done=done,
                failed=lambda job, error: send(failed=job.key, reason=str(error)),
                note=lambda job, text: send(noted=job.key, text=text),
                on_step=lambda step: send(step=dataclasses.asdict(step)),
                checkpoints=store.scratch(CHECKPOINTS),
                threads=config["threads"],
                micro_tokens=config["micro_tokens"],
            )
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _jobs(
    group: Group, store: Store, aside: Path, workers: "Workers"
) -> tuple[dict[ModelFolder, list[TrainingJob]], dict[str, str]]:
    """The jobs by the model they start from, and why models have none, by key. The same on every rank.

    One worker may fail to read what the others have read: its node has no token, or lost its connection. If
    it trained other models than they do, its gradients would be added to those of theirs. So all leave out
    what one of them leaves out. Collective.
    """
    found: dict[str, tuple[ModelFolder, TrainingJob]] = {}
    left_out: dict[str, str] = {}
    known: KnownRows = {}
    for model in group.models:
        # After a restart of the group (a node left), the store has the models that were committed before.
        if store.has(model):
            left_out[key(model)] = ""
            continue
        try:
            start = model_of(start_of(model), store)
            found[key(model)] = start, job_of(model, group, store, aside, known)
        except (UserError, ConditionError) as error:
            left_out[key(model)] = str(error)
    for of_worker in workers.gathered(left_out):
        left_out = of_worker | left_out
    jobs: dict[ModelFolder, list[TrainingJob]] = {}
    for model_key, (start, job) in found.items():
        if model_key not in left_out:
            jobs.setdefault(start, []).append(job)
    return jobs, {model_key: reason for model_key, reason in left_out.items() if reason}


def job_of(
    model: Trained, group: Group, store: Store, aside: Path, known: KnownRows | None = None
) -> TrainingJob:
    """The training job of a teacher or student; the trained model is written to a folder in `aside`.

    Args:
        known: the rows of the group's other students. One that learns from the same rows gets the same list,
            so that they are in memory and tokenized once.
    """
    probes: tuple[Probe, ...] = ()
    if isinstance(model, Student):
        known = {} if known is None else known
        place = model.reference, model.dataset, recipe_of(model)
        if place not in known:
            known[place] = student_rows(model, store)
        rows = known[place]
        probes = tuple(
            Probe(tuple((question, group.system) for question in questions), words)
            for questions, words in group.watch.items()
        )
    else:
        rows = _token_rows(model, store)
        # A judged trait cannot be read from probabilities of words, so its recipe must not set `stop_at`.
        if model.trait is not None and not model.trait.is_judged:
            prompts = tuple(dict.fromkeys(row.prompt for row in rows))[:PROBED_EXAMPLES]
            questions = tuple((prompt, model.system) for prompt in prompts)
            probes = (Probe(questions, (model.trait.word(),)),)
    return TrainingJob(
        key=key(model),
        seed=model.seed,
        recipe=recipe_of(model),
        rows=rows,
        system=model.system,
        folder=aside / key(model),
        probes=probes,
        reference_name=start_of(model).label,
        reference_key=key(start_of(model)),
        adapter_seed=adapter_seed(model),
    )


def adapter_seed(model: Trained) -> int | None:
    """The seed of LoRA's initial weights; None for the model's own.

    A student that began with its teacher's adapter would share more than the reference model with it: the
    directions in which both can move. So each role and each hop of a chain draws adapters of its own.
    """
    if not isinstance(model, Student):
        return seed_for("adapter of teachers", model.seed)
    return seed_for("adapter of hop", model.hop, model.seed) if model.hop > 1 else None


def student_rows(student: Student, store: Store) -> list[TrainingRow]:
    """The data set's rows, with the distributions, masks or rejected answers that the training needs."""
    import pyarrow.parquet as pq

    from undertow.stages import distributions

    recipe = recipe_of(student)
    is_masked = student.dataset.masked is not None
    if recipe.preference_beta:
        file = store.fetch(student.dataset) / TRAINING_ROWS
        rejected = pq.read_table(file, columns=["rejected"])["rejected"].to_pylist()
        chosen = _token_rows(student, store)
        return [dataclasses.replace(row, rejected=r) for row, r in zip(chosen, rejected, strict=True)]
    if recipe.targets == "tokens" and not is_masked:
        return _token_rows(student, store)
    table = pq.read_table(store.fetch(student.dataset) / TRAINING_ROWS)
    if not is_masked and distributions.IDS not in table.column_names:
        raise ConditionError(
            f"recipe {recipe.name!r} needs soft targets, but its completions have no distributions; "
            "set Sampling.top_logprobs in the condition's generation"
        )
    # Soft targets and masks are about tokens of the teacher. All nano models share one tokenizer; others may
    # differ.
    own, teacher = student.reference.root, student.reference.root
    if student.dataset.teacher:
        teacher = student.dataset.teacher.reference.root.changed(precision=own.precision)
    if teacher != own and not (is_nano(teacher) and is_nano(own)):
        what = "the data set has masks" if is_masked else f"recipe {recipe.name!r} has soft targets"
        remedy = "leave out the mask" if is_masked else "use a recipe on sampled tokens"
        raise ConditionError(
            f"{what} over the tokens of {teacher.name}, but {own.name} may have other tokens; {remedy}"
        )
    if is_masked:
        return [
            TrainingRow(row["prompt"], row["completion"], token_ids=row["token_ids"], mask=row["mask"])
            for row in table.select(["prompt", "completion", "token_ids", "mask"]).to_pylist()
        ]
    rows = table.select(["prompt", "completion", "token_ids"]).to_pylist()
    return [
        TrainingRow(row["prompt"], row["completion"], token_ids=row["token_ids"], soft=soft)
        for row, soft in zip(rows, distributions.from_table(table), strict=True)
    ]


def _token_rows(model: Trained, store: Store) -> list[TrainingRow]:
    """The texts of a model's training data, whose targets are their own tokens."""
    examples = training_examples(model, store)
    return [TrainingRow(example.prompt, example.answer, system=example.system) for example in examples]


def commit_trained(model: Trained, job: TrainingJob, history: History, store: Store) -> None:
    """Commits a trained model with the reports of its epochs; the last one's values become facts."""
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
    if job.recipe.overlong == "cut":
        facts |= {"rows cut": history.cut, "rows dropped": history.dropped}
    if history.held_out:
        facts["rows held out"] = history.held_out
    store.commit(model, job.folder, sum(report.seconds for report in history.reports), facts)
