"""A full disk and an unreachable storage: a one-line error, no partial file, and a rerun that completes.

The writes really fail: a limit on the size of files (RLIMIT_FSIZE) makes them fail as an exhausted quota
does.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.examples import REFERENCES, study
from tests.filled_store import fill, fill_rest
from undertow.errors import StorageError
from undertow.planning.integrity import inspect
from undertow.planning.plan import make
from undertow.storage.store import Store
from undertow.tracking.database import create_database

ROOT = Path(__file__).parents[2]
LARGEST = 64 * 2**10  # bytes; a report is larger
STUDY = """
from dataclasses import replace
from tests.examples import study as small

def study():
    return replace(small(seeds=(0,)), conditions=small().conditions[:3])
"""


def limited(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a Python program that cannot write files of more than LARGEST bytes."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"},
        capture_output=True,
        text=True,
        preexec_fn=_limit,
    )


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))


def test_a_failed_write_is_reported_in_one_line_and_keeps_the_old_file(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    store.write_bytes("sweeps/small/1/events.json", b"[]")
    program = (
        "from undertow.errors import StorageError; from undertow.storage.store import Store\n"
        f"try: Store({store.url!r}).write_bytes('sweeps/small/1/events.json', b'x' * {2 * LARGEST})\n"
        "except StorageError as error: print(error)"
    )
    done = limited(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"--storage {store.url}: cannot be written (File too large)" in done.stdout
    assert "finished artifacts are kept" in done.stdout
    assert store.read_bytes("sweeps/small/1/events.json") == b"[]"
    assert [path for path in tmp_path.rglob("partial/**/*") if path.is_file()] == []


def test_an_artifact_that_does_not_fit_leaves_no_file(tmp_path: Path) -> None:
    program = (
        "from undertow.storage.store import Store; from tests.examples import REFERENCES\n"
        f"with Store({str(tmp_path / 'storage')!r}).new(REFERENCES[0], {{}}) as folder:\n"
        f"    (folder / 'weights').write_bytes(b'x' * {2 * LARGEST})"
    )
    done = limited(program, tmp_path)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    store = Store(str(tmp_path / "storage"))
    assert store.keys("reference") == set()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_unreachable_storage_is_reported_in_one_line(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    with store.new(REFERENCES[0], {}) as folder:
        (folder / "weights").write_text("weights")
    shutil.rmtree(store.root)
    Path(store.root).write_text("a mount point that is no longer a folder")
    for write in (lambda: store.write_bytes("timings.json", b"{}"), lambda: store.aside()):
        with pytest.raises(StorageError, match=r"cannot be written \(.*finished artifacts are kept"):
            write()


@pytest.mark.slow
def test_a_sweep_on_a_full_disk_ends_with_a_one_line_error_and_a_rerun_completes_it(tmp_path: Path) -> None:
    small = replace(study(seeds=(0,)), conditions=study().conditions[:3])
    store = Store(str(tmp_path / "storage"))
    plan = fill(small, store, REFERENCES)
    fill_rest(plan, store)
    (tmp_path / "mine.py").write_text(STUDY)
    sweep = (
        "import runpy, sys; sys.argv = ['sweep.py', '--study', 'mine.py:study', '--storage', 'storage']\n"
        f"runpy.run_path({str(ROOT / 'jobs' / 'sweep.py')!r}, run_name='__main__')"
    )
    full = limited(sweep, tmp_path)
    assert full.returncode == 2, full.stdout + full.stderr
    assert "cannot be written (File too large)" in full.stderr
    assert "Traceback" not in full.stdout + full.stderr
    assert inspect(make(small, store, ()), store).damaged == {}
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
    again = subprocess.run(
        [sys.executable, "-c", sweep], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stdout + again.stderr
    newest = max((tmp_path / "storage" / "sweeps" / "small").glob("2*"))
    assert (newest / "report.html").stat().st_size > LARGEST
    assert json.loads((newest / "events.json").read_text())[-1]["event"] == "finished"


def test_mlflows_database_on_a_full_disk_prints_no_traceback(tmp_path: Path) -> None:
    create_database(tmp_path / "mlflow.db")
    program = (
        "from undertow.engines.quiet import quiet\n"
        "quiet()\n"
        "from undertow.tracking.client import connect_client\n"
        "from undertow.tracking.connection_errors import is_connection_error, reason_of\n"
        f"client = connect_client('sqlite:///{tmp_path}/mlflow.db')\n"
        "try: client.create_experiment('owls')\n"
        "except Exception as error: print(is_connection_error(error), reason_of(error))"
    )
    done = limited(program, tmp_path)
    assert done.stdout in ("True database or disk is full\n", "True disk I/O error\n")
    assert done.stderr == ""
