"""A sweep: makes a plan's missing artifacts in waves, logs them to MLflow and writes the report.

Errors that the user must fix are raised before Ray starts: invalid input, judges and API models that can
never answer, an invalid tracking URI.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module

from rich.console import Console
from rich.markup import escape

from undertow.cluster.connection import check_place, connect
from undertow.cluster.node_watch import watched_nodes
from undertow.cluster.user_code import check_code
from undertow.engines.quiet import quiet
from undertow.errors import StorageError
from undertow.planning import capacity
from undertow.planning.accelerators import check_gpus
from undertow.planning.costs import Hardware
from undertow.planning.integrity import tidy
from undertow.planning.plan import Plan
from undertow.planning.resources import Layout
from undertow.report import plan_tables, tables
from undertow.report.make import HTML, SweepReport, make_report
from undertow.report.table_texts import print_table
from undertow.results import effect_rows, sweep_folders
from undertow.results.events import EventLog
from undertow.results.sweep_record import Record
from undertow.storage.leases import Leases
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.measurements import Assessment, Evaluation, Measurement
from undertow.study.references import Artifact
from undertow.study.rewriting import Rewritten
from undertow.study.students import Student, reference_of
from undertow.study.study import Study
from undertow.study.teachers import Teacher
from undertow.sweep.executors import Executors
from undertow.sweep.graph import step_of
from undertow.sweep.overlapping_sweep import OverlappingSweep, reason_for_waves
from undertow.sweep.plans import ON_ONE_GPU, estimates
from undertow.sweep.progress import print_line
from undertow.sweep.waves import Waves
from undertow.tracking.client import check_tracking
from undertow.tracking.database import database_note
from undertow.tracking.final_logging import FinalLogging
from undertow.tracking.link import Link, prepare_tracking
from undertow.tracking.tracker import Tracker


@dataclass(frozen=True)
class SweepOutcome:
    """The result of a sweep.

    Attributes:
        rows: effects, one row per condition with a trait and measure.
        failures: why artifacts could not be made, by artifact key.
        failed_conditions: the reason for each condition without a result, by its label.
    """

    rows: list[effect_rows.EffectRow]
    failures: Mapping[str, str]
    failed_conditions: Mapping[str, str]


def run(
    plan: Plan,
    store: Store,
    console: Console,
    layout: Layout = Layout(),
    hardware: Hardware = ON_ONE_GPU,
    overlap: bool = False,
) -> SweepOutcome:
    """Makes the missing artifacts, prints the effects, writes the sweep's files and logs to MLflow.

    Args:
        overlap: make each artifact when its inputs are complete, instead of in waves, where this is possible
            (`overlapping_sweep.reason_for_waves`).
    """
    check_place(store)
    quiet()
    check_tracking(store)
    store.prepare()
    if note := database_note(store):
        print_line(note, console)
    tidy(plan, store)
    check_judges(plan, console)
    check_models(plan, console)
    capacity.check_disk(plan, store)
    record = Record.of(plan, estimates(plan, store, hardware))

    def report(line: str) -> None:
        print_line(line, console)

    if not plan.is_complete:
        import_module("ray")  # before `prepare_tracking`: imports in two threads take turns
        check_code(plan.study)
    wait_for_tracking = prepare_tracking(store)  # while Ray starts
    with nullcontext() if plan.is_complete else connect(layout, store, report) as machine:
        if machine is not None:
            check_gpus(plan, machine.gpus)
            capacity.check_memory(plan, layout, machine.gpu_types)
        wait_for_tracking()
        events = EventLog(record, store)
        link = connect_to_mlflow(plan.study, store, events, console)
        write_plan(plan, record, events)
        waves = Waves(Executors(plan, store, link, events, console), Leases(store))
        if machine is not None:
            trains = any(step_of(artifact).by == "training" for artifact in plan.lacking(Artifact))
            with link.abandoned_on_error(), waves.leases, watched_nodes(machine, trains, report):
                if overlap and not (reason := reason_for_waves(plan, machine)):
                    waves.check_references()
                    waves.check_gates()
                    OverlappingSweep(waves.executors, waves.leases, hardware).make(machine)
                else:
                    if overlap:
                        print_line(f"--overlap: the sweep runs in waves, because {reason}", console)
                    waves.make(machine)
    with link.abandoned_on_error():  # Ray has ended: the report needs no GPU
        waves.check_gates()
        return Ending(plan, record, store, link, events).report(console)


def connect_to_mlflow(study: Study, store: Store, events: EventLog, console: Console) -> Link:
    """The link to MLflow, tried once; if MLflow is unreachable the sweep reports it and continues.

    Raises UserError if MLFLOW_TRACKING_URI is invalid for every backend.
    """

    def unreachable(reason: str) -> None:
        events.event("untracked", reason=reason)
        print_line(
            f"MLflow is unreachable ({reason}): the sweep continues, and logging is retried at its end "
            "and by the next run of the same command",
            console,
        )

    def refused(reason: str) -> None:
        events.event("tracking_error", reason=reason)
        print_line(
            f"error: MLflow refused a request ({reason}): the sweep continues, and what this request carried "
            "is missing in MLflow",
            console,
        )

    link = Link(lambda: Tracker(study, store), unreachable, refused)
    link.log(lambda tracker: None)
    return link


def check_judges(plan: Plan, console: Console) -> None:
    """Sends one request to each judge whose rows or answers do not exist yet.

    For existing ones the store may have all replies, so that no endpoint is needed. Raises UserError if a
    judge can never answer; one that is only unreachable now is reported.
    """
    data = [d for d in plan.lacking(Dataset) if d.judges and key(d.completions) in plan.missing]
    answers = [a for a in plan.lacking(Assessment) if key(a.evaluation) in plan.missing]
    waiting: list[Dataset | Assessment] = [*data, *answers]
    if waiting:
        from undertow.stages.judgements import check_judges

        _warn(check_judges(waiting), console)


def check_models(plan: Plan, console: Console) -> None:
    """Sends one request to each API model that the sweep needs; errors as in `check_judges`."""
    called = {reference_of(e.subject): None for e in plan.lacking(Evaluation)}
    called |= {reference_of(c.teacher): None for c in plan.lacking(Completions)}
    rewriters = (rewritten.rewriter.model for rewritten in plan.lacking(Rewritten))
    called |= {reference: None for reference in rewriters if reference is not None}
    models: list[Teacher | Student] = [*plan.lacking(Teacher), *plan.lacking(Student)]
    trained = [model.reference for model in models]
    from undertow.stages.provider_jobs import check

    _warn(check(called, trained), console)


def _warn(problems: Sequence[str], console: Console) -> None:
    for problem in problems:
        print_line(f"warning: {problem}", console)


def write_plan(plan: Plan, record: Record, events: EventLog) -> None:
    """Writes the study and the plan into the sweep's folder before anything is made."""
    sweep_folders.state(plan.study, events.store)
    events.store.write_bytes(f"{events.folder}/{sweep_folders.PLAN}", record.to_json().encode())
    events.write()


