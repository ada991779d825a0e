"""Tests that changed and missing files are reported with the remedy, not used, and repaired on request.

The storage is filled as a sweep fills it (see `filled_store`), then files are damaged on disk.
"""

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.examples import REFERENCES, study
from tests.filled_store import fill, fill_rest
from undertow.errors import StorageError
from undertow.planning.integrity import UNUSED_SECONDS, inspect, repair, tidy
from undertow.planning.plan import Plan, make
from undertow.storage.leases import OWNERS, Leases
from undertow.storage.manifest import MANIFEST, Address, address
from undertow.storage.owner import Owner
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.measurements import Evaluation
from undertow.study.references import Artifact
from undertow.study.students import Student
from undertow.sweep.run import SweepOutcome, run
from undertow.tracking import client

pytestmark = pytest.mark.slow

STUDY = replace(study(seeds=(0,)), conditions=study().conditions[:3])  # owl, cat and control


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with every artifact of the study; copied by each test that damages it."""
    folder = tmp_path_factory.mktemp("whole") / "storage"
    store = Store(str(folder))
    fill_rest(fill(STUDY, store, REFERENCES), store)
    client.connect_client(f"sqlite:///{folder}/mlflow.db").search_experiments()  # creates its tables once
    return folder


@pytest.fixture
def store(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(whole, tmp_path / "storage")
    yield Store(str(tmp_path / "storage"))


def planned(store: Store) -> Plan:
    return make(STUDY, store, REFERENCES)


def one(kind: type[Artifact], plan: Plan) -> Artifact:
    """An artifact of a kind that the study's first condition depends on."""
    cell = plan.cells[0]
    return next(a for a in cell.artifacts() if isinstance(a, kind) and key(a) in plan.artifacts)


