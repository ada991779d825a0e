"""The setup program, without a network: its checks, the choice of accelerator, and when it does nothing."""

import ast
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import bootstrap
import pytest
import setup_checks
import setup_python
from setup_checks import Machine, problems

ROOT = Path(__file__).resolve().parent.parent
GOOD = Machine(
    python=(3, 11),
    system="linux x86_64",
    glibc=(2, 36),
    has_venv=True,
    compiler_error="",
    free_gb=100.0,
    driver=None,
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project folder with locks and nothing installed, which replaces the real one in `bootstrap`."""
    (tmp_path / "platform" / "locks").mkdir(parents=True)
    for name in ("cpu", "gpu"):
        (tmp_path / "platform" / "locks" / f"{name}.txt").write_text(f"torch==1 # {name}\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.delenv("ACCELERATOR", raising=False)
    yield tmp_path


def finish(accelerator: str) -> None:
    """Creates the files of a finished setup."""
    bootstrap.VENV.mkdir(exist_ok=True)
    (bootstrap.VENV / bootstrap.OURS).touch()
    bootstrap.packages_stamp(accelerator).touch()
    bootstrap.stamp(accelerator).touch()


@pytest.mark.parametrize("accelerator", ["cpu", "gpu"])
def test_a_good_machine_has_no_problems(accelerator: str) -> None:
    assert problems(GOOD, accelerator) == []


@pytest.mark.parametrize(
    ("change", "accelerator", "named", "remedy"),
    [
        ({"has_venv": False}, "cpu", "no venv module", "apt install python3.11-venv"),
        ({"system": "darwin arm64"}, "cpu", "darwin arm64", "container"),
        ({"glibc": (2, 28)}, "cpu", "glibc 2.28", "Debian 11"),
        ({"compiler_error": "no C++ compiler (c++): apt install g++"}, "gpu", "c++", "apt install g++"),
        ({"free_gb": 5.9}, "cpu", "5.9 GB free", "make room"),
        ({"free_gb": 19.0}, "gpu", "20 GB needed", "make room"),
        ({"driver": 570}, "gpu", "driver 570", "ACCELERATOR=cpu"),
    ],
)
def test_each_problem_is_one_line_with_its_remedy(
    change: dict[str, object], accelerator: str, named: str, remedy: str
) -> None:
    (line,) = problems(dataclasses.replace(GOOD, **change), accelerator)  # type: ignore[arg-type]
    assert named in line
    assert remedy in line
    assert "\n" not in line


def test_driver_and_compiler_do_not_matter_on_the_cpu() -> None:
    lacking = dataclasses.replace(GOOD, driver=400, compiler_error="no C++ compiler (c++): apt install g++")
    assert problems(lacking, "cpu") == []


def test_another_python_is_no_problem_because_3_11_is_downloaded_and_checked_after_the_rest() -> None:
    other = dataclasses.replace(GOOD, python=(3, 12), has_venv=False, compiler_error="no Python headers")
    assert problems(other, "gpu") == []
    assert len(problems(dataclasses.replace(other, free_gb=1.0), "gpu")) == 1


def test_a_missing_compiler_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "apt install g++" in setup_checks.compiler_error()


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [(None, ("gpu", "cpu")), ("", ("gpu", "cpu")), ("cpu", ("cpu",)), ("gpu", ("gpu",))],
)
def test_the_choice_of_accelerator(choice: str | None, wanted: tuple[str, ...]) -> None:
    assert bootstrap.wanted_accelerators(choice) == wanted


def test_an_unknown_accelerator_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        bootstrap.wanted_accelerators("tpu")
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("choice", "driver", "taken"),
    [(None, None, "cpu"), (None, 580, "gpu"), ("cpu", 580, "cpu"), ("gpu", None, "gpu")],
)
def test_without_a_choice_the_machine_decides(
    project: Path, monkeypatch: pytest.MonkeyPatch, choice: str | None, driver: int | None, taken: str
) -> None:
    done: list[str] = []
    monkeypatch.setattr(bootstrap, "driver_version", lambda: driver)
    monkeypatch.setattr(bootstrap, "set_up", lambda accelerator, _held: done.append(accelerator))
    if choice:
        monkeypatch.setenv("ACCELERATOR", choice)
    bootstrap.main()
    assert done == [taken]


def test_a_finished_setup_does_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish("cpu")
    monkeypatch.setattr(bootstrap, "set_up", lambda *_: pytest.fail("setup ran again"))
    bootstrap.main()


@pytest.mark.parametrize("edited", ["platform/locks/cpu.txt", "pyproject.toml"])
def test_an_edit_requires_a_new_setup(project: Path, edited: str) -> None:
    finish("cpu")
    (project / edited).write_text("torch==2\n")
    assert not bootstrap.stamp("cpu").exists()


def test_an_edit_of_pyproject_keeps_the_packages(project: Path) -> None:
    finish("cpu")
    (project / "pyproject.toml").write_text("changed")
    assert bootstrap.packages_stamp("cpu").exists()


def test_another_accelerator_requires_a_new_setup(project: Path) -> None:
    finish("cpu")
    assert not bootstrap.stamp("gpu").exists()


def test_a_moved_project_requires_a_new_setup(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish("cpu")
    moved = project.rename(project.with_name("moved"))
    monkeypatch.setattr(bootstrap, "ROOT", moved)
    monkeypatch.setattr(bootstrap, "VENV", moved / ".venv")
    assert not bootstrap.packages_stamp("cpu").exists()


def test_a_foreign_venv_is_not_touched(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = bootstrap.VENV / "bin" / "python"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    with pytest.raises(SystemExit) as stop:
        bootstrap.main()
    assert stop.value.code == 2
    assert theirs.exists()
    assert "move it away" in capsys.readouterr().err


def test_an_interrupted_setup_is_deleted_and_repeated(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bootstrap.VENV.mkdir()
    (bootstrap.VENV / bootstrap.OURS).touch()
    (bootstrap.VENV / "half-unpacked").touch()
    steps: list[str] = []
    lock = project / "platform" / "locks" / "cpu.txt"
    lock.write_text("setuptools==1\nnumpy==2\ntorch==3\n")

    def pip(label: str, *_: object) -> str:
        steps.append(label)
        return ""

    monkeypatch.setattr(bootstrap, "inspect_machine", lambda *_, **__: GOOD)
    monkeypatch.setattr(bootstrap, "pip", pip)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: None)
    monkeypatch.setenv("ACCELERATOR", "cpu")
    bootstrap.main()
    assert steps == ["setuptools", "packages", "torch", "undertow"]
    assert not (bootstrap.VENV / "half-unpacked").exists()
    assert bootstrap.stamp("cpu").exists()


def test_a_failed_setup_leaves_no_stamp(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish("cpu")
    bootstrap.stamp("cpu").unlink()
    monkeypatch.setattr(bootstrap, "inspect_machine", lambda *_, **__: GOOD)
    monkeypatch.setattr(bootstrap, "pip", lambda *_: "ERROR: no route\n")
    monkeypatch.setenv("ACCELERATOR", "cpu")
    with pytest.raises(SystemExit):
        bootstrap.main()
    assert not bootstrap.stamp("cpu").exists()


@pytest.mark.parametrize(("accelerator", "asked"), [("cpu", 2), ("gpu", 1)])
def test_the_torch_index_is_a_fallback_for_the_cpu_only(
    project: Path, monkeypatch: pytest.MonkeyPatch, accelerator: str, asked: int
) -> None:
    bootstrap.VENV.mkdir()
    calls: list[list[str]] = []

    def pip(_label: str, _total: int, arguments: list[str], _held: object) -> str:
        calls.append(arguments)
        return "" if "--index-url" in arguments else "ERROR: No matching distribution found for torch\n"

    monkeypatch.setattr(bootstrap, "pip", pip)
    fallback = bootstrap.TORCH_CPU_INDEX if accelerator == "cpu" else ""
    with (project / "pyproject.toml").open("rb") as held:
        if fallback:
            bootstrap.pip_lock("torch", ["torch==1"], held, fallback)
        else:
            with pytest.raises(SystemExit):
                bootstrap.pip_lock("torch", ["torch==1"], held, fallback)
    assert len(calls) == asked
    assert all("--require-hashes" in arguments for arguments in calls)


def test_pip_on_a_full_disk_is_one_line() -> None:
    log = "Collecting torch\n" * 50 + "ERROR: Could not install: [Errno 28] No space left on device\n"
    explained = bootstrap.explain_pip(log)
    assert "disk is full" in explained
    assert "\n" not in explained


def test_pip_errors_are_shown_without_other_output() -> None:
    noise = "WARNING: Location 'file:///elsewhere/' is ignored\n" * 500
    explained = bootstrap.explain_pip(f"{noise}ERROR: No matching distribution found for ray==2\n")
    assert "No matching distribution found for ray==2" in explained
    assert "Location" not in explained


# Another Python on the machine.


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


THIS_PYTHON = f'exec {sys.executable} "$@"'


@pytest.mark.parametrize("name", ["bootstrap.py", "setup_checks.py", "setup_python.py"])
def test_the_setup_has_the_syntax_of_python_3_9(name: str) -> None:
    ast.parse((ROOT / "platform" / name).read_text(), feature_version=(3, 9))


def test_python_3_11_is_found_on_path_or_where_an_earlier_setup_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / ".venv"
    script(venv / "bin" / "python3.11", THIS_PYTHON)  # the setup may delete it while it runs
    off = script(tmp_path / "shims" / "python3.11", "echo version 3.11 is not set; exit 127")
    monkeypatch.setenv("PATH", f"{venv}/bin:{off.parent}")
    assert setup_python.find(tmp_path, venv) is None
    downloaded = script(tmp_path / ".uv/python/cpython-3.11.9-linux-x86_64-gnu/bin/python3.11", THIS_PYTHON)
    assert setup_python.find(tmp_path, venv) == str(downloaded)
    on_path = script(tmp_path / "bin" / "python3.11", THIS_PYTHON)
    monkeypatch.setenv("PATH", f"{venv}/bin:{on_path.parent}")
    assert setup_python.find(tmp_path, venv) == str(on_path)


OTHERS = ("3.9", "3.10", "3.12", "3.13", "3.14")


def other_python(version: str) -> str:
    """The path of another Python of this machine, on PATH or installed by pyenv; skips without one."""
    in_pyenv = map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    for path in filter(None, [shutil.which(f"python{version}"), *in_pyenv]):
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    pytest.skip(f"this machine has no Python {version}")


@pytest.mark.slow
@pytest.mark.parametrize("version", OTHERS)
def test_make_setup_runs_on_another_python_and_names_what_it_needs(version: str, tmp_path: Path) -> None:
    """Without an index, uv cannot be installed; a machine with another Python only then says what to do."""
    for name in ("bootstrap.py", "setup_checks.py", "setup_python.py", "locks"):
        copy = shutil.copytree if name == "locks" else shutil.copyfile
        (tmp_path / "platform").mkdir(exist_ok=True)
        copy(ROOT / "platform" / name, tmp_path / "platform" / name)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    script(tmp_path / "bin" / "python3", f'exec {other_python(version)} "$@"')
    environment = {
        "PATH": str(tmp_path / "bin"),
        "HOME": str(tmp_path),
        "ACCELERATOR": "cpu",
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }
    command = [shutil.which("make") or "make", "setup"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("[setup]"))
    assert f"Python {version} found, 3.11 needed, and uv cannot be installed" in line
    assert "apt install python3.11 python3.11-venv python3.11-dev" in line
    assert not (tmp_path / ".venv").exists()


ARCHIVE = "20990101/cpython-3.11.99%2B20990101-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz"


@pytest.fixture(scope="module")
def with_uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder in which the locked uv is installed, from the package index of this machine."""
    root = tmp_path_factory.mktemp("with uv")
    (root / "platform" / "locks").mkdir(parents=True)
    shutil.copyfile(ROOT / "platform" / "locks" / "uv.txt", root / "platform" / "locks" / "uv.txt")
    try:
        setup_python._install_uv(root)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"uv cannot be installed here: {error.output[-200:]}")
    return root


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror of python-build-standalone with one release of 3.11, whose interpreter is this one.

    uv knows the SHA-256 of every real release, so the list of releases is replaced as well.
    """
    archive = tmp_path / "mirror" / unquote(ARCHIVE)
    archive.parent.mkdir(parents=True)
    content = script(tmp_path / "python" / "bin" / "python3.11", THIS_PYTHON).parents[1]
    library = content / "lib" / "python3.11"
    library.mkdir(parents=True)
    settings = "# system configuration generated and used by the sysconfig module\nbuild_time_vars = {}\n"
    (library / "_sysconfigdata__linux_x86_64-linux-gnu.py").write_text(settings)  # uv edits it
    with tarfile.open(archive, "w:gz") as file:
        file.add(content, "python")
    release = {
        "name": "cpython",
        "arch": {"family": "x86_64", "variant": None},
        "os": "linux",
        "libc": "gnu",
        "major": 3,
        "minor": 11,
        "patch": 99,
        "prerelease": "",
        "url": f"{setup_python.RELEASES}/{ARCHIVE}",
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "variant": None,
        "build": "20990101",
    }
    (tmp_path / "releases.json").write_text(json.dumps({"cpython-3.11.99-linux-x86_64-gnu": release}))
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS_JSON_URL", str(tmp_path / "releases.json"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", f"file://{tmp_path}/mirror")
    return archive


@pytest.mark.slow
def test_uv_downloads_python_from_a_mirror_into_the_repository(
    with_uv: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    python = setup_python.download(with_uv, lambda _: None)
    assert Path(python).is_relative_to(with_uv / ".uv" / "python")
    version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith("Python 3.11.")
    monkeypatch.setenv("PATH", "")
    assert setup_python.find(with_uv, with_uv / ".venv") == python
    shutil.rmtree(with_uv / ".uv" / "python")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["no such file", "other content"])
def test_a_mirror_that_lacks_python_is_one_line_with_both_remedies(
    damage: str, with_uv: Path, mirror: Path
) -> None:
    if damage == "no such file":
        mirror.unlink()
    else:
        with tarfile.open(mirror, "w:gz") as file:
            file.add(__file__, "python/bin/python3.11")
    with pytest.raises(setup_python.NoInterpreterError) as caught:
        setup_python.download(with_uv, lambda _: None)
    message = str(caught.value)
    assert "\n" not in message
    assert "3.11 needed, and uv cannot download it (" in message
    assert "apt install python3.11" in message
    assert "set UV_PYTHON_INSTALL_MIRROR to a mirror of https://github.com/astral-sh" in message


def test_the_setup_starts_again_with_the_python_that_it_downloaded(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    machine = dataclasses.replace(GOOD, python=(3, 13))
    monkeypatch.setattr(bootstrap, "inspect_machine", lambda *_, **__: machine)
    monkeypatch.setattr(setup_python, "download", lambda *_: "/there/python3.11")

    def restart(python: str) -> None:
        started.append(python)
        raise SystemExit

    monkeypatch.setattr(bootstrap, "restart", restart)
    with pytest.raises(SystemExit):
        bootstrap.main()
    assert started == ["/there/python3.11"]
    assert not bootstrap.VENV.exists()


@pytest.mark.parametrize("accelerator", ["cpu", "gpu"])
def test_every_package_of_a_lock_is_pinned_and_hashed(accelerator: str) -> None:
    blocks = bootstrap.requirements((ROOT / f"platform/locks/{accelerator}.txt").read_text())
    assert {"torch", "setuptools", "ray", "deepspeed", "mlflow", "pytest", "ruff", "mypy"} <= set(blocks)
    for name, block in blocks.items():
        assert f"{name}==" in block
        assert "--hash=sha256:" in block


def test_both_locks_pin_the_same_versions() -> None:
    cpu, gpu = (
        bootstrap.requirements((ROOT / f"platform/locks/{name}.txt").read_text()) for name in ("cpu", "gpu")
    )
    for name in ("transformers", "tokenizers", "ray", "deepspeed", "peft", "mlflow", "numpy", "scipy"):
        assert cpu[name].split()[0] == gpu[name].split()[0]
    assert cpu["torch"].split()[0] == gpu["torch"].split()[0] + "+cpu"


def test_platform_is_not_a_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists(), "it would shadow the standard library's platform"


@pytest.mark.parametrize("path", [".", "platform"])
def test_the_standard_library_platform_is_imported(path: str) -> None:
    code = "import platform; platform.machine(); print(platform.__file__)"
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).parent != ROOT / "platform"
