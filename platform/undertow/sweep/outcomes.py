"""Records what the jobs of an overlapping sweep report.

The reports go to the schedule, the event log, MLflow and the progress. One thread calls all of this (see
`session`), so that nothing here needs a lock.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from undertow.errors import ConditionError, StorageError
from undertow.planning import timings
from undertow.planning.artifact_kinds import WAVES, Wave, wave_of
from undertow.planning.timings import Timing
from undertow.stages.gate import passes_gate
from undertow.study.identity import key
from undertow.study.measurements import Measurement
from undertow.study.references import Artifact, Reference
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.sweep.executors import Executors, training_totals
from undertow.sweep.progress import Progress, print_line
from undertow.sweep.schedule import Schedule
from undertow.sweep.scheduled_jobs import Job

SECONDS_BETWEEN_WRITES = 30.0  # of the event log
FAILED_ENGINES = 3  # of a pool, one after the other, after which everything that it could make fails


class Outcomes:
    """The reports of jobs. Those that end a job or a part tell the schedule so."""

    def __init__(self, executors: Executors, schedule: Schedule, artifacts: Mapping[str, Artifact]) -> None:
        """`artifacts`: those of the schedule, by key."""
        self.plan, self.store, self.events = executors.plan, executors.store, executors.events
        self.link, self.console = executors.link, executors.console
        self.schedule, self.work, self.artifacts = schedule, schedule.work, artifacts
        self.progress = Progress(self.console, "artifacts", len(artifacts), "artifacts")
        self._students = sum(isinstance(artifact, Student) for artifact in artifacts.values())
        self._trained = 0  # of the students
        # By pool of engines, since it last made a part: nodes that were lost, and engines that failed.
        self._lost: Counter[Any] = Counter()
        self._failed: Counter[Any] = Counter()
        self._epochs: dict[str, list[Any]] = {}
        self._reasons: dict[str, str] = {}  # why models failed whose group still trains others
        self._noted = set[str]()
        self._written = time.monotonic()
        # For the cost of each wave: seconds of places, tokens, and the numbers of parts and models.
        self._used: dict[Wave, float] = dict.fromkeys(WAVES, 0.0)
        self._tokens: Counter[Wave] = Counter()
        self._units: Counter[Wave] = Counter()
        self._timings: dict[Wave, list[Timing]] = {wave: [] for wave in WAVES}

    # Engines.

    def engine_up(self, job: Job, seconds: float) -> None:
        """An engine has started, in this time."""
        self._used[job.step.wave] += seconds * job.places
        self.schedule.up(job)

    def part_done(self, job: Job, artifact: Artifact, outcome: Any) -> None:
        """An engine has made a part; `outcome` is None if an earlier sweep had made it."""
        if outcome is not None:
            wave, tokens = wave_of(artifact), outcome.facts.get("tokens", 0)
            self._used[wave] += outcome.seconds * job.places
            self._tokens[wave] += tokens
            self._units[wave] += 1
            self._timings[wave].append(Timing(artifact, 0.0, outcome.seconds, outcome.units, tokens))
            self._lost[job.pool] = self._failed[job.pool] = 0
            if outcome.error:
                self.fail(artifact, outcome.error, outcome.traceback)
            elif outcome.retried:
                self.events.event("retried", artifact, traceback=outcome.retried)
        self.schedule.part_done(job)
        if key(artifact) in self.work.made:
            self._check_gate(artifact)
        self._show()

    def engine_lost(self, job: Job, reference: Reference, error: Exception, trace: str) -> None:
        """An engine's process has died. After the loss of a node the schedule starts another engine."""
        from undertow.cluster.worker_failures import ENGINES, LOST_NODES, in_words, lost_node

        self._lost[job.pool] += lost_node(error)
        if not lost_node(error) or self._lost[job.pool] > LOST_NODES:
            reason = f"failed: {in_words(error, ENGINES, self._lost[job.pool])}"
            self.engine_failed(job, reference, reason, trace)

    def engine_failed(self, job: Job, reference: Reference, reason: str, trace: str) -> None:
        """Fails the artifact that an engine was making; the schedule starts another engine if it needs one.

        If no engine of the pool can start, or several have failed in a row, everything that they could make
        fails.
        """
        self._failed[job.pool] += 1
        others = any(o.is_up and o.pool == job.pool and o is not job for o in self.schedule.running)
        goes_on = (job.is_up or others) and self._failed[job.pool] < FAILED_ENGINES
        making = job.part[0] if job.part else ""
        for name, its in self.work.works.items():
            is_of_pool = its.pool == job.pool and its.step.by == "engines" and self.work.is_possible(name)
            if name == making or (is_of_pool and not goes_on):
                self.fail(self.artifacts[name], f"the engine of {reference.name} {reason}", trace)

    # Worker groups.

    def epoch(self, report: Any) -> None:
        """A worker has trained an epoch of a model."""
        model: Any = self.artifacts[report.key]
        self._epochs.setdefault(report.key, []).append(report)
        self.link.log_epoch(model, asdict(report))

    def step(self, report: Any) -> None:
        """A worker has trained a model for a few seconds."""
        model: Any = self.artifacts[report.key]
        self.link.log_step(model, asdict(report))

    def note(self, name: str, text: str) -> None:
        """A training deviates from its recipe, as the others of this recipe do."""
        if text not in self._noted:
            self._noted.add(text)
            print_line(text, self.console)
        self.events.event("noted", self.artifacts[name], text=text)

    def trained(self, name: str) -> None:
        """A worker has committed a model."""
        self._made(self.artifacts[name])

    def not_trained(self, name: str, reason: str) -> None:
        """A worker cannot train a model. It is recorded as failed when its group ends."""
        self._reasons[name] = reason

    def group_ended(self, job: Job, failure: str, seconds: float) -> None:
        """A worker group has ended after this time, with the reason if it failed as a whole."""
        self._used[job.step.wave] += seconds * job.places
        for name in job.keys:
            model: Any = self.artifacts[name]
            if not self.work.is_settled(name):
                if self.store.has(model):
                    self._made(model)
                else:
                    otherwise = failure or "its training ended without a result"
                    self.fail(model, self._reasons.get(name, otherwise))
            totals = training_totals(model, self._epochs.get(name, []), name in self.work.made)
            self._units[job.step.wave] += 1
            self._tokens[job.step.wave] += round(totals[2])
            self._timings[job.step.wave].append(Timing(model, 0.0, *totals))
        self.link.flush_reports()
        self.schedule.ended(job)
        self._show()

    # Tasks.

    def judged(self, judged: Any) -> None:
        """Judges have been asked about an artifact's rows or answers (`judgements.Judged`)."""
        for facts in judged.asked:
            self.events.event("judged", judged.artifact, **facts)

    def task_done(self, job: Job, failure: tuple[str, str] | None) -> None:
        """A task has ended, with the reason and a traceback if it failed."""
        artifact = self.artifacts[job.keys[0]]
        self._units[job.step.wave] += 1
        if failure:
            self.fail(artifact, *failure)
        else:
            self._made(artifact)
            self._check_gate(artifact)
        self.schedule.ended(job)
        self._show()

    # All of them.

    def fail(self, artifact: Artifact, reason: str, trace: str = "") -> None:
        """An artifact cannot be made, or is damaged; what depends on it is skipped."""
        if key(artifact) not in self.work.failed:
            self.events.fail(artifact, reason, trace)
            self.progress.fail(1 + len(self.schedule.fail(key(artifact))))

    def _made(self, artifact: Artifact) -> None:
        """An artifact of a task or of a worker group was made."""
        if self.work.is_settled(key(artifact)):
            return
        self.events.event("made", artifact)
        self.schedule.make(key(artifact))
        self._trained += isinstance(artifact, Student)
        if isinstance(artifact, Reference):
            try:
                self.store.check(artifact)
            except StorageError as error:  # damaged: no engine and no worker may start on it
                self.fail(artifact, str(error))
        self._show()

    def _check_gate(self, artifact: Artifact) -> None:
        """Fails a teacher below the study's gate, and skips what depends on its measurement."""
        if isinstance(artifact, Measurement) and isinstance(artifact.subject, Teacher):
            try:
                passes_gate(artifact, self.store, self.plan.study.gate)
            except ConditionError as error:
                self.events.fail(artifact.subject, str(error))
                self.progress.fail(len(self.schedule.fail(key(artifact))))
            except StorageError as error:  # its bytes changed since they were written
                self.fail(artifact, str(error))

    def _show(self) -> None:
        """Shows the artifacts that are made or failed, and which jobs run; writes the event log at times."""
        jobs = Counter(job.step.by for job in self.schedule.running)
        parts = [f"{self._trained:,} of {self._students:,} students"] if self._students else []
        for count, noun in ((jobs["engines"], "engine"), (jobs["training"], "training")):
            if count:
                parts.append(f"{count} {noun}{'s' * (count > 1)}")
        self.progress.detail = ", ".join(parts)
        made, failed, skipped = self.work.made, self.work.failed, self.work.skipped
        settled = len(made) + sum(name not in made for name in failed) + len(skipped)
        self.progress.advance(settled - self.progress.done)
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.events.write()
            self._written = time.monotonic()

    def log_waves(self) -> None:
        """Records the time, tokens and speeds of each wave.

        The seconds of a wave are those that all places together would have needed, so that they add up to the
        time of the sweep less what was idle. Speeds are those of as many engines or worker groups as may run.
        """
        capacity = self.schedule.capacity
        engines, groups = capacity.engines * capacity.per_engine, capacity.groups * capacity.per_group
        for wave in WAVES:
            if self._units[wave]:
                used, tokens = self._used[wave], round(self._tokens[wave])
                self.events.wave(wave, self._units[wave], used / capacity.places, tokens, part_of=wave)
                width = min(capacity.places, groups if wave in ("teachers", "students") else engines)
                ended = [timing._replace(at=used / width) for timing in self._timings[wave]]
                timings.add(self.store, wave, ended)
        self.events.write()
