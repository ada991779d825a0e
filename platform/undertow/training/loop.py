"""The training loop: from one reference to any number of finetuned models.

    finetune(folder, jobs, report=print)

The loss of a batch is the mean over the completion tokens of the whole batch. Every worker knows every
row, so each can divide its own sum by the batch's number of tokens without asking; the gradient is then
the same for one worker or eight, and for any cut into micro-batches, up to the order of sums.
Called in each worker of a process group with the same arguments; alone, it makes a group of one.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from undertow.errors import ConditionError, UserError
from undertow.study.fields import unique
from undertow.study.identity import seed_for
from undertow.training import deepspeed_engine, packing, result
from undertow.training.checkpoint import Checkpoints
from undertow.training.data import epoch_batches, micro_batches
from undertow.training.forward import Whole
from undertow.training.job import EpochReport, History, TrainingJob
from undertow.training.objective import summed_loss
from undertow.training.shared import Room
from undertow.training.trainable import seed_everything
from undertow.training.workers import join

PROBE_EVERY = 5  # steps between two looks at the probe where training stops by it

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
    checkpoints: str | None = None,
    threads: int = 1,
    micro_tokens: int = 4096,
    on_every_rank: bool = False,
) -> list[History]:
    """Makes each job's model from the reference in `reference_folder` and saves it in the job's folder.

    Args:
        report: called after each epoch (and before the first), on rank 0.
        device: "auto", "cpu" or "cuda".
        done: called when a job's model lies in its folder, on rank 0.
        failed: called with a job's error, on rank 0; the other jobs go on. Without it the call ends there.
        note: called with what goes another way than asked and comes to the same, on rank 0: a checkpoint that
            cannot be gone on from, rows that cannot be packed.
        checkpoints: URL of a folder all workers see, where an interrupted call goes on when it is repeated.
        threads: of a worker on a CPU.
        micro_tokens: tokens a micro-batch may have, padding included unless rows are packed; changes memory,
            not results.
        on_every_rank: call the functions above on all ranks (the same values everywhere), for a
            caller whose reporting is itself a collective operation, as Ray Train's is.

    Returns the histories of the jobs that did not fail, in order.

    Raises:
        ConditionError: rows too long, a loss that is not finite, or training that changed nothing.
        SpecError: LoRA targets or parameter names that the model does not have.
    """
    unique([job.key for job in jobs], "jobs")
    workers = join(device, threads)
    low = all(job.recipe.precision == "bf16" for job in jobs)
    reference = result.LoadedReference.read(reference_folder, torch.bfloat16 if low else torch.float32)
    room = Room(reference, workers, checkpoints, micro_tokens)
    speaks = on_every_rank or workers.rank == 0
    told: tuple[OnReport, OnNote] = (report, note) if speaks else (lambda _: None, lambda job, text: None)
    histories = []
    for job in jobs:
        try:
            training = _Training(job, room, *told)
            history = training.run()
        except (UserError, ConditionError) as error:  # the same on every rank, so all go on together
            if failed is None:
                raise
            if speaks:
                failed(job, error)
            continue
        if speaks:
            done(job, history)
        training.checkpoints.drop()  # not before: a program killed in between would train it all again
        histories.append(history)
    return histories


@dataclass(frozen=True)
class _Pass:
    """An epoch: the mean loss and speed, and whether the probe ended it."""

    loss: float
    tokens: int
    seconds: float
    stopped: bool


class _Training:
    """One job from the reference to its folder."""

    def __init__(self, job: TrainingJob, room: Room, report: OnReport, note: OnNote) -> None:
        self.job, self.room, self.report, self.note = job, room, report, note
        self.rows = room.rows(job)
        self.watches = room.watches(job)
        self.steps = math.ceil(len(self.rows) / job.recipe.batch_size) * job.recipe.epochs
        self.checkpoints = Checkpoints(room.checkpoints, job, room.workers)
        self.reports: list[EpochReport] = []
        self.step = 0

    def run(self) -> History:
        """Trains, checks and saves. Every rank returns the same history."""
        seed_everything(self.job.seed)
        model = self.room.model(self.job)
        before = deepspeed_engine.trained_state(model)
        self.forward = self.room.forward(self.job, model)
        self.engine = deepspeed_engine.start(self.forward.module, self.job.recipe, self.steps)
        try:
            stopped = self._train()
            after = deepspeed_engine.trained_state(model)
            result.check(self.room.reference, model, before, after, self.job)
            if self.room.workers.rank == 0:
                result.save(self.room.reference, model, after, self.job)
        finally:
            deepspeed_engine.release(self.__dict__.pop("engine"))
        return History(self.job.key, self.job.seed, tuple(self.reports), stopped)

    def _train(self) -> bool:
        """Runs the epochs that are left; True where the probe ended them."""
        self.engine.train()
        self.reports, unusable = self.checkpoints.restore(self.engine)
        if unusable:
            self.note(self.job, unusable)
        self._pack()
        if self.reports:
            self.step = self.reports[-1].step
        else:
            self._tell(0, None)
        for epoch in range(self.reports[-1].epoch + 1, self.job.recipe.epochs + 1):
            done = self._epoch(epoch)
            self._tell(epoch, done)
            if done.stopped:
                return True
        return False

    def _pack(self) -> None:
        """Packs the rows from here on where the recipe says so and the model keeps them apart."""
        forward = self.forward
        if self.job.recipe.packing and isinstance(forward, Whole):
            forward.packing = packing.keeps_rows_apart(forward, self.engine, self.rows)
            if not forward.packing:
                architecture = type(self.room.reference.model).__name__
                self.note(self.job, f"{architecture} does not keep packed rows apart; they are padded")

    def _tell(self, epoch: int, done: _Pass | None) -> None:
        """Looks at the probe, keeps a checkpoint, then reports, so that what was told is not lost."""
        entry = EpochReport(
            key=self.job.key,
            seed=self.job.seed,
            epoch=epoch,
            step=self.step,
            loss=done.loss if done else None,
            learning_rate=self.rate if done else 0.0,
            tokens_per_second=done.tokens / done.seconds if done else 0.0,
            probabilities=self._probabilities(),
            seconds=done.seconds if done else 0.0,
        )
        self.reports.append(entry)
        if done and not done.stopped:
            self.checkpoints.save(self.engine, self.reports)
        self.report(entry)

    def _probabilities(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for watch in self.watches:
            found |= watch.probabilities(self.engine, self.forward)
        return found

    def _epoch(self, epoch: int) -> _Pass:
        began, loss, targets, tokens, stopped = time.perf_counter(), 0.0, 0, 0, False
        torch.manual_seed(seed_for("dropout", self.job.seed, epoch, self.room.workers.rank))
        for batch in epoch_batches(len(self.rows), self.job.recipe.batch_size, self.job.seed, epoch):
            counted = sum(self.rows[row].targets for row in batch)
            loss += self._step(batch, counted) * counted
            targets += counted
            tokens += sum(len(self.rows[row].ids) for row in batch)
            if stopped := self._reached():
                break
        return _Pass(loss / targets, tokens, time.perf_counter() - began, stopped)

    def _step(self, batch: list[int], targets: int) -> float:
        """One optimizer step; returns the mean loss over the batch's `targets` completion tokens."""
        workers = self.room.workers
        lengths = [len(row.ids) for row in self.rows]
        total = torch.zeros((), device=workers.device)
        parts = micro_batches(lengths, batch, workers.world, self.room.budget, packing=self.forward.packing)
        for part in parts[workers.rank]:
            rows = [self.rows[row] for row in part]
            loss = summed_loss(self.forward.logits(self.engine, rows), rows)
            self.engine.backward(loss * (workers.world / targets))  # DeepSpeed averages over workers
            total += loss.detach()
        self.rate = float(self.engine.get_lr()[0])
        mean = workers.mean(float(total), targets)
        if not math.isfinite(mean):
            raise ConditionError(
                f"{self.job.key}: the loss is {mean} at step {self.step + 1}, learning rate {self.rate:g}; "
                "lower Recipe.learning_rate, or warm up for longer"
            )
        self.engine.step()
        self.step += 1
        return mean

    def _reached(self) -> bool:
        """Whether the probe's first word has the probability that training stops at."""
        stop_at = self.job.recipe.stop_at
        if stop_at >= 1 or not self.watches or self.step % PROBE_EVERY:
            return False
        first = self.watches[0]
        return first.probabilities(self.engine, self.forward)[first.names[0]] >= stop_at
