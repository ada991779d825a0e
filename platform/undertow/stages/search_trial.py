"""One trial of a search: makes the students of a recipe and reports the score to Ray Tune.

A trial makes the data sets that its recipe needs, then trains students of the trait and their control
students in one worker group, as a sweep does. The students are ordinary artifacts with ordinary keys: a
repeated search trains only missing students, and sweeps reuse them.

The score is the recipe's effect. Until all students exist, it is an estimate of it: the rise of the trait's
probability since before training, in the first student of the trait. Its epochs are what ASHA compares, so
that a stopped trial has spent part of one student instead of two per seed.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from undertow.cluster.messages import SECONDS_BETWEEN_READINGS, message_queue, waiting
from undertow.cluster.worker_failures import TRAINING, in_words, lost_node
from undertow.engines.quiet import quiet
from undertow.errors import ConditionError, UserError
from undertow.planning.resources import Machine
from undertow.stages.dataset import make_dataset
from undertow.stages.finetuning import train_in_workers
from undertow.stages.search_points import Pair, RecipeSearch, history
from undertow.stages.training_group import Group
from undertow.storage.leases import Leases
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.references import ancestors_first
from undertow.study.students import Student

SCORE, EPOCH = "score", "epoch"  # metrics that Tune's searchers and schedulers read
WORST = {"rate": -1.0, "log-odds": -30.0}  # the score of a failed trial: no effect is smaller


def run_trial(
    config: dict[str, Any], *, search: RecipeSearch, store: Store, machine: Machine, messages: Any
) -> None:
    """The function of a Tune trial.

    Args:
        config: the point that Tune's searcher proposes.
        messages: the driver's queue.
    """
    quiet()
    from ray import tune

    try:
        pairs = search.pairs(search.space.values(config))
        _make_students(pairs, search, store, machine, messages)
        score, epoch = fmean(search.effects(pairs, store)), history(pairs[0][0], store)[-1]["epoch"]
    except Exception as error:
        if lost_node(error):
            raise  # Tune tries it again
        reason = str(error) if isinstance(error, UserError | ConditionError) else in_words(error, TRAINING)
        tune.report({SCORE: WORST[search.study.effect_scale], EPOCH: 0, "failure": reason})
    else:
        tune.report({SCORE: score, EPOCH: epoch, "finished": True, "failure": ""})
    finally:  # also if ASHA stops the trial, which ends this thread with SystemExit
        messages.put_nowait({"ended": key(search.condition)})


def _make_students(
    pairs: Sequence[Pair], search: RecipeSearch, store: Store, machine: Machine, messages: Any
) -> None:
    """Makes the missing students, the first of the trait first, and reports its epochs.

    Leases divide the work among trials of the same point, and among this search and concurrent sweeps.
    Raises ConditionError or UserError if a data set or a student cannot be made.
    """
    students = [student for pair in pairs for student in pair]
    datasets = [a for a in ancestors_first(s.dataset for s in students) if isinstance(a, Dataset)]
    first = _FirstStudent(students[0], search)

    def missing() -> list[Student]:
        return [student for student in students if not store.has(student)]

    def make_datasets(lacking: list[Dataset]) -> None:
        for dataset in lacking:
            make_dataset(dataset, store)

    def train(lacking: list[Student]) -> None:
        group = Group(tuple(lacking), search.watch, search.study.system)
        if failure := _train(group, store, machine, search.scratch, messages, first.report):
            raise ConditionError(failure)

    with Leases(store) as leases:
        leases.share(lambda: [d for d in datasets if not store.has(d)], make_datasets, _ignore)
        if store.has(first.student):  # of an earlier search: ASHA judges it like a new one
            for epoch in history(first.student, store):
                first.report(epoch)
        leases.share(missing, train, _ignore)
    if left := missing():
        raise ConditionError(f"{len(left)} of its {len(students)} students were not trained")


def _ignore(line: str) -> None:
    """A trial has no console: that it waits for another one is not shown."""


@dataclass
class _FirstStudent:
    """Reports the epochs of a trial's first student to Tune, which may stop the trial at each of them.

    Attributes:
        before: the trait's value before training; None until it is reported. A training that resumes from a
            checkpoint does not report it again, and no stop judges it then.
    """

    student: Student
    search: RecipeSearch
    before: float | None = None

    def report(self, epoch: Mapping[str, Any]) -> None:
        """Takes the report of an epoch (`EpochReport`) of any student; only the first student's count."""
        from ray import tune

        probability = epoch["probabilities"].get(self.search.word)
        if epoch["key"] != key(self.student) or probability is None:
            return
        value = self.search.value(probability)
        if epoch["epoch"] == 0:
            self.before = value
        elif self.before is not None:
            rise = value - self.before
            tune.report({SCORE: rise, EPOCH: epoch["epoch"], "probability": probability, "failure": ""})


def _train(
    group: Group,
    store: Store,
    machine: Machine,
    scratch: str,
    messages: Any,
    on_epoch: Callable[[Mapping[str, Any]], None],
) -> str:
    """Trains a group of students; returns why some of them failed, or "".

    The worker group runs in a thread, because Tune can stop a trial only while this one reports. If it does,
    the thread ends with the trial's process, and Ray ends the workers that the process owns.
    """
    reports = message_queue()
    failures: list[str] = []

    def fit() -> None:
        if failure := train_in_workers(group, store, machine, reports, scratch):
            failures.append(failure)

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    is_over = False
    while not is_over:
        time.sleep(SECONDS_BETWEEN_READINGS)
        is_over = not thread.is_alive()  # before the queue is read, so that nothing is left in it
        for report in waiting(reports):
            if "epoch" in report:
                on_epoch(report["epoch"])
            elif "failed" in report:
                failures.append(report["reason"])
            elif "noted" in report:
                messages.put_nowait(report)
    reports.shutdown()
    return failures[0] if failures else ""
