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
from collections.abc import Callable
from pathlib import Path

from undertow.errors import SpecError, UserError, suggestion
from undertow.presets.scales import NANO, Scale
from undertow.study.extensions import STUDY_MODULE
from undertow.study.study import Study
from undertow.study.user_modules import importing_from

FUNCTION = "study"
# FILE.py or FILE.py:FUNCTION, where the path may contain colons too.
_FILE_AND_FUNCTION = re.compile(r"(.+\.py)(?::([^:/]*))?", re.DOTALL)


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
    except UserError as error:
        raise UserError(f"{_place(error, path)}: {error}") from None
    except SyntaxError as error:
        place = f"{error.filename or path}:{error.lineno or 1}"
        raise UserError(f"{place}: {error.msg}; fix the syntax") from None
    except (Exception, SystemExit) as error:
        raise UserError(f"{_place(error, path)}: {type(error).__name__}: {error}") from None
    function = getattr(module, name, None)
    if not callable(function):
        functions = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UserError(f"{path}: no function {name}(); {suggestion(name, functions)}")
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
    except SpecError as error:
        raise SpecError(f"{_place(error, path)}: {error}") from None
    except (Exception, SystemExit) as error:
        raise UserError(f"{_place(error, path)}: {type(error).__name__}: {error}") from None
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


def _place(error: BaseException, path: Path) -> str:
    """The file and the line, file:line, of the last frame of the traceback in the user's file."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
    return f"{path}:{lines[-1]}" if lines else str(path)
