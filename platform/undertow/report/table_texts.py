"""The text form of numbers, the look and the printing of all tables of the terminal."""

import json
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from undertow.study.hypotheses import Place
from undertow.study.measurements import EffectOf, EffectScale

LOG_WIDTH = 160  # console columns if the output is not a terminal; fits the widest table
GAP = 3  # columns between two cells of a table
FOLDED = 7  # characters to which a narrow terminal may fold a cell of text


def new_table(title: str) -> Table:
    """An empty table with a single rule below the header; its title and its caption are left-aligned."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        caption_style="",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )


def print_table(table: Table, console: Console) -> None:
    """Prints a table (see `new_table`) without cutting its numbers, which are columns with `no_wrap`.

    In a narrow terminal, other columns are folded, to `FOLDED` characters or more; longer lines are wrapped.
    """
    wide, needed = console.options.update(width=LOG_WIDTH), 0
    for column in table.columns:
        cells = (column.header, *column.cells)
        natural = max(console.measure(cell, options=wide).maximum for cell in cells)
        if column.no_wrap:
            column.min_width = natural
        needed += (natural if column.no_wrap else min(natural, FOLDED)) + GAP
    if needed > console.width:
        table.width = needed
    console.print(table, crop=False)


def condition_fields(places: Sequence[Place]) -> list[str]:
    """The fields of a place that identify a condition; format and induction only if there are several."""
    omitted = {"format", "induced"} - differing(places)
    return [field for field in Place._fields if field not in omitted]


def differing(named: Sequence[NamedTuple]) -> set[str]:
    """The fields in which named tuples of one class differ."""
    return {
        field for one in named for field in one._fields if getattr(one, field) != getattr(named[0], field)
    }


def effects_phrase(effect_of: EffectOf, scale: EffectScale) -> str:
    """What effects are of, and their unit, after the word "effects"; "" for differences of sampled rates."""
    of = " of exact probabilities" if effect_of == "exact" else ""
    return of + (" in log-odds" if scale == "log-odds" else "")


def decimal(value: float, digits: int) -> str:
    """A number with a minus sign, not a hyphen, if it is negative; without one if it rounds to zero."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−" if float(text) else "")


def percent(share: float, digits: int = 0) -> str:
    """A share of 1 in per cent, with a space: "70 %"."""
    return f"{decimal(100 * share, digits)} %"


def level(alpha: float) -> str:
    """An error rate that the user set, in per cent with all of its digits: "5 %", "0.1 %"."""
    return f"{100 * alpha:g} %"


def signed(value: float, digits: int = 3) -> str:
    """An effect with its sign; without one if it rounds to zero."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def interval(low: float | None, high: float | None) -> str:
    """An interval of an effect, or a dash if a bound is missing."""
    return "–" if low is None or high is None else f"{signed(low)} … {signed(high)}"


def p_value(p: float | None) -> str:
    """A p-value with three decimals; "< .001" below that, and a dash for None."""
    return "–" if p is None else "< .001" if p < 0.001 else f"{p:.3f}"


def utc(seconds: float) -> str:
    """A time in seconds since 1970 as date and time of day: "2026-05-01 09:30 UTC"."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def duration(seconds: float) -> str:
    """Seconds in at most two units: "42 s", "3 min 10 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def json_text(content: Any, indent: int | None = None) -> str:
    """JSON with six significant digits per number, as in the CSV tables; null for one that is not finite."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: rounded(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [rounded(part) for part in value]
        if isinstance(value, float):
            return float(f"{value:.6g}") if math.isfinite(value) else None
        return value

    return json.dumps(rounded(content), allow_nan=False, indent=indent)
