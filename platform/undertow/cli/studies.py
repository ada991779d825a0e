"""Loads a study: a shipped one by its name, or the result of a function in the user's own file.

A study function takes a scale (see `presets.scales`) or no argument. Without a scale, the study has fixed
models and sizes. A study file is a Python program that runs with the rights of its user. It may import the
modules next to it. The user can fix its errors, so they are reported with file and line, without a traceback.
"""

import dataclasses
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import undertow
from undertow.errors import ConditionError, SpecError, UserError, suggestion
from undertow.presets.scales import NANO, Scale
from undertow.study.extensions import STUDY_MODULE
from undertow.study.study import Study
from undertow.study.user_modules import importing_from

FUNCTION = "study"
# FILE.py or FILE.py:FUNCTION, where the path may contain colons too.
_FILE_AND_FUNCTION = re.compile(r"(.+\.py)(?::([^:/]*))?", re.DOTALL)
# Messages of Python, which has no attributes for these parts.
_UNKNOWN_ARGUMENT = re.compile(r"(?P<function>[\w.]+)\(\) got an unexpected keyword argument '(?P<name>\w+)'")
_UNKNOWN_IMPORT = re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<module>[\w.]+)'")


def load(name: str, shipped: Path, scale: Scale = NANO) -> Study:
    """Loads the study `name`: a file in the folder `shipped`, or FILE.py[:function].

    A study at a scale other than nano gets the scale's name as a suffix, since its models and results differ,
    and the scale's notes about its models.

    Raises UserError for an unknown name, a file that cannot be run, a function that does not return a study,
    or a function without a parameter `scale` if `scale` is not the unchanged nano scale.
    """
    match = _FILE_AND_FUNCTION.fullmatch(name)
    if match:
        path, function = Path(match[1]), match[2] or FUNCTION
    else:
        path, function = Path(name) if ".py" in name else shipped / f"{name}.py", FUNCTION
    if not _is_file(path):
        if ".py" in name:
            raise UserError(f"--study {name}: there is no file {path.absolute()}")
        known = [p.stem for p in shipped.glob("*.py")]
        raise UserError(
            f"--study {name}: no such study; {suggestion(name, known)}, or give a file: my_study.py"
        )
    with importing_from(path.absolute().parent):
        study = _call(_function(path, function), path, scale)
    if scale.name == NANO.name:
        return study
    notes = (*study.notes, *scale.notes(study))
    return dataclasses.replace(study, name=f"{study.name}-{scale.name}", notes=notes)


def _function(path: Path, name: str) -> Callable[..., object]:
    """Runs the file at `path` and returns its function `name`."""
    module_spec = importlib.util.spec_from_file_location(f"{STUDY_MODULE}{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise UserError(f"--study {path}: not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # pickle and typing.get_type_hints look a class's module up there
    try:
        module_spec.loader.exec_module(module)
    except SyntaxError as error:
        place = f"{error.filename or path}:{error.lineno or 1}"
        raise UserError(f"{place}: {error.msg}; fix the syntax") from None
    except (Exception, SystemExit) as error:
        raise _with_place(error, path) from None
    function = getattr(module, name, None)
    if not callable(function):
        functions = [
            known
            for known, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not known.startswith("_")
        ]
        remedy = suggestion(name, functions) if functions else f"define it: def {name}() -> Study"
        raise UserError(f"{path}: no function {name}(); {remedy}")
    return function  # type: ignore[no-any-return]


def _call(function: Callable[..., object], path: Path, scale: Scale) -> Study:
    """The study that `function` returns."""
    try:
        takes_scale = "scale" in inspect.signature(function).parameters
    except ValueError:  # some built-in classes and functions have no signature
        takes_scale = False
    if not takes_scale and scale != NANO:
        raise UserError(
            f"{path}: {function.__name__}() takes no scale, so --scale and --models have no effect; "
            f"write def {function.__name__}(scale: Scale) (undertow.presets.scales), or leave them out"
        )
    try:
        study = function(scale=scale) if takes_scale else function()
    except (Exception, SystemExit) as error:
        raise _with_place(error, path) from None
    if not isinstance(study, Study):
        raise UserError(
            f"{path}: {function.__name__}() returned {type(study).__name__}; it must return a Study"
        )
    return study


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is longer than the file system allows
        return False


def _with_place(error: BaseException, path: Path) -> UserError:
    """The error of a study file as one line: file, line, message and, for a misspelled name, a suggestion.

    The message of an error of Python starts with the error's class. Messages of the project's own errors are
    complete sentences, so that their class is left out.
    """
    place = _place(error, path)
    if isinstance(error, SpecError):
        return SpecError(f"{place}: {error}")
    if isinstance(error, UserError | ConditionError):
        return UserError(f"{place}: {error}")
    hint = _suggestion(error)
    return UserError(f"{place}: {type(error).__name__}: {error}{f'; {hint}' if hint else ''}")


def _suggestion(error: BaseException) -> str:
    """The remedy for a misspelled argument or name of the package; "" for all other errors.

    Python 3.11 suggests names only in tracebacks, which are not shown here, and never suggests arguments.
    """
    text = str(error)
    if isinstance(error, TypeError) and (match := _UNKNOWN_ARGUMENT.search(text)):
        return _similar(match["name"], _parameters(match["function"]))
    if isinstance(error, ImportError) and (match := _UNKNOWN_IMPORT.search(text)):
        return _similar(match["name"], _names(sys.modules.get(match["module"])))
    if isinstance(error, AttributeError):
        return _similar(error.name, _names(error.obj))
    if isinstance(error, NameError) and error.name in undertow.__all__:
        return f"add: from undertow import {error.name}"
    return _similar(error.name, undertow.__all__) if isinstance(error, NameError) else ""


def _similar(given: str | None, known: Sequence[str]) -> str:
    return suggestion(given, known) if given and known else ""


def _parameters(function: str) -> list[str]:
    """The parameters of a public function, class or method by its qualified name; none for any other."""
    first, *rest = function.split(".")
    if first not in undertow.__all__:
        return []
    found = getattr(undertow, first)
    for name in rest:
        found = found if name == "__init__" else getattr(found, name, None)
    if not callable(found):
        return []
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(found).parameters.values()
    return [one.name for one in parameters if one.kind in named and one.name != "self"]


def _names(owner: object) -> list[str]:
    """The public names of a module or an object of the package; none for those of other packages."""
    module = owner.__name__ if isinstance(owner, ModuleType) else type(owner).__module__
    is_ours = module.partition(".")[0] == undertow.__name__
    return [name for name in dir(owner) if not name.startswith("_")] if is_ours else []


def _place(error: BaseException, path: Path) -> str:
    """The file and the line, file:line, of the last frame of the traceback in the user's file."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
    return f"{path}:{lines[-1]}" if lines else str(path)