@dataclass(frozen=True)
class Ending:
    """The last step of a sweep: the report and the runs in MLflow, both from the store and the event log."""

    plan: Plan
    record: Record
    store: Store
    link: Link
    events: EventLog

    def report(self, console: Console) -> SweepOutcome:
        """Writes table, CSV, figures and page from the store, then logs them and all models to MLflow.

        In this order, because the files need no server: they exist even if MLflow is unreachable.
        """
        self.check_measurements()
        self.events.event("finished")
        self.events.write()
        report = make_report(self.record, self.store, self.events.events)
        if report.rows:
            print_table(tables.effects_table(report.rows, console.width), console)
        if not self.plan.is_complete:
            print_table(plan_tables.costs_table(report.costs), console)
        self.store.write_files(self.events.folder, report.files)
        for line in report.verdicts:
            print_line(line, console)
        print_line(f"Report: {self.store.url}/{self.events.folder}/{HTML}", console)
        for place, line in report.damaged.items():
            self.events.fail(self.plan.artifacts[place.key], line)
        self.link.flush_reports(ignore_pause=True)  # before the runs of models end
        self.link.log(lambda tracker: self.log(tracker, report), ignore_pause=True)
        failed = effect_rows.failed_conditions(self.record, self.events.failures)
        for label, reason in failed.items():
            console.print(
                f"[red]failed[/red] {escape(label)}: {escape(reason)}", highlight=False, soft_wrap=True
            )
        for name, reason in effect_rows.other_failures(self.record, self.events.failures).items():
            kind = self.plan.artifacts[name].kind if name in self.plan.artifacts else "artifact"
            print_line(f"failed {kind} {name[:16]}: {reason}", console)
        self.events.write()  # with the damage that the report and the logging found
        return SweepOutcome(report.rows, self.events.failures, failed)

    def check_measurements(self) -> None:
        """Records measurements as failed whose answers changed on disk since they were written."""
        for artifact in self.plan.artifacts.values():
            if isinstance(artifact, Measurement) and self.store.has(artifact):
                try:
                    self.store.fetch(artifact)
                except StorageError as error:
                    self.events.fail(artifact, str(error))

    def log(self, tracker: Tracker, report: SweepReport) -> None:
        """Logs the models and data sets that MLflow lacks, then ends the parent run."""
        tracker.refresh()
        FinalLogging(self.plan, self.record, self.store, tracker, self.events).models()
        failed = effect_rows.failed_conditions(self.record, self.events.failures)
        effects = {
            f"effect {row.condition.label}": row.effect.effect for row in report.rows if row.is_primary
        }
        along: dict[int, dict[str, float]] = {}
        for curve in report.curves:
            for point in curve.points:
                name = f"effect_along {curve.condition.label}"
                along.setdefault(point.step, {})[name] = point.effect.effect
        note, sweep = self._note(report.verdicts), self.events.name
        tracker.close(
            effects,
            report.files,
            failed=bool(failed),
            note=note,
            sweep=sweep,
            tables=report.tables,
            along=along,
        )

    def _note(self, verdicts: Sequence[str]) -> str:
        """The parent run's description in Markdown: the question, then the verdicts."""
        question = [self.record.study.question, ""] if self.record.study.question else []
        return "\n".join([*question, *(f"- {line}" for line in verdicts)])
