"""Checks that a machine meets the requirements of the setup.

Used by bootstrap.py and, like it, limited to the standard library. Inspecting the machine (`inspect_machine`)
is separate from judging it (`problems`), so that every message can be tested on any machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PYTHON = (3, 11)
GB_NEEDED = {"cpu": 6, "gpu": 20}  # the environment and pip's cache of its packages
OLDEST_GLIBC = (2, 31)  # the locked wheels are built for it
OLDEST_DRIVER = 580  # required by CUDA 13


@dataclass(frozen=True)
class Machine:
    """The properties of a machine that the checks use.

    Attributes:
        python: major and minor version of the running interpreter.
        system: for example "linux x86_64".
        glibc: version, (0, 0) on other systems.
        has_venv: whether the interpreter can create virtual environments.
        compiler_error: why a C++ extension cannot be compiled, or "".
        free_gb: free disk space in GB, including an existing .venv that will be replaced.
        driver: major version of the NVIDIA driver, or None without a GPU.
    """

    python: tuple[int, int]
    system: str
    glibc: tuple[int, ...]
    has_venv: bool
    compiler_error: str
    free_gb: float
    driver: int | None


def inspect_machine(root: Path, reclaimed_bytes: int) -> Machine:
    """Inspects this machine; `reclaimed_bytes`, the size of an existing .venv, count as free disk space."""
    glibc = os.confstr("CS_GNU_LIBC_VERSION") if sys.platform == "linux" else None
    return Machine(
        python=(sys.version_info[0], sys.version_info[1]),
        system=f"{sys.platform} {os.uname().machine}",
        glibc=tuple(int(part) for part in (glibc or "glibc 0.0").split()[1].split(".")[:2]),
        has_venv=_runs(sys.executable, "-c", "import ensurepip, venv"),
        compiler_error=compiler_error(),
        free_gb=(shutil.disk_usage(root).free + reclaimed_bytes) / 1e9,
        driver=driver_version(),
    )


def problems(machine: Machine, accelerator: str) -> list[str]:
    """Returns one line for each problem that prevents a setup, with its remedy."""
    found = []
    is_used = machine.python == PYTHON  # else another interpreter is downloaded and checked, after the rest
    if is_used and not machine.has_venv:
        found.append("this Python has no venv module: apt install python3.11-venv")
    if machine.system != "linux x86_64":
        found.append(f"{machine.system} found, linux x86_64 needed: use such a machine or a container")
    elif machine.glibc < OLDEST_GLIBC:
        found.append(
            f"glibc {'.'.join(map(str, machine.glibc))} found, 2.31 or newer needed: "
            "use Debian 11, Ubuntu 20.04 or newer"
        )
    if is_used and accelerator == "gpu" and machine.compiler_error:
        found.append(machine.compiler_error)
    if machine.free_gb < GB_NEEDED[accelerator]:
        found.append(
            f"{machine.free_gb:.1f} GB free, {GB_NEEDED[accelerator]} GB needed: "
            "make room, or clone to a larger disk"
        )
    if accelerator == "gpu" and machine.driver is not None and machine.driver < OLDEST_DRIVER:
        found.append(
            f"NVIDIA driver {machine.driver} found, {OLDEST_DRIVER} or newer needed (CUDA 13): "
            "update it, or set ACCELERATOR=cpu"
        )
    return found


def compiler_error() -> str:
    """Returns why a C++ extension cannot be compiled, or "". Triton compiles at run time on GPU machines."""
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        return f"no C++ compiler ({compiler}): apt install g++"
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").exists():
        return f"no Python headers in {include}: apt install python3.11-dev"
    source = "#include <Python.h>\n#include <vector>\n"
    check = [compiler, "-fsyntax-only", f"-I{include}", "-x", "c++", "-"]
    done = subprocess.run(check, input=source, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    reason = (done.stderr.strip().splitlines() or ["no message"])[0]
    return f"{compiler} cannot compile a test program ({reason}): apt install --reinstall g++"


def driver_version() -> int | None:
    """Returns the major version of the NVIDIA driver, or None if nvidia-smi finds no GPU."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, ValueError, subprocess.TimeoutExpired):
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
        if answer.returncode == 0:
            return int(answer.stdout.split(".")[0])
    return None


def _runs(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