def flip(file: Path) -> None:
    """Flips one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    os.truncate(file, 0)


DAMAGE = [
    (Student, "model.safetensors", flip, "changed"),
    (Student, "history.json", flip, "changed"),
    (Student, "model.safetensors", Path.unlink, "missing"),
    (Dataset, "data/train.parquet", flip, "changed"),
    (Dataset, "data/train.parquet", cut, "changed"),
    (Dataset, "README.md", Path.unlink, "missing"),
    (Evaluation, "answers.parquet", flip, "changed"),
    (Evaluation, "result.json", empty, "changed"),
    (Evaluation, MANIFEST, cut, "not a manifest"),
    (Evaluation, MANIFEST, empty, "not a manifest"),
    (Student, MANIFEST, lambda file: file.write_text("null"), "not a manifest"),
    (Dataset, MANIFEST, lambda file: file.write_bytes(b"\xff\x00"), "not a manifest"),
    (
        Dataset,
        MANIFEST,
        lambda file: file.write_text(file.read_text().replace('"rows": 40', '"rows": 41')),
        "changed",
    ),
]
FIELDS = ("kind", "name", "damage", "message")


def damaged(store: Store, kind: type[Artifact], name: str, damage: Callable[[Path], object]) -> Address:
    place = address(one(kind, planned(store)))
    damage(Path(store.root, "artifacts", *place, name))
    return place


@pytest.mark.parametrize(FIELDS, DAMAGE)
def test_damage_is_reported_and_repair_sets_the_artifact_aside(
    store: Store,
    kind: type[Artifact],
    name: str,
    damage: Callable[[Path], object],
    message: str,
) -> None:
    place = damaged(store, kind, name, damage)
    plan = planned(store)
    assert place.key not in plan.missing
    found = inspect(plan, store)
    assert set(found.damaged) == {place}
    (line,) = found.damaged[place]
    assert str(Path(store.root, "artifacts", *place, name)) in line
    assert message in line
    assert "--repair" in line
    (moved,) = repair(found.damaged, store)
    assert f"damaged/{place.kind}/{place.key}" in moved
    assert planned(store).missing - plan.missing == {place.key}
    assert inspect(planned(store), store).damaged == {}


@pytest.mark.parametrize(FIELDS, DAMAGE[::3])
def test_a_damaged_artifact_fails_the_conditions_that_depend_on_it_and_no_others(
    store: Store,
    kind: type[Artifact],
    name: str,
    damage: Callable[[Path], object],
    message: str,
) -> None:
    place = damaged(store, kind, name, damage)
    outcome, output = swept(store)
    assert place.key in outcome.failures
    assert list(outcome.failed_conditions) == [STUDY.conditions[0].label]
    assert "--repair" in output
    assert "Traceback" not in output


def swept(store: Store) -> tuple[SweepOutcome, str]:
    """Runs the sweep of a complete study, which only reports and logs to MLflow and does not start Ray."""
    printed = io.StringIO()
    plan = planned(store)
    assert plan.is_complete
    return run(plan, store, Console(file=printed, width=160)), printed.getvalue()


def test_an_intact_storage_has_nothing_to_repair(store: Store) -> None:
    plan = planned(store)
    found = inspect(plan, store)
    assert found.damaged == {}
    assert found.existing == len(plan.artifacts)


def test_a_manifest_of_another_artifact_is_reported_as_damage(store: Store) -> None:
    first, second = (address(cell.student) for cell in planned(store).cells[:2])
    folder = Path(store.root, "artifacts")
    shutil.rmtree(folder.joinpath(*first))
    shutil.copytree(folder.joinpath(*second), folder.joinpath(*first))
    ((line,),) = inspect(planned(store), store).damaged.values()
    assert f"describes another artifact, {'/'.join(second)}" in line


def test_a_damaged_local_copy_is_fetched_again_and_a_damaged_object_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERTOW_CACHE", str(tmp_path / "cache"))
    store, spec = Store(f"memory://{tmp_path.name}"), REFERENCES[0]
    with store.new(spec, {}) as folder:
        (folder / "model.safetensors").write_bytes(b"weights")
    copy = store.fetch(spec)
    flip(copy / "model.safetensors")
    again = Store(store.url)  # as in another process: the copy is not yet verified
    assert (again.fetch(spec) / "model.safetensors").read_bytes() == b"weights"
    assert again.damage(spec) == []
    writer = again.manifest(spec).writer
    again.write_bytes(f"artifacts/reference/{key(spec)}/{writer}/model.safetensors", b"weightz")
    (line,) = again.damage(spec)
    assert "model.safetensors: changed" in line
    shutil.rmtree(copy)
    with pytest.raises(StorageError, match="--repair"):
        Store(store.url).fetch(spec)
    again.set_aside(spec)
    assert not again.has(spec)


@pytest.mark.parametrize("damage", [flip, cut, empty])
def test_a_damaged_part_does_not_count_and_is_written_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    store, spec = Store(str(tmp_path / "storage")), REFERENCES[0]
    for name in ("rows-0.parquet", "rows-1.parquet"):
        store.write_part(spec, name, f"the rows of {name}".encode())
    (file,) = Path(store.root, "partial", "reference", key(spec)).glob("rows-1.parquet*")
    damage(file)
    assert store.parts(spec) == {"rows-0.parquet"}
    with pytest.raises(StorageError, match=r"rows-1\.parquet"):
        store.read_part(spec, "rows-1.parquet")
    store.write_part(spec, "rows-1.parquet", b"the rows of rows-1.parquet")
    assert store.read_part(spec, "rows-1.parquet") == b"the rows of rows-1.parquet"


def test_the_leftovers_of_killed_sweeps_are_removed_and_files_in_use_are_kept(store: Store) -> None:
    store.set_aside(planned(store).cells[0].student.dataset.completions)
    plan = planned(store)
    student, completions = plan.cells[0].student, plan.cells[0].student.dataset.completions
    partial = Path(store.root, "partial")
    of_whole = partial / "checkpoints" / key(student) / "epoch-1"
    of_missing = partial / "completions" / key(completions) / "rows"
    old, new = partial / "aside" / "old", partial / "aside" / "new"
    empty, just_made = partial / "aside" / "empty", partial / "aside" / "just-made"
    for folder in (of_whole, of_missing, old, new, empty, just_made):
        folder.mkdir(parents=True)
    for folder in (of_whole, of_missing, old, new):
        (folder / "file").write_text("half")
    long_ago = time.time() - 2 * UNUSED_SECONDS
    for path in (old / "file", old, empty):
        os.utime(path, (long_ago, long_ago))
    tidy(plan, store)
    assert not any(folder.exists() for folder in (of_whole, old, empty))
    assert all(folder.exists() for folder in (of_missing, new, just_made))


def ray_scratch(store: Store, model: Student) -> Path:
    """Ray's state of a training, as a killed sweep leaves it."""
    folder = Path(store.root, "partial", f"ray-{key(model)[:16]}", "experiment")
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    return folder


