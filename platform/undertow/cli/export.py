"""The logic of jobs/export.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from undertow.archive.export import export
from undertow.archive.verify import verify
from undertow.errors import UserError
from undertow.results import sweep_folders
from undertow.storage.manifest import sha256
from undertow.storage.store import Store


@dataclass(frozen=True)
class ExportArguments:
    """Exports a study as one archive, or verifies one."""

    study: Annotated[str, tyro.conf.arg(metavar="NAME")] = "owls"
    """The study's name."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """The folder or fsspec URL that the sweep wrote to."""
    sweep: Annotated[str, tyro.conf.arg(metavar="TIME")] = ""
    """Which of the study's sweeps, by its folder's name; the newest where none is given."""
    to: Annotated[str, tyro.conf.arg(metavar="FILE.zip")] = ""
    """Where to write the archive; STUDY.zip here where nothing is given."""
    adapters: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the students' LoRA adapters along."""
    verify: Annotated[str, tyro.conf.arg(metavar="FILE.zip")] = ""
    """Check this archive instead."""


def main(arguments: ExportArguments, console: Console) -> int:
    """0 once the archive is written, or where the one to verify holds."""
    return check(Path(arguments.verify), console) if arguments.verify else write(arguments, console)


def write(arguments: ExportArguments, console: Console) -> int:
    store = Store(arguments.storage)
    sweep = sweep_folders.newest(store, arguments.study, arguments.sweep)
    target = Path(arguments.to or f"{arguments.study}.zip")
    done = export(store, arguments.study, sweep, target, adapters=arguments.adapters)
    console.print(
        f"{target}: {done.artifacts} artifacts in {done.files} files, {done.size / 2**20:.1f} MiB",
        soft_wrap=True,
    )
    console.print(f"SHA-256 {sha256(target)}: publish it, and nobody can exchange the archive for another")
    if arguments.adapters and not done.adapters:
        console.print("no student of the study has a LoRA adapter: none is in the archive", soft_wrap=True)
    for name in done.missing:
        console.print(f"not in the store, so not in the archive: {name}", soft_wrap=True)
    return 0


def check(archive: Path, console: Console) -> int:
    if not archive.is_file():
        raise UserError(f"--verify {archive}: there is no such file")
    problems = verify(archive)
    for problem in problems:
        console.print(problem, highlight=False, markup=False, soft_wrap=True)
    console.print(f"SHA-256 {sha256(archive)}", soft_wrap=True)
    console.print(
        f"{archive}: {len(problems)} difference{'s' if len(problems) > 1 else ''}"
        if problems
        else f"{archive}: all holds (page, figures, cards and histories by their hashes alone)",
        soft_wrap=True,
    )
    return 1 if problems else 0
