"""The exception classes.

A `UserError` is a problem that the user can fix. Its message names the value, the place and the remedy; it is
shown without a traceback, and the program exits with code 2. A `ConditionError` stops one condition of a
sweep while the others continue; the sweep exits with code 1. All other exceptions are bugs in Undertow and
keep their traceback.

Add a class only if a caller handles it differently from the existing ones.
"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

MOST_NAMES = 30  # listed in a message
LONGEST_NAME = 200  # characters compared: the time of difflib grows with the square of the length


class UserError(Exception):
    """Invalid input that the user can fix; the message states where and how, in one or two lines."""


class SpecError(UserError):
    """An invalid value in a field of a spec, such as a study or a recipe."""


class UnavailableError(SpecError):
    """A model or data file that cannot be reached now and is not cached; `--plan` goes on without it."""


class StorageError(UserError):
    """A storage that cannot be written, or an artifact whose content is not what was written."""


class ReadError(UserError):
    """A storage that cannot be read now (unreachable, no credentials); its content may be intact."""


class ConditionError(Exception):
    """One condition cannot continue (teacher without the trait, too few rows left), but others can."""


def last_line(error: BaseException) -> str:
    """The last line of an error's message, which is where Ray puts the cause, below a remote traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an error's message, which is where the client of the Hugging Face hub puts it."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that led to it, the outermost first."""
    yield error
    if isinstance(error, BaseExceptionGroup):  # one error per address of a host
        for each in error.exceptions:
            yield from causes(each)
    # httpcore raises its errors "from None": the operating system's error is only their context.
    if cause := error.__cause__ or error.__context__:
        yield from causes(cause)


def suggestion(given: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the closest known name, or a list of all of them."""
    names = sorted(known)
    if close := get_close_matches(given[:LONGEST_NAME], names, n=1):
        return f"did you mean {close[0]!r}?"
    shown = [name if name.isprintable() else repr(name) for name in names[:MOST_NAMES]]
    return f"available: {', '.join(shown)}{' …' if len(names) > MOST_NAMES else ''}"
