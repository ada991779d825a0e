"""The prompt files of judges: versioned Markdown files whose hash is part of the artifact key.

    version: 1

    Does the answer below refer to {trait}? …

The shipped files are in `prompts/`; a study can name a file of its own. Each file is read once per process,
so that the hash in a key and the text that is sent are always of the same version. The version number is for
readers; the hash covers both the number and the text.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from undertow.errors import UserError, suggestion
from undertow.prompts import packs
from undertow.prompts.packs import PLACEHOLDER
from undertow.study.identity import digest

SHIPPED = Path(__file__).parent / "prompts"
ENDING = ".md"

_VERSION = re.compile(r"version: *([0-9]+)")
_KNOWN = ("prompt", "completion", "trait", "forms")


@dataclass(frozen=True)
class Wording:
    """A prompt file: its version, and its text with placeholders."""

    path: str
    version: int
    template: str

    @property
    def content(self) -> str:
        """The hash that represents the file in artifact keys."""
        return digest(f"{self.version}\n{self.template}")

    @property
    def needs_trait(self) -> bool:
        """Whether the text has a placeholder for the trait: {trait} or {forms}."""
        return bool({"trait", "forms"} & set(PLACEHOLDER.findall(self.template)))


def located(name: str) -> str:
    """The name of a shipped file, or the path of a user's file, made absolute."""
    return packs.located(name) if name.endswith(ENDING) else name


@cache
def read(name: str) -> Wording:
    """Reads the shipped file `name`, or the file at the path `name` if it ends in ".md".

    Raises UserError for an unknown name, an unreadable file, a first line other than "version: N", a missing
    {completion} or an unknown placeholder.
    """
    path = Path(name) if name.endswith(ENDING) else SHIPPED / f"{name}{ENDING}"
    if not name.endswith(ENDING) and not path.is_file():
        shipped = [file.stem for file in SHIPPED.glob(f"*{ENDING}")]
        raise UserError(
            f"judge's prompt {name!r}: {suggestion(name, shipped)}, or give the path of a file: mine{ENDING}"
        )
    try:
        first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    except OSError as error:
        raise UserError(f"judge's prompt {name}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"judge's prompt {name}: is not UTF-8 ({error})") from None
    version = _VERSION.fullmatch(first.strip())
    if version is None:
        raise UserError(f"judge's prompt {name}: its first line is {first!r}; begin with 'version: 1'")
    template = rest.strip()
    found = set(PLACEHOLDER.findall(template))
    if "completion" not in found:
        raise UserError(f"judge's prompt {name}: lacks {{completion}}, the placeholder for the text to judge")
    if unknown := sorted(found - set(_KNOWN)):
        known = ", ".join(f"{{{placeholder}}}" for placeholder in _KNOWN)
        raise UserError(
            f"judge's prompt {name}: unknown placeholder {{{unknown[0]}}}; the known ones are {known}"
        )
    return Wording(name, int(version[1]), template)
