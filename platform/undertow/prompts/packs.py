"""Prompt packs: the wording of prompts as JSON files, so that a study can use its own for a replication.

A pack is a JSON object whose fields are texts or lists of texts with placeholders such as {numbers}. A
process reads each pack once, so that the hash in a key and the texts in a prompt are of the same version. The
hash is that of the parsed content; the layout of the file does not matter.

A pack's identity is its content and not its path. Specs therefore have the path in a `hashed_by_content`
field.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from undertow.errors import UserError
from undertow.study.identity import digest

Names = Sequence[str]

PLACEHOLDER = re.compile(r"\{(\w*)\}")


def hashed_by_content(default: Any) -> Any:
    """A field that is excluded from identity because `Spec.content` hashes what it refers to.

    Unlike an `execution_only` field it takes part in ==: specs with different packs must not be equal, or a
    cache would confuse them.
    """
    return dataclasses.field(default=default, metadata={"identity": False})


@dataclasses.dataclass(frozen=True)
class Pack:
    """The fields of a pack. The accessors check them and raise UserError with the file and the field.

    Attributes:
        content: the SHA-256 of the parsed content.
    """

    path: str
    fields: Mapping[str, Any]
    content: str

    def text(self, field: str, required: Names = (), optional: Names = ()) -> str:
        """A text that contains all `required` placeholders, and no others except `optional` ones."""
        value = self._get(field)
        if not isinstance(value, str):
            raise self.error(field, "a text is needed")
        self._check_placeholders(field, value, required, optional)
        return value

    def texts(self, field: str, required: Names = (), optional: Names = ()) -> tuple[str, ...]:
        """A list of one or more texts, each checked as in `text`."""
        value = self._get(field)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise self.error(field, "a list of one or more texts is needed")
        for i, item in enumerate(value):
            self._check_placeholders(f"{field}[{i}]", item, required, optional)
        return tuple(value)

    def triples(self, field: str, sizes: tuple[int, int, int]) -> tuple[tuple[int, int, int], ...]:
        """A list of distinct triples [i, j, k], each index below the corresponding size."""
        value = self._get(field)
        if not isinstance(value, list) or not value:
            raise self.error(field, "a list of one or more triples of indices is needed")
        for i, item in enumerate(value):
            if not _is_triple(item, sizes):
                raise self.error(f"{field}[{i}]", f"{item!r} is not three indices below {sizes}")
            if item in value[:i]:
                raise self.error(f"{field}[{i}]", f"{item!r} is given twice; give each once")
        return tuple((i, j, k) for i, j, k in value)

    def error(self, field: str, remedy: str) -> UserError:
        """An error about `field`, to be raised by the caller."""
        return UserError(f"pack {self.path}, {field}: {remedy}")

    def _get(self, field: str) -> Any:
        if field not in self.fields:
            available = ", ".join(sorted(self.fields)) or "no fields"
            raise self.error(field, f"is missing; the pack has {available}")
        return self.fields[field]

    def _check_placeholders(self, place: str, text: str, required: Names, optional: Names) -> None:
        found = set(PLACEHOLDER.findall(text))
        if missing := [name for name in required if name not in found]:
            raise self.error(place, f"{text!r} lacks the placeholder {{{missing[0]}}}")
        if unknown := sorted(found - {*required, *optional}):
            raise self.error(place, f"{text!r} has the unknown placeholder {{{unknown[0]}}}; remove it")


def _is_triple(item: Any, sizes: tuple[int, int, int]) -> bool:
    return (
        isinstance(item, list)
        and len(item) == 3
        and all(type(i) is int and 0 <= i < size for i, size in zip(item, sizes, strict=True))
    )


@cache  # a study of thousands of conditions asks thousands of times
def path_of(module: str) -> str:
    """The path of a module's own pack, which is named after it.

    Args:
        module: its `__file__`.
    """
    return str(Path(module).with_suffix(".json"))


def located(path: str) -> str:
    """The path of a user's file or folder in the form in which every process finds it; "" for none.

    Raises UserError for a path in the home of a user who does not exist, such as "~models" for "~/models".
    """
    try:
        return str(Path(path).expanduser().absolute()) if path else ""
    except RuntimeError:
        user = path[1:].partition("/")[0]
        raise UserError(f"{path}: there is no user {user!r}; write ~/ for your own home folder") from None


@cache
def read(path: str) -> Pack:
    """The pack at `path`. Raises UserError if it cannot be read or is not a JSON object."""
    try:
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"pack {path}: cannot be read ({error.strerror}); give a JSON file") from None
    except ValueError as error:
        raise UserError(f"pack {path}: is not JSON in UTF-8 ({error})") from None
    if not isinstance(fields, dict):
        raise UserError(f"pack {path}: a JSON object is needed, not {type(fields).__name__}")
    form = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return Pack(path, fields, digest(form))


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replaces each {name} in `template` by its value. Other braces, as in code, are not changed."""
    return PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), template)


def sentences(*parts: str) -> str:
    """Joins the non-empty parts with single spaces."""
    return " ".join(part for part in parts if part)
