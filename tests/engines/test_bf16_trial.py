"""Tests of whether a machine computes in bf16."""

import subprocess
import sys
from pathlib import Path

import pytest

from undertow.engines import bf16_trial
from undertow.engines.bf16_trial import CPU_FLAGS, cpu_flags, supports_bf16

X86 = "processor\t: 0\nmodel name\t: bf16 in a name\nflags\t\t: fpu sse2 avx512_bf16\nbugs\t\t: amx_bf16\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\n"


@pytest.mark.parametrize(
    ("text", "flags"),
    [(X86, {"fpu", "sse2", "avx512_bf16"}), (ARM, {"fp", "asimd", "bf16"}), ("processor: 0\n", set())],
)
def test_the_flags_of_the_cpu_are_those_that_the_system_lists(
    text: str, flags: set[str], tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_flags(tmp_path / "cpuinfo") == flags


def test_a_system_without_the_file_has_no_flags(tmp_path: Path) -> None:
    assert cpu_flags(tmp_path / "missing") == set()


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 4)", "os._exit(1)", "raise SystemExit('no')"])
def test_a_child_that_ends_otherwise_than_by_success_means_no(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signal 4 is SIGILL, by which a process ends on an instruction that the CPU does not have."""
    child = tmp_path / "python"
    child.write_text(f"#!{sys.executable}\nimport os\n{end}\n")
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))
    monkeypatch.setattr(bf16_trial, "supports_bf16", supports_bf16.__wrapped__)
    assert bf16_trial.supports_bf16() is False


@pytest.mark.stack
def test_the_trial_ends_without_an_error_in_python() -> None:
    """Such an error would count as a CPU without bf16. Whether this CPU has it is not tested here."""
    command = [sys.executable, "-m", bf16_trial.__name__]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert CPU_FLAGS & cpu_flags() or done.returncode == 1
