"""Creates .venv with the locked packages and the project. `make setup` and most other targets run it.

    python3 platform/bootstrap.py            ACCELERATOR=cpu|gpu chooses; the default depends on the machine

The program uses only the standard library, because it runs before anything is installed. It checks the
machine and reports each problem in one line with its remedy, downloads Python 3.11 if the machine has another
Python only (setup_python.py), installs platform/locks/<accelerator>.txt with hashes, and installs the project
itself. Nothing is compiled: on a CPU, training works without DeepSpeed's extensions.

A finished setup leaves a stamp file, named by the hash of its inputs, and the next call returns at once. pip
cannot continue an installation that was killed, because it treats a half-unpacked package with metadata as
installed. Packages without a stamp are therefore deleted and installed again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, NoReturn

import setup_python
from setup_checks import PYTHON, driver_version, inspect_machine, problems

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
ACCELERATORS = ("gpu", "cpu")
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
OURS = ".undertow"  # marks a .venv as created by this program; others are never deleted


def wanted_accelerators(choice: str | None) -> tuple[str, ...]:
    """Returns the accelerators that a finished setup may be for: the chosen one, or any."""
    if not choice:
        return ACCELERATORS
    if choice not in ACCELERATORS:
        fail(f"ACCELERATOR={choice} is neither cpu nor gpu: set one of the two, or unset it", code=2)
    return (choice,)


def fingerprint(*files: Path) -> str:
    """Hashes the files' contents and the location of .venv, because a venv does not survive a move."""
    digest = hashlib.sha256(str(VENV).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def lock_file(accelerator: str) -> Path:
    return ROOT / "platform" / "locks" / f"{accelerator}.txt"


def stamp(accelerator: str) -> Path:
    """The file that exists if the setup for this accelerator is finished and its inputs are unchanged."""
    return VENV / f"{OURS}-{fingerprint(lock_file(accelerator), Path(__file__), ROOT / 'pyproject.toml')}"


def packages_stamp(accelerator: str) -> Path:
    """The file that exists if all packages of this lock are installed, whatever pyproject.toml contains."""
    return VENV / f"{OURS}-packages-{fingerprint(lock_file(accelerator))}"


def requirements(lock: str) -> dict[str, str]:
    """Maps each package name in the text of a lock to its lines (pin and hashes)."""
    blocks: dict[str, str] = {}
    name = ""
    for line in lock.splitlines(keepends=True):
        if line.startswith((" ", "#", "\n")):
            blocks[name] = blocks.get(name, "") + line
        else:
            name = line.split("==")[0].split("[")[0]
            blocks[name] = line
    blocks.pop("", None)
    return blocks


def install_packages(accelerator: str, held: IO[bytes]) -> None:
    """Creates a new .venv and installs the lock in three steps, whose order matters."""
    # Renamed before it is deleted: a half-deleted .venv might have lost the file that marks it as ours.
    old = VENV.with_name(".venv.old")
    shutil.rmtree(old, ignore_errors=True)
    if VENV.exists():
        VENV.rename(old)
    shutil.rmtree(old, ignore_errors=True)
    VENV.mkdir()
    (VENV / OURS).touch()
    say(f"creating {VENV.name} with Python {sys.version.split()[0]}")
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True, pass_fds=[held.fileno()])
    packages = requirements(lock_file(accelerator).read_text())
    # DeepSpeed is published only as source. Its build is the same on every machine if it runs with the locked
    # setuptools and before torch is installed; with torch, it would search the machine for a CUDA toolkit.
    setuptools, torch = packages.pop("setuptools"), packages.pop("torch")
    pip_lock("setuptools", [setuptools], held)
    pip_lock("packages", list(packages.values()), held)
    fallback = TORCH_CPU_INDEX if accelerator == "cpu" else ""
    pip_lock("torch", [torch], held, fallback_index=fallback)
    packages_stamp(accelerator).touch()


def pip_lock(label: str, blocks: list[str], held: IO[bytes], fallback_index: str = "") -> None:
    """Installs these blocks of the lock, with hashes and without resolving dependencies."""
    file = VENV / f"{OURS}-{label}.txt"
    file.write_text("".join(blocks))
    arguments = ["--no-deps", "--require-hashes", "--no-build-isolation", "--use-pep517", "-r", str(file)]
    log = pip(label, len(blocks), arguments, held)
    if log and fallback_index and "No matching distribution" in log:
        say(f"{label} is not on the configured indexes; trying {fallback_index}")
        log = pip(label, len(blocks), ["--index-url", fallback_index, *arguments], held)
    if log:
        fail(explain_pip(log))


