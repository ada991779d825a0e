"""The wording of judges' prompts: Markdown files with a version, hashed into the identity.

    version: 1

    Does the answer below refer to {trait}? …

The shipped files lie in `prompts/`; a study may name a file of its own. A file is read once a process, so
that the hash in a key and the text that is sent can never be of two versions. The version is for people;
the hash covers it and every word after it.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from undertow.errors import UserError, suggestion
from undertow.study.identity import digest

SHIPPED = Path(__file__).parent / "prompts"
ENDING = ".md"

_VERSION = re.compile(r"version: *([0-9]+)")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_KNOWN = ("prompt", "completion", "trait", "forms")


@dataclass(frozen=True)
class Wording:
    """A prompt file: its version, and the text with its placeholders."""

    path: str
    version: int
    template: str

    @property
    def content(self) -> str:
        """The hash that stands for the file in an identity."""
        return digest(f"{self.version}\n{self.template}")

    @property
    def needs_trait(self) -> bool:
        """Whether the text names what to look for."""
        return bool({"trait", "forms"} & set(_PLACEHOLDER.findall(self.template)))


@cache
def read(name: str) -> Wording:
    """The shipped file `name`, or the file at a path that ends in ".md".

    Raises UserError for an unknown name, a file that cannot be read, or one that is not as said above.
    """
    path = Path(name) if name.endswith(ENDING) else SHIPPED / f"{name}{ENDING}"
    if not name.endswith(ENDING) and not path.is_file():
        known = [shipped.stem for shipped in SHIPPED.glob(f"*{ENDING}")]
        raise UserError(f"judge's prompt {name!r}: {suggestion(name, known)}, or give a file: mine{ENDING}")
    try:
        first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    except OSError as error:
        raise UserError(f"judge's prompt {name}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"judge's prompt {name}: is not UTF-8 ({error})") from None
    version = _VERSION.fullmatch(first.strip())
    if version is None:
        raise UserError(f"judge's prompt {name}: its first line is {first!r}; begin with 'version: 1'")
    return Wording(name, int(version[1]), _checked(rest.strip(), name))


def _checked(template: str, name: str) -> str:
    found = set(_PLACEHOLDER.findall(template))
    if "completion" not in found:
        raise UserError(f"judge's prompt {name}: lacks {{completion}}, the text to be judged")
    if unknown := sorted(found - set(_KNOWN)):
        known = ", ".join(f"{{{placeholder}}}" for placeholder in _KNOWN)
        raise UserError(f"judge's prompt {name}: {{{unknown[0]}}} is none of the placeholders {known}")
    return template
