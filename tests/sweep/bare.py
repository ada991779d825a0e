"""A Python with every locked package and without this one: what a cluster's image has."""

import os
import subprocess
import sys
import venv
from pathlib import Path


def bare_python(folder: Path) -> Path:
    """Makes a virtual environment in `folder`; the packages are those of this process's, by reference."""
    venv.EnvBuilder(symlinks=True).create(folder)
    packages = [path for path in sys.path if Path(path).name == "site-packages"]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # A .pth file in a folder that is named by a .pth file is not read: an editable installation is not seen.
    (folder / "lib" / version / "site-packages" / "packages.pth").write_text("\n".join(packages))
    python = folder / "bin" / "python"
    missing = subprocess.run(
        [python, "-c", "import ray; import undertow"],
        cwd=folder,
        env=bare_environment(python),
        capture_output=True,
        text=True,
    )
    assert "No module named 'undertow'" in missing.stderr, missing.stderr
    return python


def bare_environment(python: Path, **more: str) -> dict[str, str]:
    """This process's environment as a node has it: the bare Python first, and nothing of the repository's."""
    gone = ("PYTHONPATH", "RAY_ADDRESS", "MLFLOW_TRACKING_URI", "UNDERTOW_RAY_TMP")
    kept = {name: value for name, value in os.environ.items() if name not in gone}
    return {**kept, "PATH": f"{python.parent}:{os.environ['PATH']}", **more}
