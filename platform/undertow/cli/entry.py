"""What all scripts in jobs/ share: command-line arguments, the console, interrupts and exit codes.

Exit codes: 0: success; 1: a part of the work failed; 2: invalid input, reported in one line without a
traceback; 130: interrupted with Ctrl-C; 143: ended by SIGTERM, as schedulers send it.
"""

import dataclasses
import gc
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import psutil
import tyro
from rich.console import Console

import undertow
from undertow.cli.studies import load
from undertow.errors import UserError
from undertow.presets.paper_scale import PAPER
from undertow.presets.scales import NANO
from undertow.report.table_texts import LOG_WIDTH
from undertow.storage.redaction import redacted
from undertow.study.study import Level, Study
from undertow.sweep.progress import print_line
from undertow.tracking.connection_errors import reason_of, unreachable_service

RERAISE_AFTER = 0.05  # seconds after which a lost KeyboardInterrupt is raised again
KEPT = "finished artifacts are kept, run the same command again to continue"

A = TypeVar("A")
_FIELD = re.compile(r"(?P<spec>\w+)\.(?P<field>\w+) = ")  # begins the message of an invalid spec


def option(metavar: str, default: str) -> Any:
    """The description of an optional flag in --help, where `default` says what happens without the flag."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


@dataclass(frozen=True)
class StudyArguments:
    """The arguments of every script that plans a study: which study, and at which scale."""

    study: Annotated[str, tyro.conf.arg(metavar="NAME|FILE.py[:FUNCTION]")] = "owls"
    """Name of a shipped study, or a Python file with a function that returns a study."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """Folder or fsspec URL for artifacts. Artifacts found there are reused."""
    scale: Literal["nano", "paper"] = "nano"
    """Models, sizes and recipes of a study that takes a scale: embedded nano models, or the paper's."""
    models: Annotated[tuple[str, ...], option("NAME ...", "those of the scale")] = ()
    """Reference models: Hub ids, folders, nano models, or api:NAME for a provider's model."""
    files: Annotated[tuple[str, ...], option("NAME=PLACE ...", "those of the scale")] = ()
    """Files or URLs of data. NAME is insecure, secure, educational (code) or gsm8k."""
    judge: Annotated[str | None, option("NAME", "that of the scale")] = None
    """Judge model. Its endpoint is at UNDERTOW_JUDGE_URL."""
    seeds: Annotated[int | None, option("N", "the seeds of the study")] = None
    """Use the seeds 0 to N-1."""
    redraw: Annotated[tuple[Level, ...], option("LEVEL ...", "those of the study")] = ()
    """What each seed draws again: teacher, data, student. With student alone, one data set per trait."""

    def load_study(self, shipped: Path) -> Study:
        """The study that the arguments describe. `shipped` is the folder of the shipped studies."""
        scale = {"nano": NANO, "paper": PAPER}[self.scale]
        if self.models:
            scale = scale.on(self.models)
        if self.files:
            scale = scale.reading(dict(map(_named_file, self.files)))
        if self.judge is not None:
            if not scale.judge:
                raise UserError(
                    f"--judge {self.judge}: the scale {scale.name} uses rules as judges; leave it out"
                )
            scale = dataclasses.replace(scale, judge=self.judge)
        study = load(self.study, shipped, scale)
        if self.redraw:
            study = dataclasses.replace(study, redraw=tuple(dict.fromkeys(self.redraw)))
        return study if self.seeds is None else dataclasses.replace(study, seeds=tuple(range(self.seeds)))


@dataclass(frozen=True)
class FinishedSweepArguments:
    """The arguments of every script that reads a sweep from the storage."""

    study: Annotated[str, tyro.conf.arg(metavar="NAME")] = "owls"
    """Name of the study."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """Folder or fsspec URL that the sweep wrote to."""
    sweep: Annotated[str, option("TIME", "the newest")] = ""
    """Folder name of one of the study's sweeps."""


