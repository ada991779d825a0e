"""What every script in jobs/ does around its work: arguments, a console, and exit codes.

0: done; 1: something failed; 2: the input cannot be run, said in a line without a traceback; 130: stopped.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

import tyro
from rich.console import Console

from undertow.errors import UserError

LOG_WIDTH = 160  # columns where the output is no terminal: the widest table, unbroken

A = TypeVar("A")


def enter(main: Callable[[A, Console], int], arguments: type[A]) -> None:
    """Runs `main` with the command line's arguments and leaves the program with its exit code."""
    stdout = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    try:
        sys.exit(main(tyro.cli(arguments), stdout))
    except KeyboardInterrupt:
        stdout.print("stopped; what is finished is kept, and the same command goes on from there")
        sys.exit(130)
    except UserError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
