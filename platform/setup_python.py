"""Finds Python 3.11 for the setup, or downloads it into the repository with uv.

Used by bootstrap.py and, like it, limited to the standard library and to the syntax of Python 3.9. Another
Python only runs the setup: the locks are for 3.11, and Ray needs one minor version on all machines.

uv is installed from PyPI, pinned by hash (locks/uv.txt). It downloads the interpreter from the releases of
python-build-standalone, or from UV_PYTHON_INSTALL_MIRROR, and checks its SHA-256. Both stay in the folder .uv
of the repository; nothing else on the machine changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from setup_checks import PYTHON

VERSION = ".".join(map(str, PYTHON))
FOLDER = ".uv"
PACKAGES = f"apt install python{VERSION} python{VERSION}-venv python{VERSION}-dev"
RELEASES = "https://github.com/astral-sh/python-build-standalone/releases/download"


class NoInterpreterError(Exception):
    """There is no Python 3.11, and it cannot be downloaded; the message is one line with the remedy."""


def find(root: Path, venv: Path) -> str | None:
    """The path of a Python 3.11 on PATH, or of one that an earlier setup of this repository downloaded.

    Args:
        venv: the environment that the setup makes, which is on PATH under `make`. Its interpreter cannot be
            used, because the setup may delete it.
    """
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    usable = os.pathsep.join(folder for folder in folders if Path(folder) != venv / "bin")
    on_path = shutil.which(f"python{VERSION}", path=usable)
    candidates = [*([on_path] if on_path else []), *_downloaded(root)]
    return next(filter(_is_wanted, candidates), None)


def download(root: Path, say: Callable[[str], None]) -> str:
    """Downloads Python 3.11 and returns the path of the interpreter. Raises NoInterpreterError."""
    found = ".".join(map(str, sys.version_info[:2]))
    say(f"Python {found} found, {VERSION} needed: downloading it with uv into {FOLDER}")
    problem = f"Python {found} found, {VERSION} needed"
    folder = root / FOLDER
    try:
        uv = _install_uv(root)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoInterpreterError(
            f"{problem}, and uv cannot be installed to download it ({_reason(error)}): {PACKAGES}, or set "
            "PIP_INDEX_URL to a mirror of PyPI"
        ) from None
    environment = {
        **os.environ,
        "UV_PYTHON_INSTALL_DIR": str(folder / "python"),
        "UV_CACHE_DIR": str(folder / "cache"),
        "UV_PYTHON_INSTALL_BIN": "0",  # no link in ~/.local/bin
        "UV_PYTHON_DOWNLOADS": "manual",  # the user's configuration may forbid all downloads
    }
    try:
        _run([str(uv), "python", "install", "--no-progress", f"cpython-{VERSION}"], environment)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoInterpreterError(
            f"{problem}, and uv cannot download it ({_reason(error)}): {PACKAGES}, or set "
            f"UV_PYTHON_INSTALL_MIRROR to a mirror of {RELEASES}"
        ) from None
    for python in filter(_is_wanted, _downloaded(root)):
        return python
    raise NoInterpreterError(
        f"{problem}, and the one that uv downloaded into {folder} does not run: {PACKAGES}"
    )


def _downloaded(root: Path) -> Iterator[str]:
    pattern = f"python/cpython-{VERSION}*/bin/python{VERSION}"
    return map(str, sorted((root / FOLDER).glob(pattern), reverse=True))


def _is_wanted(python: str) -> bool:
    """Whether a program runs and is Python 3.11; pyenv puts programs that do not run on PATH."""
    return _works(python, f"import sys; sys.exit(sys.version_info[:2] != {PYTHON})")


def _works(python: str, code: str) -> bool:
    """Whether an interpreter runs a line of code with exit code 0."""
    try:
        return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _install_uv(root: Path) -> Path:
    """Installs uv with the pip of this interpreter, or of a virtual environment if it has none."""
    folder = root / FOLDER
    uv = folder / "package" / "bin" / "uv"
    if uv.exists():
        return uv
    python = sys.executable
    if not _works(python, "import pip"):
        if not _works(python, "import ensurepip, venv"):
            raise OSError("this Python has neither pip nor venv")
        _run([python, "-m", "venv", "--clear", str(folder / "venv")], dict(os.environ))
        python = str(folder / "venv" / "bin" / "python")
    # A killed pip may leave half of a package; a folder gets its final name when it is complete.
    partial = folder / "package.partial"
    shutil.rmtree(partial, ignore_errors=True)
    pip = [python, "-m", "pip", "install", "--no-input", "--progress-bar", "off", "--no-deps"]
    environment = {
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_USER": "0",  # pip refuses --user together with --target
        "PIP_REQUIRE_VIRTUALENV": "0",
    }
    lock = root / "platform" / "locks" / "uv.txt"
    _run([*pip, "--require-hashes", "--target", str(partial), "-r", str(lock)], environment)
    shutil.rmtree(folder / "package", ignore_errors=True)
    partial.rename(folder / "package")
    return uv


def _run(command: list[str], environment: dict[str, str]) -> None:
    """Runs a command without output. Raises CalledProcessError with its output if it fails."""
    subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    """The last line of a failed command's output: pip and uv put the cause there."""
    output = error.output if isinstance(error, subprocess.CalledProcessError) else str(error)
    lines = [line.strip() for line in (output or "").splitlines() if line.strip()]
    reason = lines[-1] if lines else str(error)
    for prefix in ("Caused by: ", "cause: ", "ERROR: ", "error: "):
        reason = reason[len(prefix) :] if reason.startswith(prefix) else reason
    return reason[:300]