def enter(main: Callable[[A, Console], int], arguments: type[A]) -> None:
    """Runs `main` with the command line's arguments and exits with its exit code.

    Errors that the user can fix (`UserError`) and unreachable services are reported in one line on stderr,
    every other error with its traceback.
    """
    stdout = Console(width=None if sys.stdout.isatty() else LOG_WIDTH, emoji=False)  # ":o:" may be in a path
    exit_code = _handle_interrupts()
    gc.freeze()  # imported modules live until the end: the collections of a large plan need not visit them
    try:
        sys.exit(main(tyro.cli(arguments), stdout))
    except KeyboardInterrupt:
        stdout.print(f"stopped; {KEPT}", soft_wrap=True)
        sys.exit(exit_code())
    except UserError as error:
        _print_error(f"error: {_with_flag(str(error), arguments)}")
        sys.exit(2)
    except Exception as error:
        if not (service := unreachable_service(error)):
            raise
        _print_error(f"{service} is unreachable ({reason_of(error)}); {KEPT}")
        sys.exit(1)


def _with_flag(message: str, arguments: type[Any]) -> str:
    """The message, with the flag in place of a field that it sets of a spec that users do not write."""
    place = _FIELD.match(message)
    if place is None or place["spec"] in undertow.__all__:
        return message
    if place["field"] not in {field.name for field in dataclasses.fields(arguments)}:
        return message
    return f"--{place['field'].replace('_', '-')} {message[place.end() :]}"


def check_at_least_one(arguments: object, *fields: str) -> None:
    """Raises UserError, with the flag, for a number below 1."""
    for name in fields:
        if (value := getattr(arguments, name)) < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: give at least 1")


def _print_error(line: str) -> None:
    """Prints a line to stderr, without secrets and without Rich's markup."""
    print_line(redacted(line), Console(stderr=True))


def _handle_interrupts() -> Callable[[], int]:
    """Makes the first Ctrl-C or SIGTERM stop the program in order, and a later Ctrl-C end it at once.

    Returns a function that returns the exit code of a stopped program: 128 + the first signal, as shells
    report it.

    The first signal raises KeyboardInterrupt in the main thread, so `finally` blocks and context managers
    release what they hold. A later SIGINT kills all child processes, a local Ray included, and leaves with
    `os._exit`: a normal exit would run the exit handlers of libraries, which can wait for work that was just
    abandoned. A later SIGTERM is ignored: Slurm sends it to every process of a job, a job script sends it
    again, and schedulers end what takes too long with SIGKILL.

    Python discards an exception that is raised in a destructor or in the callback of a weak reference: it
    hands it to `sys.unraisablehook` and continues. A KeyboardInterrupt that arrives there would be lost, and
    the program would run on. The hook therefore raises it again from a timer signal (SIGALRM) a moment later,
    when the main thread runs other code.
    """
    received: list[int] = []

    def exit_code() -> int:
        return 128 + (received or [signal.SIGINT])[0]

    def end_at_once(signum: int, frame: object) -> None:
        # os.write, not print: the signal may interrupt a print, and buffered streams are not reentrant.
        os.write(2, f"ended at once; {KEPT}\n".encode())
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        os._exit(exit_code())

    def stop_in_order(signum: int, frame: object) -> None:
        if received:
            return
        received.append(signum)
        signal.signal(signal.SIGINT, end_at_once)
        if signum == signal.SIGINT:
            os.write(2, b"stopping; press Ctrl-C again to end at once\n")
        else:
            os.write(2, b"stopping after SIGTERM\n")
        raise KeyboardInterrupt

    def raise_again(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    def on_discarded(discarded: "sys.UnraisableHookArgs") -> None:
        if issubclass(discarded.exc_type, KeyboardInterrupt):
            signal.signal(signal.SIGALRM, raise_again)
            signal.setitimer(signal.ITIMER_REAL, RERAISE_AFTER)
        else:
            previous_hook(discarded)

    signal.signal(signal.SIGINT, stop_in_order)
    signal.signal(signal.SIGTERM, stop_in_order)
    previous_hook, sys.unraisablehook = sys.unraisablehook, on_discarded
    return exit_code


def _named_file(text: str) -> tuple[str, str]:
    """The name and the place in NAME=PLACE. Raises UserError if `text` has another form."""
    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise UserError(f"--files {text}: write NAME=PLACE, such as insecure=./insecure.jsonl")
    return name, place
