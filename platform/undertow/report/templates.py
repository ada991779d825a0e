"""The jinja2 templates of HTML pages, and how long texts are shown in them."""

from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHOWN_CHARACTERS = 400  # of a prompt or completion


@cache
def template(name: str, folder: Path = HERE) -> Any:
    """A template in a folder, which may include files of this folder.

    It escapes all values that are not marked as safe.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def cut(text: str) -> str:
    """The beginning of a long prompt or completion."""
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " …"
