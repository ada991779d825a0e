"""The modules of the user: a study file, and the modules next to it that the study file imports."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from undertow.study.extensions import STUDY_MODULE

PACKAGE = __name__.partition(".")[0]
INSTALLED = frozenset(("site-packages", "dist-packages"))  # names of folders


class _FolderFinder:
    """Finds top-level modules in one folder, before those that are installed.

    Unlike a folder at the start of `sys.path`, it leaves the standard library alone: a study file called
    code.py, or one next to random.py, does not break the imports of other packages.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or name in sys.stdlib_module_names or name == PACKAGE:
            return None
        found = PathFinder.find_spec(name, [self.folder])
        # A folder without __init__.py must not hide an installed package of the same name.
        return found if found is not None and found.loader is not None else None


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Makes the modules in `folder` importable while the block runs, and with lower priority from then on.

    The second holds for imports inside functions that run later. They work in the driver only: a module that
    is not imported when the sweep starts cannot be sent to workers.
    """
    finder = _FolderFinder(folder)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def user_modules() -> list[ModuleType]:
    """The loaded study files and the modules next to them, which workers cannot import."""
    loaded = [(name, module) for name, module in list(sys.modules.items()) if _file(module) is not None]
    studies = [module for name, module in loaded if name.startswith(STUDY_MODULE)]
    folders = {file.parent for module in studies if (file := _file(module))}
    return studies + [
        module for name, module in loaded if module not in studies and _is_next_to(name, module, folders)
    ]


def modules_next_to(module: ModuleType) -> list[ModuleType]:
    """The other loaded modules in the folder that a module was imported from.

    Of an installed module, only those of the same package: its folder has those of all installed packages.
    """
    file, name = _file(module), module.__name__
    if file is None:
        return []
    is_study = name.startswith(STUDY_MODULE)  # the name of its file may contain dots
    depth = 0 if is_study else name.count(".") + (file.stem == "__init__")
    folder, top = file.parents[depth], name.partition(".")[0]
    is_installed = not INSTALLED.isdisjoint(folder.parts)
    return [
        other
        for found, other in list(sys.modules.items())
        if _is_next_to(found, other, {folder})
        and other is not module
        and (found.partition(".")[0] == top or not is_installed)
    ]


def _is_next_to(name: str, module: ModuleType, folders: set[Path]) -> bool:
    """Whether a module is FOLDER/NAME.py, or belongs to the package FOLDER/NAME."""
    top, file = name.partition(".")[0], _file(module)
    if file is None or file.suffix != ".py" or top in (PACKAGE, "__main__", "__mp_main__"):
        return False
    return any(file == folder / f"{top}.py" or file.is_relative_to(folder / top) for folder in folders)


def _file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file) if isinstance(file, str) else None
