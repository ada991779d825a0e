"""The setup program, without a network: its checks, the choice of accelerator, and when it does nothing."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bootstrap
import pytest
import setup_checks
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
        ({"python": (3, 9)}, "cpu", "Python 3.9", "apt install python3.11"),
        ({"python": (3, 12)}, "cpu", "Python 3.12", "apt install python3.11"),
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
