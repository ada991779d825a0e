"""What can go wrong, in two kinds.

A `UserError` is something the reader of the message can mend: it names the value, the place and the
remedy, is shown without a traceback, and ends the program with exit code 2 before anything is spent.
A `ConditionError` stops one condition of a sweep and leaves the others alone (exit code 1 at the end).
Everything else is ours, and keeps its traceback.

The rule for adding a class: only where a caller treats it differently from those here.
"""

from collections.abc import Iterable
from difflib import get_close_matches

MOST_NAMES = 30  # that a message lists
LONGEST_NAME = 200  # characters that are compared; comparing takes time by the square


class UserError(Exception):
    """Input that the user can mend; the message says where and how, in one or two lines."""


class SpecError(UserError):
    """A field of a spec, a study or a recipe that cannot be what was given."""


class StorageError(UserError):
    """A storage URL that cannot be written, or an artifact whose bytes are not what was written."""


class ReadError(UserError):
    """A storage that cannot be read now (away, no credentials); what is in it may be whole."""


class ConditionError(Exception):
    """One condition cannot go on (a teacher without its trait, too few rows left); the others can."""


def last_line(error: BaseException) -> str:
    """What an error says in its last line: where Ray puts the cause under a traceback of its own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def suggestion(given: str, known: Iterable[str]) -> str:
    """The tail of an unknown-name message: a guess at what was meant, else the names that there are."""
    names = sorted(known)
    if close := get_close_matches(given[:LONGEST_NAME], names, n=1):
        return f"did you mean {close[0]!r}?"
    shown = [name if name.isprintable() else repr(name) for name in names[:MOST_NAMES]]
    return f"there are: {', '.join(shown)}{' …' if len(names) > MOST_NAMES else ''}"
