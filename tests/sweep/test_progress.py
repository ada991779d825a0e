"""Progress lines: counts of what was made, and text that is printed as it is."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from undertow.sweep.progress import Progress, print_line

LITERAL = ["/data/run[a]/x", "[red]x[/red]", "[/]", "a\\[b]", "/data/:o:/:smile:", "[link=x]y", "100%"]


def printed(write: Callable[[Console], object]) -> str:
    console = Console(file=io.StringIO(), width=60)
    write(console)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize("text", [*LITERAL, "word " * 40])
def test_a_line_is_printed_as_it_is(text: str) -> None:
    assert printed(lambda console: print_line(text, console)) == f"{text}\n"


@pytest.mark.parametrize(
    ("parts", "failed", "count"),
    [
        ([1.0] * 5, 0, "5 models"),
        ([1.0] * 4, 1, "4 of 5 models"),
        ([1.0] * 4 + [0.66], 1, "4 of 5 models"),  # the last model failed in its second epoch
        ([1.0] * 5, 1, "4 of 5 models"),  # an engine's task counts as advanced even if it failed
        ([0.1] * 50, 0, "5 models"),
        ([], 5, "0 of 5 models"),
    ],
)
def test_the_last_line_counts_what_was_made(parts: list[float], failed: int, count: str) -> None:
    def work(console: Console) -> None:
        with Progress(console, "students [a]", 5, "models") as progress:
            for part in parts:
                progress.advance(part)
            progress.fail(failed)

    first, last = printed(work).splitlines()
    assert first == "students [a]: 5 models"
    assert last.startswith(f"students [a]: done, {count} in ")


def test_a_stopped_step_counts_whole_units() -> None:
    def work(console: Console) -> None:
        with pytest.raises(KeyboardInterrupt), Progress(console, "students", 5, "models") as progress:
            progress.advance(2.7)
            raise KeyboardInterrupt

    assert printed(work).splitlines()[-1].startswith("students: stopped, 2 of 5 models in ")
