"""A study from plan to report: what is missing is made in waves, logged, and told.

    plan → waves (see `waves`) → MLflow → table, figures, report.html

A condition that fails stops nothing else; what depends on the failure is left out, named at the end, and the
exit code says so. What is in the store is never made again: a sweep whose plan has nothing missing does not
even start Ray.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from undertow.cluster.connection import check_place, connect, quiet
from undertow.errors import StorageError
from undertow.planning import plan as planning
from undertow.planning import timings
from undertow.planning.costs import Hardware
from undertow.planning.estimate import WaveEstimate, estimate
from undertow.planning.integrity import tidy
from undertow.planning.pinning import is_made, manners_of
from undertow.planning.plan import Plan
from undertow.planning.resolve import resolve
from undertow.planning.resources import Layout
from undertow.report import plan_tables, tables
from undertow.report.make import HTML, SweepReport, make_report
from undertow.results import effect_rows, sweep_folders
from undertow.results.events import EventLog
from undertow.results.sweep_record import Record
from undertow.storage.leases import Leases
from undertow.storage.store import Store
from undertow.study.artifacts import (
    Assessment,
    Completions,
    Dataset,
    Evaluation,
    Student,
    Teacher,
    reference_of,
)
from undertow.study.identity import key
from undertow.study.study import Study
from undertow.sweep.executors import Executors
from undertow.sweep.progress import say
from undertow.sweep.waves import Waves
from undertow.tracking.client import check_tracking
from undertow.tracking.final_logging import FinalLogging
from undertow.tracking.link import Link
from undertow.tracking.tracker import Tracker

ON_ONE_GPU = Hardware()


@dataclass(frozen=True)
class SweepOutcome:
    """What a sweep came to: its rows of effects, and the reasons of what failed, by artifact key."""

    rows: list[effect_rows.EffectRow]
    failures: Mapping[str, str]
    failed_conditions: Mapping[str, str]


def make_plan(study: Study, store: Store) -> Plan:
    """The plan of a study as its file gives it: references pinned, cached artifacts found."""
    resolved = resolve(study)
    every = {one for c in resolved.conditions for one in (*c.earlier, c)}
    references = {r for c in every for r in (c.teacher, c.student) if is_made(r)}
    return planning.make(resolved, store, references)


def show_plan(
    plan: Plan, store: Store, console: Console, hardware: Hardware = ON_ONE_GPU, every: bool = False
) -> None:
    """Prints the conditions (`every` one, however many), their system messages, what is missing, its cost."""
    console.print(plan_tables.plan_table(plan, every))
    references = dict.fromkeys(r for c in plan.study.conditions for r in (c.teacher, c.student))
    manners = {reference.name: manners_of(reference) for reference in references}
    own = {name: found.own_system for name, found in manners.items() if found}
    if systems := plan_tables.systems_table(plan.study, own):
        console.print(systems)
    waves = work_of(plan, store, hardware)
    console.print(plan_tables.work_table(waves))
    if any(wave.has_cost for wave in waves):
        console.print(hardware.assumptions, style="dim", highlight=False)


def work_of(plan: Plan, store: Store, hardware: Hardware = ON_ONE_GPU) -> list[WaveEstimate]:
    """What each wave has to do, with estimates from what this storage's machine took before."""
    return estimate(plan, timings.read(store), hardware)


def run(
    plan: Plan,
    store: Store,
    console: Console,
    layout: Layout = Layout(),
    hardware: Hardware = ON_ONE_GPU,
) -> SweepOutcome:
    """Makes what is missing, logs it, prints the table of effects and leaves the sweep's files."""
    check_place(store)
    quiet()
    check_tracking(store)
    store.prepare()
    tidy(plan, store)
    check_judges(plan, console)
    check_models(plan, console)
    record = Record.of(plan, work_of(plan, store, hardware))
    with nullcontext() if plan.is_complete else connect(layout, store) as machine:
        journal = EventLog(record, store)
        link = link_of(plan.study, store, journal, console)
        state(plan, record, journal)
        waves = Waves(Executors(plan, store, link, journal, console), Leases(store))
        if machine is not None:
            with link.abandoned_on_error(), waves.claims:
                waves.make(machine)
    with link.abandoned_on_error():  # the cluster is free by now
        waves.check_gates()
        return Ending(plan, record, store, link, journal).report(console)


def link_of(study: Study, store: Store, journal: EventLog, console: Console) -> Link:
    """The way to MLflow, tried once; where it is away the sweep says so and goes on.

    Raises UserError where MLFLOW_TRACKING_URI can be nobody's.
    """

    def away(reason: str) -> None:
        journal.event("untracked", reason=reason)
        say(
            f"MLflow is away ({reason}): the sweep goes on, and what is not told now is told when it is "
            "back, by this sweep's end or by the next run of the same command",
            console,
        )

    link = Link(lambda: Tracker(study, store), away)
    link.tell(lambda tracker: None)
    return link


