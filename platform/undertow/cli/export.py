"""The logic of jobs/export.py."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from undertow.archive.export import export
from undertow.archive.verify import effects_in, verify
from undertow.archive.whole_model import export_model, find_model
from undertow.cli.entry import FinishedSweepArguments, option
from undertow.engines.quiet import quiet, quiet_deepspeed
from undertow.errors import UserError
from undertow.results import sweep_folders
from undertow.storage.manifest import sha256
from undertow.storage.store import Store
from undertow.sweep.progress import print_line


@dataclass(frozen=True)
class ExportArguments(FinishedSweepArguments):
    """Exports a study as one ZIP archive or a trained model as a folder, or verifies such an archive."""

    to: Annotated[str, option("PATH", "STUDY.zip, or KEY for a model")] = ""
    """File to write the archive to, or new folder for a model."""
    adapters: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Include the LoRA adapters of the students."""
    verify: Annotated[str, option("FILE.zip", "write an archive")] = ""
    """Verify this archive."""
    model: Annotated[str, option("KEY", "write an archive")] = ""
    """Write the whole model of the student or teacher with this key, or this beginning of a key."""
    reference: Annotated[str, option("FOLDER", "found by its name")] = ""
    """With --model: the folder of the reference model, if it was given to the study as a folder."""


def main(arguments: ExportArguments, console: Console) -> int:
    """Writes an archive or a model, or verifies an archive. Returns 1 if that finds a difference."""
    if arguments.verify:
        return verify_archive(Path(arguments.verify), console)
    return write_model(arguments, console) if arguments.model else write(arguments, console)


def write_model(arguments: ExportArguments, console: Console) -> int:
    """Writes a student or teacher as a whole model and prints its size."""
    quiet()
    store = Store(arguments.storage)
    model = find_model(store, arguments.model)
    quiet_deepspeed()
    target = Path(arguments.to or model.key)
    export_model(store, model, target, arguments.reference)
    size = sum(path.stat().st_size for path in target.iterdir()) / 2**20
    print_line(f"{target}: the whole model of {model.kind} {model.key}, {size:.1f} MiB", console)
    return 0


def write(arguments: ExportArguments, console: Console) -> int:
    """Writes the archive and prints its size, its hash and what it lacks."""
    store = Store(arguments.storage)
    sweep = sweep_folders.newest(store, arguments.study, arguments.sweep)
    target = Path(arguments.to or f"{arguments.study}.zip")
    done = export(store, arguments.study, sweep, target, adapters=arguments.adapters)
    size = f"{done.size / 2**20:.1f} MiB"
    found = f"effects of {done.effects} of {done.conditions} conditions"
    print_line(f"{target}: sweep {sweep}, {found}, {done.artifacts} artifacts, {size}", console)
    if note := sweep_folders.better_than(store, arguments.study, sweep):
        print_line(note, console)
    print_line(f"SHA-256 {sha256(target)}: publish this hash to prove that the archive is unchanged", console)
    if arguments.adapters and not done.adapters:
        print_line("no student of the study has a LoRA adapter; the archive contains none", console)
    if done.missing:
        kinds = Counter(name.partition("/")[0] for name in done.missing)
        counts = ", ".join(f"{count} of kind {kind}" for kind, count in kinds.items())
        print_line(f"not in the storage, so not in the archive: {counts}", console)
    return 0


def verify_archive(archive: Path, console: Console) -> int:
    """Prints each difference between the archive and what its contents imply."""
    if not archive.is_file():
        raise UserError(f"--verify {archive}: there is no such file")
    problems = verify(archive)
    for problem in problems:
        print_line(problem, console)
    print_line(f"SHA-256 {sha256(archive)}", console)
    if problems:
        print_line(f"{archive}: {len(problems)} difference{'s' if len(problems) > 1 else ''}", console)
        return 1
    effects, conditions = effects_in(archive)
    print_line(
        f"{archive}: verified, with the effects of {effects} of {conditions} conditions (page, figures, "
        "cards and histories only by their hashes)",
        console,
    )
    return 0