def pip(label: str, total: int, arguments: list[str], held: IO[bytes]) -> str:
    """Runs pip install and logs its progress. Returns its output if it failed, else an empty string."""
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONUNBUFFERED": "1"}
    started, seen, log = time.monotonic(), 0, []
    with subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=ROOT,
        pass_fds=[held.fileno()],  # if this process is killed, a running pip still holds the file lock
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.append(line)
            if line.startswith(("Collecting ", "Processing ")):
                seen += 1
                if seen % 40 == 0:
                    say(f"{label}: {seen} of {total} downloaded")
            elif line.startswith("Installing collected") and total > 1:
                say(f"{label}: unpacking {total}; this takes a minute or two")
    if process.returncode == 0:
        say(f"{label}: done ({time.monotonic() - started:.0f} s)")
        return ""
    (VENV / "setup.log").write_text("".join(log))
    return "".join(log)


def explain_pip(log: str) -> str:
    """Extracts the error from pip's output."""
    if disk_full := explain_disk(log):
        return disk_full
    errors = [line.strip() for line in log.splitlines() if line.startswith("ERROR: ")]
    shown = "\n  ".join(dict.fromkeys(errors[-3:])) or log.strip()[-300:]
    return f"pip failed; its full output is in {VENV.name}/setup.log\n  {shown}"


def explain_disk(message: str) -> str:
    """Returns the remedy if the message reports a full disk, else an empty string."""
    if "No space left on device" not in message:
        return ""
    free = shutil.disk_usage(ROOT).free / 1e9
    return f"the disk is full ({free:.1f} GB free at {ROOT}): make room, then run `make setup` again"


def set_up(accelerator: str, held: IO[bytes]) -> None:
    """Checks the machine, installs packages and project, and creates the stamp."""
    if VENV.exists() and not (VENV / OURS).exists() and any(VENV.iterdir()):
        fail(f"{VENV} was not created by this program: move it away, then run `make setup` again", code=2)
    started = time.monotonic()
    installed = packages_stamp(accelerator).exists()
    machine = inspect_machine(ROOT, reclaimed_bytes=size_of(VENV))
    found = problems(machine, accelerator)
    if found:
        fail("\n".join(found), code=2)
    if machine.python != PYTHON:
        restart(setup_python.download(ROOT, say))  # releases the file lock, which the new process takes again
    say(f"setting up for {accelerator.upper()}")
    for old in VENV.glob(f"{OURS}-*"):
        if old != packages_stamp(accelerator):
            old.unlink()
    if not installed:
        install_packages(accelerator, held)
    log = pip("undertow", 1, ["--no-deps", "--no-build-isolation", "--editable", "."], held)
    if log:
        fail(explain_pip(log))
    stamp(accelerator).touch()
    say(f"ready for {accelerator.upper()} in {time.monotonic() - started:.0f} s; next: make sweep")


def restart(python: str) -> NoReturn:
    """Starts this program again with another interpreter."""
    os.execv(python, [python, __file__])


def size_of(folder: Path) -> int:
    """Returns the size of a folder in bytes, 0 if it does not exist."""
    files = (Path(where, name) for where, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_size for file in files)


def say(text: str) -> None:
    print(f"[setup] {text}", flush=True)


def fail(text: str, code: int = 1) -> NoReturn:
    print("\n".join(f"[setup] {line}" for line in text.splitlines()), file=sys.stderr, flush=True)
    raise SystemExit(code)


def main() -> None:
    wanted = wanted_accelerators(os.environ.get("ACCELERATOR"))
    if any(stamp(accelerator).exists() for accelerator in wanted):
        return
    if sys.version_info[:2] != PYTHON and (other := setup_python.find(ROOT, VENV)):
        restart(other)
    accelerator = wanted[0] if len(wanted) == 1 else ("cpu" if driver_version() is None else "gpu")
    with (ROOT / "pyproject.toml").open("rb") as held:  # a file lock: of two concurrent setups, one waits
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another setup is running; waiting for it to finish")
            fcntl.flock(held, fcntl.LOCK_EX)
        if not stamp(accelerator).exists():
            set_up(accelerator, held)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted; run `make setup` again to continue", code=130)
    except setup_python.NoInterpreterError as error:
        fail(str(error), code=2)
    except (OSError, subprocess.CalledProcessError) as error:
        fail(explain_disk(str(error)) or str(error))
