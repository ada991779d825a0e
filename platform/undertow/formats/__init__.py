"""The unrelated data that carries a trait: one file a family, each with prompts, parser and rules.

A file in this folder that defines a `Format` is found by its `name` without an edit anywhere else.
"""

import pkgutil
from functools import cache
from importlib import import_module

from undertow.errors import SpecError, suggestion
from undertow.study.extensions import Format


@cache
def families() -> dict[str, type[Format]]:
    """Every format of this folder by name."""
    modules = [import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    found = (kind for module in modules for kind in vars(module).values() if isinstance(kind, type))
    return {kind.name: kind for kind in found if issubclass(kind, Format) and kind is not Format}


def named(name: str) -> type[Format]:
    """The format's class. Raises SpecError with a guess where there is none of that name."""
    if name not in families():
        raise SpecError(f"format {name!r} is not known: {suggestion(name, families())}")
    return families()[name]