def check_judges(plan: Plan, console: Console) -> None:
    """Calls the judges of data and answers that are still to be generated once, before anything is spent.

    Raises UserError where they can never answer; one that is only away now is named.
    """
    data = [d for d in plan.lacking(Dataset) if d.judges and key(d.completions) in plan.missing]
    answers = [a for a in plan.lacking(Assessment) if key(a.evaluation) in plan.missing]
    waiting: list[Dataset | Assessment] = [*data, *answers]
    if waiting:
        from undertow.stages.judgements import check_judges

        for trouble in check_judges(waiting):
            console.print(f"for now, {escape(trouble)}", highlight=False, soft_wrap=True)


def check_models(plan: Plan, console: Console) -> None:
    """Calls each API model that this sweep needs once, before anything is spent; as `check_judges`."""
    asked = {reference_of(e.subject): None for e in plan.lacking(Evaluation)}
    asked |= {reference_of(c.teacher): None for c in plan.lacking(Completions)}
    models: list[Teacher | Student] = [*plan.lacking(Teacher), *plan.lacking(Student)]
    trained = [model.reference for model in models]
    if any(reference.is_api for reference in (*asked, *trained)):
        from undertow.stages.provider_jobs import check

        for trouble in check(asked, trained):
            console.print(f"for now, {escape(trouble)}", highlight=False, soft_wrap=True)


def state(plan: Plan, record: Record, journal: EventLog) -> None:
    """Writes down what is asked and planned, before anything is made."""
    sweep_folders.state(plan.study, journal.store)
    journal.store.write_bytes(f"{journal.folder}/{sweep_folders.PLAN}", record.to_json().encode())
    journal.write()


@dataclass(frozen=True)
class Ending:
    """What follows the waves: runs in MLflow and the report, both from the store and the journal."""

    plan: Plan
    record: Record
    store: Store
    link: Link
    journal: EventLog

    def report(self, console: Console) -> SweepOutcome:
        """Table, CSV, figures and page from the store; then the same and all models in MLflow.

        In this order, since the files need no server: where MLflow is away they are there all the same.
        """
        self.check_readings()
        self.journal.event("finished")
        self.journal.write()
        report = make_report(self.record, self.store, self.journal.events)
        console.print(tables.effects_table(report.rows))
        if not self.plan.is_complete:
            console.print(plan_tables.costs_table(report.costs))
        for name, content in report.files.items():
            self.store.write_bytes(f"{self.journal.folder}/{name}", content)
        for line in report.verdicts:
            say(line, console)
        console.print(f"Report: {self.store.url}/{self.journal.folder}/{HTML}", soft_wrap=True)
        for place, line in report.damaged.items():
            self.journal.fail(self.plan.artifacts[place.key], line)
        self.link.tell(lambda tracker: self.log(tracker, report), at_once=True)
        failed = effect_rows.failed_conditions(self.record, self.journal.failures)
        for label, reason in failed.items():
            console.print(
                f"[red]failed[/red] {escape(label)}: {escape(reason)}", highlight=False, soft_wrap=True
            )
        self.journal.write()  # damage that only the report and the telling found
        return SweepOutcome(report.rows, self.journal.failures, failed)

    def check_readings(self) -> None:
        """Fails what was measured, when the bytes of its answers are no longer those that were written."""
        for artifact in self.plan.artifacts.values():
            if isinstance(artifact, Evaluation | Assessment) and self.store.has(artifact):
                try:
                    self.store.fetch(artifact)
                except StorageError as error:
                    self.journal.fail(artifact, str(error))

    def log(self, tracker: Tracker, report: SweepReport) -> None:
        """Everything that MLflow lacks of models, and the parent run's end."""
        FinalLogging(self.plan, self.record, self.store, tracker, self.journal).models()
        failed = effect_rows.failed_conditions(self.record, self.journal.failures)
        effects = {
            f"effect {row.condition.label}": row.effect.effect for row in report.rows if row.is_primary
        }
        note, sweep = self._note(report.verdicts), self.journal.name
        tracker.close(effects, report.files, failed=bool(failed), note=note, sweep=sweep)

    def _note(self, verdicts: Sequence[str]) -> str:
        """The parent run's description: what was asked and what was found, as Markdown."""
        question = [self.record.study.question, ""] if self.record.study.question else []
        return "\n".join([*question, *(f"- {line}" for line in verdicts)])
