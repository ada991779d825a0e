"""A Python environment with all locked packages but without this one, as in the image of a cluster."""

import os
import subprocess
import sys
import venv
from pathlib import Path


def bare_python(folder: Path) -> Path:
    """Makes a virtual environment in `folder` that uses the installed packages of this process."""
    venv.EnvBuilder(symlinks=True).create(folder)
    packages = [path for path in sys.path if Path(path).name == "site-packages"]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # Python does not read .pth files in folders that a .pth file names, so that an editable installation of
    # this package stays invisible.
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
    """This process's environment with the bare Python first in PATH and without settings of the tests."""
    removed = ("PYTHONPATH", "RAY_ADDRESS", "MLFLOW_TRACKING_URI", "UNDERTOW_RAY_TMP")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    return {**kept, "PATH": f"{python.parent}:{os.environ['PATH']}", **more}
