"""The logic of jobs/report.py."""

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from undertow.cli.entry import option
from undertow.report import tables
from undertow.report.make import HTML, make_report
from undertow.report.table_texts import print_table
from undertow.results import events, sweep_folders
from undertow.storage.store import Store
from undertow.sweep.progress import print_line


@dataclass(frozen=True)
class ReportArguments:
    """Makes the report of a sweep again."""

    study: Annotated[str, tyro.conf.arg(metavar="NAME")] = "owls"
    """Name of the study."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """Folder or fsspec URL that the sweep wrote to."""
    sweep: Annotated[str, option("TIME", "the newest")] = ""
    """Folder name of one of the study's sweeps."""


def main(arguments: ReportArguments, console: Console) -> int:
    """Writes the report's files into the sweep's folder and prints the effects. Returns 0."""
    store = Store(arguments.storage)
    sweep = sweep_folders.newest(store, arguments.study, arguments.sweep)
    record = sweep_folders.read(store, arguments.study, sweep)
    report = make_report(record, store, events.read(store, arguments.study, sweep))
    if report.rows:
        print_table(tables.effects_table(report.rows, console.width), console)
    folder = sweep_folders.folder_of(arguments.study, sweep)
    for name, content in report.files.items():
        store.write_bytes(f"{folder}/{name}", content)
    for line in (*report.verdicts, *report.damaged.values()):
        print_line(line, console)
    if note := sweep_folders.better_than(store, arguments.study, sweep):
        print_line(note, console)
    print_line(f"Report: {store.url}/{folder}/{HTML}", console)
    return 0
