"""Formats: the unrelated data that carry a trait. One file per family, with its prompts, parser and rules.

A new family needs no edit elsewhere: `families` finds every `Format` that a file of this folder defines.
"""

import pkgutil
from functools import cache
from importlib import import_module

from undertow.study.extensions import Format


@cache
def families() -> dict[str, type[Format]]:
    """The format classes of this folder by their `name`."""
    modules = [import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    classes = (value for module in modules for value in vars(module).values() if isinstance(value, type))
    return {cls.name: cls for cls in classes if issubclass(cls, Format) and cls is not Format}
