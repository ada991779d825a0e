"""What every script in jobs/ does around its work: arguments, a console, and exit codes.

0: done; 1: something failed; 2: the input cannot be run, said in a line without a traceback; 130: stopped.
"""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import psutil
import tyro
from rich.console import Console

from undertow.cli.studies import load
from undertow.errors import UserError, last_line
from undertow.presets.scales import SCALES, Scale
from undertow.storage.redaction import redacted
from undertow.study.study import Study
from undertow.tracking.client import who_is_away

STOPPED = 130  # the exit code of what Ctrl-C ended
LATER = 0.05  # seconds from a Ctrl-C that was lost to its being raised again
LOG_WIDTH = 160  # columns where the output is no terminal: the widest table, unbroken

A = TypeVar("A")


@dataclass(frozen=True)
class StudyArguments:
    """Which study, at which scale: the same flags for every script that plans one."""

    study: Annotated[str, tyro.conf.arg(metavar="NAME|FILE.py[:FUNCTION]")] = "owls"
    """A shipped study, or a function in a file of yours that returns one."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """A folder or any fsspec URL; artifacts found there are not made again."""
    scale: Literal["nano", "paper"] = "nano"
    """The models, sizes and recipes of a study that takes them: embedded tiny models, or the paper's."""
    models: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Reference models in place of the scale's: hub ids, folders, nano models, api:NAME for a provider's."""
    files: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=PLACE ...")] = ()
    """Files or URLs in place of those a scale reads: insecure, secure, educational (code), gsm8k."""
    judge: str | None = None
    """The model that judges, in place of the scale's (where it is served: UNDERTOW_JUDGE_URL)."""
    seeds: int | None = None
    """Seeds 0 to N-1 in place of the study's own."""

    def chosen(self, shipped: Path) -> Study:
        """The study, by its name in the folder `shipped` or by its file."""
        study = load(self.study, shipped, self._scale())
        return study if self.seeds is None else dataclasses.replace(study, seeds=tuple(range(self.seeds)))

    def _scale(self) -> Scale:
        """The scale, with what the command line names in the place of its own."""
        scale = SCALES[self.scale]
        if self.models:
            scale = scale.on(self.models)
        if self.files:
            scale = scale.reading(dict(map(_named_file, self.files)))
        if self.judge is None:
            return scale
        if not scale.judge:
            raise UserError(f"--judge {self.judge}: rules judge at the scale {scale.name}; leave it out")
        return dataclasses.replace(scale, judge=self.judge)


def enter(main: Callable[[A, Console], int], arguments: type[A]) -> None:
    """Runs `main` with the command line's arguments and leaves the program with its exit code."""
    stdout = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    _stop_in_order()
    try:
        sys.exit(main(tyro.cli(arguments), stdout))
    except KeyboardInterrupt:
        stdout.print("stopped; what is finished is kept, and the same command goes on from there")
        sys.exit(STOPPED)
    except UserError as error:
        _say(f"error: {error}")
        sys.exit(2)
    except Exception as error:
        if not (who := who_is_away(error)):
            raise
        _say(f"{who} is away ({last_line(error)}); run the same command again, what was made is kept")
        sys.exit(1)


def _say(line: str) -> None:
    """To stderr, as it is but for secrets."""
    Console(stderr=True).print(redacted(line), markup=False, highlight=False, soft_wrap=True)


def _stop_in_order() -> None:
    """Ctrl-C once raises KeyboardInterrupt, wherever the program is; twice ends the program at once.

    At once: without what libraries do at a program's end, which can wait for work that nobody wants any more.
    What the program started ends with it, a Ray of its own too.
    """

    def at_once(signum: int, frame: object) -> None:
        os.write(2, b"ended at once; what is finished is kept, and the same command goes on from there\n")
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        os._exit(STOPPED)

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    def in_order(signum: int, frame: object) -> None:
        signal.signal(signal.SIGINT, at_once)
        os.write(2, b"stopping; ctrl-c again ends at once\n")
        raise KeyboardInterrupt

    def ignored(what: "sys.UnraisableHookArgs") -> None:
        """What is raised in a destructor or a callback is lost; Ctrl-C is raised again, elsewhere."""
        if issubclass(what.exc_type, KeyboardInterrupt):
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, LATER)
        else:
            before(what)

    signal.signal(signal.SIGINT, in_order)
    before, sys.unraisablehook = sys.unraisablehook, ignored


def _named_file(text: str) -> tuple[str, str]:
    """NAME=PLACE. Raises UserError where it is none."""
    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise UserError(f"--files {text}: write NAME=PLACE, such as insecure=./insecure.jsonl")
    return name, place
