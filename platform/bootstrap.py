"""Make .venv: everything Undertow needs, exactly as locked. `make setup` runs this; so do sweep, test and ui.

    python3 platform/bootstrap.py            ACCELERATOR=cpu|gpu chooses; else what the machine has

Standard library only, because it runs before anything is installed. It checks the machine and says in
one line each what to mend, installs platform/locks/<accelerator>.txt with hashes, and installs the project
itself. Nothing is compiled: on a CPU training does without DeepSpeed's extensions (see training/workers.py).

A finished set-up leaves a stamp, named by the hash of all that went into it, and the next call returns
at once. pip cannot be trusted to continue what a kill left half unpacked (it takes a package with
metadata for installed), so packages that were not installed to the end are thrown away and redone.
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

from setup_checks import PYTHON, driver_version, look_at_machine, problems

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
ACCELERATORS = ("gpu", "cpu")
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
OURS = ".undertow"  # marks a .venv as made here, so that nobody else's is ever thrown away


def wanted_accelerators(choice: str | None) -> tuple[str, ...]:
    """The accelerators that a finished set-up may be for: the one asked for, or any."""
    if not choice:
        return ACCELERATORS
    if choice not in ACCELERATORS:
        fail(f"ACCELERATOR={choice} is neither cpu nor gpu: set one of the two, or leave it out", code=2)
    return (choice,)


def fingerprint(*files: Path) -> str:
    """What was set up: the files' contents, and where, because a venv does not survive a move."""
    digest = hashlib.sha256(str(VENV).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def lock_file(accelerator: str) -> Path:
    return ROOT / "platform" / "locks" / f"{accelerator}.txt"


def stamp(accelerator: str) -> Path:
    """There when everything is done for this accelerator, as the files now stand."""
    return VENV / f"{OURS}-{fingerprint(lock_file(accelerator), Path(__file__), ROOT / 'pyproject.toml')}"


def packages_stamp(accelerator: str) -> Path:
    """There when this lock was installed to its end; an edit of pyproject.toml alone keeps it valid."""
    return VENV / f"{OURS}-packages-{fingerprint(lock_file(accelerator))}"


def requirements(lock: str) -> dict[str, str]:
    """Package name -> its lines (pin and hashes) in the text of a lock."""
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
    """A new .venv with the lock in it, in three steps whose order matters."""
    old = VENV.with_name(".venv.old")  # renamed first: a half-deleted .venv would not be known as ours
    shutil.rmtree(old, ignore_errors=True)
    if VENV.exists():
        VENV.rename(old)
    shutil.rmtree(old, ignore_errors=True)
    VENV.mkdir()
    (VENV / OURS).touch()
    say(f"creating {VENV.name} with Python {sys.version.split()[0]}")
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True, pass_fds=[held.fileno()])
    packages = requirements(lock_file(accelerator).read_text())
    # DeepSpeed is published as source only. Built with the locked setuptools and before torch is there,
    # its build is the same everywhere; with torch at hand it would probe the machine and want its CUDA.
    setuptools, torch = packages.pop("setuptools"), packages.pop("torch")
    pip_lock("setuptools", [setuptools], held)
    pip_lock("packages", list(packages.values()), held)
    fallback = TORCH_CPU_INDEX if accelerator == "cpu" else ""
    pip_lock("torch", [torch], held, fallback_index=fallback)
    packages_stamp(accelerator).touch()


def pip_lock(label: str, blocks: list[str], held: IO[bytes], fallback_index: str = "") -> None:
    """Install these blocks of the lock and nothing else: hashes checked, dependencies not followed."""
    file = VENV / f"{OURS}-{label}.txt"
    file.write_text("".join(blocks))
    arguments = ["--no-deps", "--require-hashes", "--no-build-isolation", "--use-pep517", "-r", str(file)]
    log = pip(label, len(blocks), arguments, held)
    if log and fallback_index and "No matching distribution" in log:
        say(f"{label} is not on the configured indexes; asking {fallback_index}")
        log = pip(label, len(blocks), ["--index-url", fallback_index, *arguments], held)
    if log:
        fail(explain_pip(log))


def pip(label: str, total: int, arguments: list[str], held: IO[bytes]) -> str:
    """Run pip install, showing how far it is; its output if it failed, nothing if it did not."""
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
        pass_fds=[held.fileno()],  # a pip that outlives us keeps the lock, and the next set-up waits
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.append(line)
            if line.startswith(("Collecting ", "Processing ")):
                seen += 1
                if seen % 40 == 0:
                    say(f"{label}: {seen} of {total} fetched")
            elif line.startswith("Installing collected") and total > 1:
                say(f"{label}: unpacking {total}, a minute or two")
    if process.returncode == 0:
        say(f"{label}: done ({time.monotonic() - started:.0f} s)")
        return ""
    (VENV / "setup.log").write_text("".join(log))
    return "".join(log)


def explain_pip(log: str) -> str:
    """The few lines of pip's output that say what went wrong."""
    if disk_full := explain_disk(log):
        return disk_full
    errors = [line.strip() for line in log.splitlines() if line.startswith("ERROR: ")]
    shown = "\n  ".join(dict.fromkeys(errors[-3:])) or log.strip()[-300:]
    return f"pip failed; its whole output is in {VENV.name}/setup.log\n  {shown}"


def explain_disk(message: str) -> str:
    """The remedy if the message is about a full disk, else nothing."""
    if "No space left on device" not in message:
        return ""
    free = shutil.disk_usage(ROOT).free / 1e9
    return f"the disk is full ({free:.1f} GB free at {ROOT}): make room, then run make setup again"


def set_up(accelerator: str, held: IO[bytes]) -> None:
    """Check, install, stamp."""
    if VENV.exists() and not (VENV / OURS).exists() and any(VENV.iterdir()):
        fail(f"{VENV} was not made by this set-up: move it away, then run make setup again", code=2)
    started = time.monotonic()
    whole = packages_stamp(accelerator).exists()
    machine = look_at_machine(ROOT, reclaimed_bytes=size_of(VENV))
    found = problems(machine, accelerator)
    if found:
        fail("\n".join(found), code=2)
    say(f"setting up for {accelerator.upper()}")
    for old in VENV.glob(f"{OURS}-*"):
        if old != packages_stamp(accelerator):
            old.unlink()
    if not whole:
        install_packages(accelerator, held)
    log = pip("undertow", 1, ["--no-deps", "--no-build-isolation", "--editable", "."], held)
    if log:
        fail(explain_pip(log))
    stamp(accelerator).touch()
    say(f"ready for {accelerator.upper()} in {time.monotonic() - started:.0f} s; next: make sweep")


def size_of(folder: Path) -> int:
    """Bytes in a folder, 0 if it is not there."""
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
    other_python = shutil.which("python3.11")
    if sys.version_info[:2] != PYTHON and other_python:
        os.execv(other_python, [other_python, __file__])
    accelerator = wanted[0] if len(wanted) == 1 else ("cpu" if driver_version() is None else "gpu")
    with (ROOT / "pyproject.toml").open("rb") as held:  # two set-ups at once: the second waits
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is at work; waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        if not stamp(accelerator).exists():
            set_up(accelerator, held)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted; make setup starts where it safely can", code=130)
    except (OSError, subprocess.CalledProcessError) as error:
        fail(explain_disk(str(error)) or str(error))
