"""Makes a sweep's report again, from the store alone: `python jobs/report.py --study owls`.

Writes report.html, effects.csv, students.csv and the figures into the sweep's folder. It needs neither Ray
nor the study's file, and the same answers give the same numbers.
"""

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from undertow import journal
from undertow.door import enter
from undertow.report import sweeps, tables
from undertow.report.make import HTML, make_report
from undertow.store import Store


@dataclass(frozen=True)
class Arguments:
    """Makes the report of a sweep again."""

    study: Annotated[str, tyro.conf.arg(metavar="NAME")] = "owls"
    """The study's name."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """The folder or fsspec URL that the sweep wrote to."""
    sweep: Annotated[str, tyro.conf.arg(metavar="TIME")] = ""
    """Which of the study's sweeps, by its folder's name; the newest where none is given."""


def main(arguments: Arguments, console: Console) -> int:
    """0 once the report is written."""
    store = Store(arguments.storage)
    sweep = sweeps.newest(store, arguments.study, arguments.sweep)
    record = sweeps.read(store, arguments.study, sweep)
    report = make_report(record, store, journal.read(store, arguments.study, sweep))
    console.print(tables.effects_table(report.rows))
    folder = sweeps.folder_of(arguments.study, sweep)
    for name, content in report.files.items():
        store.write_bytes(f"{folder}/{name}", content)
    for line in (*report.verdicts, *report.damaged.values()):
        console.print(line, highlight=False, markup=False)
    console.print(f"Report: {store.url}/{folder}/{HTML}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    enter(main, Arguments)
