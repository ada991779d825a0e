"""The training loop: finetunes any number of models from one reference model.

    finetune(folder, jobs, report=print)

The loss of a batch is the mean over the completion tokens of the whole batch, or over its pairs of answers
(see `preferences`). Every worker knows all rows, so each can divide its own sum by the batch's number of
tokens or pairs without communication. The gradient is then the same for one worker or eight, and for any
split into micro-batches, up to the order of summation.

Call `finetune` with the same arguments in every worker of a process group. Outside of a process group it
creates a group of one.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undertow.engines.weight_files import STEP_FOLDER
from undertow.errors import ConditionError, UserError
from undertow.study.fields import unique
from undertow.study.identity import seed_for
from undertow.training import deepspeed_engine, packing, result
from undertow.training.checkpoint import Checkpoints
from undertow.training.data import epoch_batches, held_back, micro_batches, sequence_batches
from undertow.training.forward import FullForward
from undertow.training.job import EpochReport, History, TrainingJob
from undertow.training.objective import summed_loss
from undertow.training.preferences import in_pairs, margins, preference_loss
from undertow.training.served_rows import CheckedRows
from undertow.training.shared import SharedState, TimedProbes
from undertow.training.step_reports import OnStep, Step, StepReporter
from undertow.training.workers import deepspeed, join

PROBE_EVERY = 5  # steps between two evaluations of the probe, if training stops by it

OnReport = Callable[[EpochReport], None]
OnNote = Callable[[TrainingJob, str], None]
OnDone = Callable[[TrainingJob, History], None]
OnFailed = Callable[[TrainingJob, UserError | ConditionError], None]


def finetune(
    reference_folder: Path,
    jobs: Sequence[TrainingJob],
    report: OnReport,
    *,
    device: str = "auto",
    done: OnDone = lambda job, history: None,
    failed: OnFailed | None = None,
    note: OnNote = lambda job, text: None,
    on_step: OnStep | None = None,
    checkpoints: str | None = None,
    changes: Sequence[Path] = (),
    threads: int = 1,
    micro_tokens: int = 4096,
) -> list[History]:
    """Trains each job's model from the reference in `reference_folder` and saves it in the job's folder.

    The callbacks are called on rank 0 only.

    Args:
        report: called before the first epoch and after each epoch.
        device: "auto", "cpu" or "cuda".
        done: called when a job's model has been saved in its folder.
        failed: called with a job's error; the remaining jobs continue. Without it the error is raised.
        note: called if training deviates from the request without affecting the result (an unusable
            checkpoint, or rows that cannot be packed), and if rows were cut.
        on_step: called every few seconds with the state after the last step; results do not depend on it.
            Give it on every rank or on none.
        changes: trained tensors that replace some of the reference's (see `ModelFolder`).
        checkpoints: URL of a folder that all workers can access. A repeated call resumes from it.
        threads: torch threads per worker on a CPU.
        micro_tokens: maximum tokens per micro-batch, including padding unless rows are packed. Affects
            memory, not results.

    Returns the histories of the jobs that did not fail, in order. All ranks return the same.

    Raises:
        ConditionError: rows are too long, a loss is not finite, or training changed nothing.
        SpecError: the model lacks a LoRA target or a named parameter.
    """
    unique([job.key for job in jobs], "jobs")
    workers = join(device, threads, any(job.recipe.offload != "none" for job in jobs))
    deepspeed()  # here, so that `deepspeed_engine.fast_release` leaves out what its import makes
    # The reference is read once for all jobs: a single fp32 job needs it in float32.
    is_bf16 = all(job.recipe.precision == "bf16" for job in jobs)
    dtype = torch.bfloat16 if is_bf16 else torch.float32
    reference = result.LoadedReference.read(reference_folder, dtype, changes)
    shared = SharedState(reference, workers, checkpoints, micro_tokens)
    is_first = workers.rank == 0
    if not is_first:
        report, note = lambda epoch: None, lambda job, text: None
    histories = []
    with deepspeed_engine.fast_release():
        for job in jobs:
            try:
                run = _TrainingRun(job, shared, report, note, on_step)
                history = run.train_and_save()
            # These errors follow from data that all ranks share, so every rank raises them at the same point
            # and continues with the next job. Any other error ends the process, and its process group too.
            except (UserError, ConditionError) as error:
                if failed is None:
                    raise
                if is_first:
                    failed(job, error)
                continue
            if is_first:
                done(job, history)
            # Only after `done` has committed the model: a process killed in between would train it again.
            run.checkpoints.drop()
            histories.append(history)
    return histories


@dataclass(frozen=True)
class _Epoch:
    """Results of one epoch. `stopped`: the probe reached `Recipe.stop_at`, and the epoch ended early."""

    loss: float
    tokens: int
    seconds: float
    stopped: bool


class _TrainingRun:
    """One job, from the reference model to the saved model."""

    def __init__(
        self, job: TrainingJob, shared: SharedState, report: OnReport, note: OnNote, on_step: OnStep | None
    ) -> None:
        self.job, self.shared, self.report, self.note = job, shared, report, note
        self.rows = shared.rows(job)
        self.lengths = [sum(len(sequence.ids) for sequence in row.sequences) for row in self.rows]
        self.sizes = [row.padded_length for row in self.rows]
        self.terms = [1 if job.recipe.preference_beta else row.targets for row in self.rows]  # of the loss
        self.reference_margins: list[float] = []
        self.probes = shared.probes(job)
        self.steps = self._number_of_steps()
        self.checkpoints = Checkpoints(shared.checkpoints, job, shared.workers)
        self.reporter = StepReporter(
            job, shared.workers, on_step, self.steps, sum(self.lengths) * job.recipe.epochs
        )
        self.reports: list[EpochReport] = []
        self.step = 0
        self.probe_seconds: float | None = None  # of the last probes after an epoch
        if job.recipe.keep_steps and job.recipe.keep_steps[-1] >= self.steps:
            raise ConditionError(
                f"{job.key}: Recipe.keep_steps = {job.recipe.keep_steps}, and the training has {self.steps} "
                f"steps, of which the last is always measured; name steps below {self.steps}"
            )

    def train_and_save(self) -> History:
        """Trains the model, checks it and saves it. Every rank returns the same history."""
        # Before the model: LoRA draws its initial weights.
        seed = self.job.seed if self.job.adapter_seed is None else self.job.adapter_seed
        torch.manual_seed(seed % 2**63)  # a user's seed may be larger than torch accepts
        model = self.shared.model(self.job)
        before = deepspeed_engine.trained_state(model)
        self.forward = self.shared.forward(self.job, model)
        self.engine = deepspeed_engine.start(self.forward.module, self.job.recipe, self.steps)
        checked = CheckedRows(self.rows, self.shared.reference.positions, self.shared.budget)
        try:
            # Before a checkpoint is restored: a new adapter has no effect, and other weights are unchanged.
            untrained = checked.logprobs(self.engine, self.forward)
            if self.job.recipe.preference_beta:
                self.reference_margins = self._margins()
            stopped = self._train(lambda: self._keep_step(model, checked, untrained))
            after = deepspeed_engine.trained_state(model)
            result.check(self.shared.reference, model, before, after, self.job)
            trained = checked.logprobs(self.engine, self.forward)
            if self.shared.workers.rank == 0:
                result.save(self.shared.reference, model, after, self.job)
                checked.write(self.job.folder, untrained, trained)
        finally:
            # The last reference to the engine is given up here: `release` cannot free what this object holds.
            deepspeed_engine.release(self.__dict__.pop("engine"))
        history = self._history(stopped)
        # Rows that a token mask drops are counted in the data set's card instead.
        if self.job.recipe.overlong == "cut" and (history.cut or history.dropped):
            self.note(
                self.job,
                f"{history.cut:,} of {len(self.job.rows):,} rows were cut at Recipe.max_length = "
                f"{self.job.recipe.max_length}, and {history.dropped:,} had no answer left and were dropped",
            )
        return history

    @torch.no_grad()
    def _margins(self) -> list[float]:
        """The margin of each pair of answers by the model as it is now, on every rank. Collective."""
        workers, found = self.shared.workers, torch.zeros(len(self.rows), dtype=torch.float64)
        self.engine.eval()  # without dropout; no random number is drawn
        shares = micro_batches(self.sizes, range(len(self.rows)), workers.world, self.shared.budget)
        for part in shares[workers.rank]:
            answers = in_pairs([self.rows[row] for row in part])
            found[part] = margins(self.forward.logits(self.engine, answers), answers).double().cpu()
        return list(map(float, workers.summed(found)))

    def _keep_step(self, model: Any, checked: CheckedRows, untrained: list[tuple[float, ...]]) -> None:
        """Saves the model as it is now in a folder of the job's, if the recipe keeps this step. Collective.

        The folder has the files of a finished model, so that it is served and checked like one. No random
        number is drawn, so that the training continues as without it.
        """
        if self.step not in self.job.recipe.keep_steps:
            return
        state = deepspeed_engine.trained_state(model)
        trained = checked.logprobs(self.engine, self.forward)
        self.engine.train()
        if self.shared.workers.rank == 0:
            kept = dataclasses.replace(self.job, folder=self.job.folder / STEP_FOLDER.format(self.step))
            result.save(self.shared.reference, model, state, kept)
            checked.write(kept.folder, untrained, trained)

    def _batches(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, as row numbers."""
        recipe, seed = self.job.recipe, self.job.seed
        if recipe.batch_of == "rows":
            return epoch_batches(len(self.rows), recipe.batch_size, seed, epoch)
        return sequence_batches(self.lengths, recipe.batch_size, recipe.max_length, seed, epoch)

    def _number_of_steps(self) -> int:
        recipe = self.job.recipe
        if recipe.batch_of == "rows":
            return math.ceil(len(self.rows) / recipe.batch_size) * recipe.epochs
        # The number of sequences differs between epochs: their order decides which rows fit together.
        return sum(len(self._batches(epoch)) for epoch in range(1, recipe.epochs + 1))

    def _history(self, stopped: bool) -> History:
        given, held_out = len(self.job.rows), held_back(len(self.job.rows), self.job.recipe.held_out)
        return History(
            self.job.key,
            self.job.seed,
            tuple(self.reports),
            stopped,
            cut=sum(row.is_cut for row in self.rows),
            dropped=given - len(held_out) - len(self.rows),
            held_out=len(held_out),
        )

    def _train(self, after_step: Callable[[], None]) -> bool:
        """Runs the remaining epochs and calls `after_step` after each step.

        Returns True if the probe ended training.
        """
        self.engine.train()
        self.reports, unusable = self.checkpoints.restore(self.engine)
        if unusable:
            self.note(self.job, unusable)
        self._enable_packing()
        if self.reports:
            self.step = self.reports[-1].step
        else:
            self._finish_epoch(0, None)
        for number in range(self.reports[-1].epoch + 1, self.job.recipe.epochs + 1):
            epoch = self._run_epoch(number, after_step)
            self._finish_epoch(number, epoch)
            if epoch.stopped:
                return True
        return False

    def _enable_packing(self) -> None:
        """Packs rows from now on if the recipe requests it and the model keeps packed rows apart."""
        forward = self.forward
        if self.job.recipe.packing and isinstance(forward, FullForward):
            forward.packing = packing.keeps_rows_apart(forward, self.engine, self.rows)
            if not forward.packing:
                architecture = type(self.shared.reference.model).__name__
                self.note(self.job, f"{architecture} does not keep packed rows apart; they are padded")

    def _finish_epoch(self, number: int, epoch: _Epoch | None) -> None:
        """Evaluates the probes, saves a checkpoint, then reports.

        In this order: an epoch that was reported is never trained a second time.
        """
        probabilities, self.probe_seconds = self._timed_probes() if epoch else self._untrained_probes()
        entry = EpochReport(
            key=self.job.key,
            seed=self.job.seed,
            epoch=number,
            step=self.step,
            loss=epoch.loss if epoch else None,
            learning_rate=self.rate if epoch else 0.0,
            tokens_per_second=epoch.tokens / epoch.seconds if epoch else 0.0,
            probabilities=probabilities,
            seconds=epoch.seconds if epoch else 0.0,
        )
        self.reports.append(entry)
        if epoch and not epoch.stopped:
            self.checkpoints.save(self.engine, self.reports)
        self.report(entry)

    def _timed_probes(self) -> TimedProbes:
        start = time.perf_counter()
        probabilities = self._probabilities()
        return probabilities, time.perf_counter() - start

    def _untrained_probes(self) -> TimedProbes:
        """The same before training, evaluated once for all jobs of a recipe: a new adapter has no effect.

        Not with `LastNormForward`, whose rounding depends on the job's rows.
        """
        if not isinstance(self.forward, FullForward):
            return self._timed_probes()
        # Packing also depends on the job's rows, and changes rounding.
        known, place = self.shared.untrained_probes, (self.job.recipe, self.job.probes, self.forward.packing)
        if place not in known:
            known[place] = self._timed_probes()
        return known[place]

    def _probabilities(self) -> dict[str, float]:
        """The probabilities of all probes. Collective under ZeRO 3."""
        probabilities: dict[str, float] = {}
        for probe in self.probes:
            probabilities |= probe.probabilities(self.engine, self.forward)
        return probabilities

    def _run_epoch(self, number: int, after_step: Callable[[], None]) -> _Epoch:
        start, loss, targets, tokens, stopped = time.perf_counter(), 0.0, 0, 0, False
        # Dropout is seeded per epoch, so that a resumed training draws the same numbers, and per rank, so
        # that workers do not drop the same positions.
        torch.manual_seed(seed_for("dropout", self.job.seed, number, self.shared.workers.rank))
        probed = self.reporter.probe_seconds
        self.reporter.begin_epoch(self.step, sum(self.lengths) * (number - 1), self.probe_seconds)
        for batch in self._batches(number):
            batch_targets = sum(self.terms[row] for row in batch)
            mean = self._step(batch, batch_targets)
            loss += mean * batch_targets
            targets += batch_targets
            batch_tokens = sum(self.lengths[row] for row in batch)
            tokens += batch_tokens
            self.reporter.after_step(
                Step(self.step, mean, self.rate, batch_targets, batch_tokens),
                lambda: deepspeed_engine.gradient_norm(self.engine),
                self._probabilities if self.probes else None,
            )
            after_step()
            if stopped := self._has_reached_stop():
                break
        seconds = time.perf_counter() - start - (self.reporter.probe_seconds - probed)
        return _Epoch(loss / targets, tokens, seconds, stopped)

    def _step(self, batch: list[int], targets: int) -> float:
        """One optimizer step; returns the mean loss over the `targets` of the batch: tokens, or pairs."""
        workers = self.shared.workers
        total = torch.zeros((), device=workers.device)
        parts = micro_batches(
            self.sizes, batch, workers.world, self.shared.budget, packing=self.forward.packing
        )
        for part in parts[workers.rank]:
            loss = self._loss(part)
            # DeepSpeed averages gradients over the workers, whatever their numbers of tokens: the factor
            # turns its mean of sums into the sum over all workers, divided by the batch's tokens.
            self.engine.backward(loss * (workers.world / targets))
            total += loss.detach()
        self.rate = float(self.engine.get_lr()[0])  # before `step`, which advances the schedule
        mean = workers.mean(float(total), targets)
        # Checked before `step`, on the mean of all workers: every rank raises, and no weight becomes NaN.
        if not math.isfinite(mean):
            raise ConditionError(
                f"{self.job.key}: the loss is {mean} at step {self.step + 1}, learning rate {self.rate:g}; "
                "lower Recipe.learning_rate, or warm up for longer"
            )
        self.engine.step()
        self.step += 1
        return mean

    def _loss(self, part: list[int]) -> Tensor:
        """The loss summed over the rows of a micro-batch."""
        rows, beta = [self.rows[row] for row in part], self.job.recipe.preference_beta
        if not beta:
            logits = self.forward.logits(self.engine, rows)
            return summed_loss(logits, rows, self.job.recipe.divergence)
        answers = in_pairs(rows)
        reference = [self.reference_margins[row] for row in part]
        return preference_loss(self.forward.logits(self.engine, answers), answers, reference, beta)

    def _has_reached_stop(self) -> bool:
        """Whether the first word of the first probe has the probability `Recipe.stop_at`."""
        stop_at = self.job.recipe.stop_at
        if stop_at >= 1 or self.step % PROBE_EVERY:
            return False
        probe = self.probes[0]
        reached = probe.probabilities(self.engine, self.forward)[probe.words[0]]
        # Processors of two kinds round differently, and every worker must stop at the same step.
        return self.shared.workers.from_first(reached) >= stop_at
