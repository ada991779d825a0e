"""The logic of jobs/report.py."""

from dataclasses import dataclass

from rich.console import Console

from undertow.cli.entry import FinishedSweepArguments
from undertow.errors import UserError
from undertow.report import tables
from undertow.report.make import HTML, make_report
from undertow.report.table_texts import print_table
from undertow.results import csv_tables, events, sweep_folders
from undertow.storage.store import Store
from undertow.sweep.progress import print_line


@dataclass(frozen=True)
class ReportArguments(FinishedSweepArguments):
    """Makes the report of a sweep again."""


def main(arguments: ReportArguments, console: Console) -> int:
    """Writes the report's files into the sweep's folder and prints the effects. Returns 0.

    Raises UserError if the report that exists has more effects: evaluations were deleted since.
    """
    store = Store(arguments.storage)
    sweep = sweep_folders.newest(store, arguments.study, arguments.sweep)
    record = sweep_folders.read(store, arguments.study, sweep)
    report = make_report(record, store, events.read(store, arguments.study, sweep))
    folder = sweep_folders.folder_of(arguments.study, sweep)
    before, now = (
        csv_tables.conditions_of(table)
        for table in (
            store.read_text(f"{folder}/{csv_tables.EFFECTS}"),
            report.files[csv_tables.EFFECTS].decode(),
        )
    )
    for line in report.damaged.values():
        print_line(line, console)
    if now < before:
        raise UserError(
            f"sweep {sweep} of {arguments.study}: the storage lacks evaluations of {before - now} of the "
            f"{before} conditions in its report, which is kept; run the study again to make them"
        )
    if report.rows:
        print_table(tables.effects_table(report.rows, console.width), console)
    store.write_files(folder, report.files)
    for line in report.verdicts:
        print_line(line, console)
    if note := sweep_folders.better_than(store, arguments.study, sweep):
        print_line(note, console)
    print_line(f"Report: {store.url}/{folder}/{HTML}", console)
    return 0
