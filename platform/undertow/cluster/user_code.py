"""How the code of a study file, and of the modules next to it, reaches workers: by value, inside pickles.

Workers cannot import these modules. cloudpickle sends a class or function of them with the global variables
that its code uses. Of a function with `functools.cache` or `lru_cache`, however, Python pickles only the
name; importing this module changes that for functions of users.
"""

import copyreg
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from types import FunctionType, ModuleType
from typing import Any

from undertow.errors import SpecError, last_line
from undertow.planning.artifact_kinds import extensions
from undertow.study.study import Study
from undertow.study.user_modules import user_modules

CACHED = type(cache(len))  # the class of cached functions


def register_modules() -> list[ModuleType]:
    """Lets pickles contain the code of the user's modules, and returns these."""
    from ray import cloudpickle

    modules = user_modules()
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    return modules


def check_code(study: Study) -> None:
    """Raises SpecError if code that a study uses refers to an object that cannot be sent to workers.

    Such as a lock or an open file. The message names the object and its module.
    """
    modules = register_modules()
    used = study, [kind.make or kind.task for kind in extensions()]
    if not (reason := _refusal(used)):
        return
    own = {module.__name__ for module in modules}
    found = [
        f"{name} in {module.__file__}"
        for module in modules
        for name, value in vars(module).items()
        if value.__class__.__module__ not in own
        and not isinstance(value, type | FunctionType | CACHED)
        and _refusal(value) == reason
    ]
    raise SpecError(
        f"{' and '.join(found) or f'study {study.name!r}'}: cannot be sent to workers ({reason}); create it "
        "inside the function that uses it"
    )


def _refusal(value: object) -> str:
    """Why a value cannot be pickled; "" if it can."""
    from ray import cloudpickle

    try:
        cloudpickle.dumps(value)
    except Exception as error:  # of any class: objects define how they are pickled
        return last_line(error)
    return ""


def _reduced(function: Any) -> Any:
    """A cached function in the form that pickle requires.

    By name, which is Python's default, unless workers cannot import its module.
    """
    from ray import cloudpickle

    name = function.__module__
    if name in sys.modules and name not in cloudpickle.list_registry_pickle_by_value():
        return str(function.__qualname__)
    parameters = function.cache_parameters()
    return _cached, (function.__wrapped__, parameters["maxsize"], parameters["typed"])


def _cached(function: Callable[..., object], maxsize: int | None, typed: bool) -> Callable[..., object]:
    """The same function with an empty cache."""
    return lru_cache(maxsize, typed)(function)


copyreg.pickle(CACHED, _reduced)
