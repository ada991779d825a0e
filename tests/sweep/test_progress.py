"""Progress lines: counts of finished work, and text that is printed unchanged."""

import io
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from rich.console import Console

from undertow.sweep.progress import Progress, counted, print_line, rounded_duration
from undertow.sweep.time_left import Lane

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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "5 s"), (42, "40 s"), (70, "1 min"), (750, "12 min"), (7100, "118 min"), (12_000, "3 h 20 min")],
)
def test_an_estimate_is_rounded(seconds: float, text: str) -> None:
    assert rounded_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "unit", "text"),
    [(1, "models", "1 model"), (1200, "models", "1,200 models"), (1, "sets of rows", "1 set of rows")],
)
def test_one_unit_is_in_the_singular(count: int, unit: str, text: str) -> None:
    assert counted(count, unit) == text


def test_lines_become_rare_in_a_long_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour with a report every two seconds: a line every 15 seconds at first, then ever fewer."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("undertow.sweep.progress.time", clock)

    def work(console: Console) -> None:
        with Progress(console, "students", 1, "models") as progress:
            progress.detail = "step 1 of 9"
            for _ in range(1800):
                clock.now += 2
                progress.show()

    _, *lines, _ = printed(work).splitlines()
    assert len([line for line in lines if line == "students: 0 of 1 model, step 1 of 9"]) == len(lines)
    assert 35 < len(lines) < 50


def test_a_terminal_shows_the_same_text_next_to_a_bar() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with Progress(console, "students", 4, "models", [Lane(160, done=40, seconds=60)]) as progress:
        progress.detail = "step 40 of 160"
        progress.advance()
        assert progress._bar is not None
        (task,) = progress._bar.tasks
        assert task.fields["status"] == "1 of 4 models, step 40 of 160, about 3 min left"
        assert task.completed == 0.25
