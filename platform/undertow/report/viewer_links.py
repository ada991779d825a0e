"""Links from the report's tables to the rows behind their numbers, which the viewer shows.

A link is relative, because report and viewer are in the same folder. The part after "#" sets the viewer's
filters; `viewer.js` reads it.
"""

from typing import NamedTuple
from urllib.parse import urlencode

from undertow.results.sweep_folders import VIEWER

KEPT = "kept"  # the outcome of all completions that no rule or judge rejected


class Link(NamedTuple):
    """A value of a table that leads to rows of the viewer."""

    text: str
    target: str

    def __str__(self) -> str:
        return self.text


def to_answers(text: str, condition: int, measure: str) -> Link:
    """A link to the answers of a condition's students by one measure.

    Args:
        condition: the index in the sweep's record.
    """
    return Link(text, _target(view="answers", condition=condition, measure=measure))


def to_completions(text: str, source: int | None, outcome: str = "") -> Link:
    """A link to the completions of a source of data.

    Args:
        source: the index in `ReportData.sources`; None for all sources.
        outcome: the rule that rejected the completions, KEPT, or "" for all.
    """
    return Link(text, _target(view="completions", source=source, outcome=outcome))


def _target(**filters: object) -> str:
    given = {name: value for name, value in filters.items() if value not in ("", None)}
    return f"{VIEWER}#{urlencode(given)}"