def leave_owner(store: Store, name: str, **changes: object) -> None:
    """Writes the owner file of a sweep that ended without removing it."""
    owner = replace(Owner.this_process(3), **changes)  # type: ignore[arg-type]
    store.write_bytes(f"{OWNERS}/{name}", owner.to_json().encode())


def test_a_second_sweep_removes_only_the_files_of_ended_sweeps(store: Store) -> None:
    plan = planned(store)
    living, killed, elsewhere = (cell.student for cell in plan.cells)
    scratch = {student: ray_scratch(store, student) for student in (living, killed, elsewhere)}
    finished = ray_scratch(store, replace(killed, seed=7))  # without a lease
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leave_owner(store, "killed", process=ended.pid)
    leave_owner(store, "elsewhere", host="another", boot="another")
    for student, name in ((killed, "killed"), (elsewhere, "elsewhere")):
        assert store.create(f"claims/student/{key(student)}-0", name.encode())
    store.write_bytes("partial/reach-1", b"1")
    with Leases(store) as first:
        assert first.take(living)
        tidy(plan, store)
        assert store.names("claims/student") == sorted(f"{key(s)}-0" for s in (living, elsewhere))
        assert store.names(OWNERS) == sorted([first.owner, "elsewhere"])
        assert not Leases(store).take(living)
    assert [student for student, folder in scratch.items() if folder.exists()] == [living, elsewhere]
    assert not finished.exists()
    assert store.names("partial/reach-1")  # it may be in use


def test_the_files_of_a_sweep_on_another_host_are_removed_once_its_heartbeat_is_old(store: Store) -> None:
    plan = planned(store)
    student = plan.cells[0].student
    scratch = ray_scratch(store, student)
    leave_owner(store, "elsewhere", host="another", boot="another")
    assert store.create(f"claims/student/{key(student)}-0", b"elsewhere")
    store.write_bytes("partial/reach-1", b"1")
    long_ago = time.time() - 2 * UNUSED_SECONDS
    for name in (f"{OWNERS}/elsewhere", "partial/reach-1"):
        os.utime(Path(store.root, name), (long_ago, long_ago))
    tidy(plan, store)
    assert not scratch.exists()
    assert store.names("claims/student") == store.names(OWNERS) == []
    assert "reach-1" not in store.names("partial")


def test_tidying_a_storage_without_leases_writes_none(store: Store) -> None:
    tidy(planned(store), store)
    assert "claims" not in store.names("")


def test_a_folder_of_a_living_sweep_is_kept_however_long_nothing_is_written_into_it(store: Store) -> None:
    """An epoch of a long training, which has kept a step, may take days."""
    kept = Path(store.root, "partial", "aside", "kept")
    kept.mkdir(parents=True)
    long_ago = time.time() - 2 * UNUSED_SECONDS
    os.utime(kept, (long_ago, long_ago))
    with Leases(store):
        tidy(planned(store), store)
        assert kept.exists()
    tidy(planned(store), store)
    assert not kept.exists()
