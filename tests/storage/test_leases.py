"""Several sweeps on one storage: each artifact is made once, and no sweep waits for one that has ended."""

import json
import multiprocessing.pool
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from undertow.storage import owner
from undertow.storage.leases import OWNERS, Leases, leased_artifacts
from undertow.storage.owner import Owner
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.references import Reference

pytestmark = pytest.mark.slow

SPECS = tuple(Reference(f"org/model-{number}", "revision", "template") for number in range(8))
HEARTBEAT, EXPIRY = 0.2, 60.0  # seconds; on a busy machine many heartbeats may be late
SPAWN = multiprocessing.get_context("spawn")  # a fork would copy the threads of S3's client
LEASE = f"claims/reference/{key(SPECS[0])}-0"


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    yield Store(str(tmp_path / "storage") if request.param == "local" else request.getfixturevalue("s3_url"))


def missing(store: Store) -> list[Reference]:
    made = store.keys("reference")
    return [spec for spec in SPECS if key(spec) not in made]


def run_sweep(url: str, log: Path, seconds: float) -> None:
    """Makes the missing artifacts and logs each that it makes."""
    store = Store(url)

    def make(some: list[Reference]) -> None:
        for spec in some:
            with log.open("a") as file:
                file.write(f"{spec.name}\n")
            time.sleep(seconds)
            with store.new(spec, {}) as folder:
                (folder / "weights").write_text(spec.name)

    with Leases(store, HEARTBEAT, EXPIRY) as leases:
        leases.share(lambda: missing(store), make, lambda line: None)


def start(store: Store, log: Path, seconds: float = 0.05) -> Any:
    process = SPAWN.Process(target=run_sweep, args=(store.url, log, seconds))
    process.start()
    return process


def wait_for(log: Path, lines: int) -> None:
    deadline = time.monotonic() + 60
    while not log.exists() or len(log.read_text().splitlines()) < lines:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def put_owner(store: Store, name: str, found: Owner) -> None:
    store.write_bytes(f"{OWNERS}/{name}", found.to_json().encode())


def ended_process() -> int:
    """The ID of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_three_sweeps_make_each_artifact_once(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    sweeps = [start(store, log) for _ in range(3)]
    for sweep in sweeps:
        sweep.join(120)
        assert sweep.exitcode == 0
    assert sorted(log.read_text().split()) == sorted(spec.name for spec in SPECS)
    assert missing(store) == []
    assert store.names("claims/reference") == []
    assert store.names(OWNERS) == []


def test_leases_may_be_released_while_other_sweeps_check_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sweep holds each lease for an instant, so the others see leases appear and disappear."""
    monkeypatch.setattr("undertow.storage.leases.POLL_SECONDS", 0.001)
    store = Store(str(tmp_path))
    specs = [replace(SPECS[0], name=f"org/model-{number}") for number in range(60)]

    def sweep(_: int) -> None:
        with Leases(store, HEARTBEAT, EXPIRY) as own:
            own.share(lambda: specs, lambda some: None, lambda line: None)

    with multiprocessing.pool.ThreadPool(4) as threads:
        threads.map(sweep, range(8))
    assert store.names("claims/reference") == store.names(OWNERS) == []


def test_the_leases_of_a_killed_sweep_are_taken_over_before_they_expire(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    killed = start(store, log, seconds=60)
    wait_for(log, 1)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join(60)
    with Leases(store, HEARTBEAT, expiry=1e9) as leases:
        assert all(leases.take(spec) for spec in SPECS)


def test_a_second_sweep_waits_for_the_artifacts_of_the_first(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = start(store, log, seconds=0.2)
    wait_for(log, 1)
    reported: list[str] = []
    with Leases(store, HEARTBEAT, EXPIRY) as leases:
        leases.share(lambda: missing(store), lambda some: reported.append("made"), reported.append)
    (line,) = reported
    assert line.startswith("waiting for ") and line.endswith("(reference) that another sweep is making")
    first.join(60)
    assert first.exitcode == 0
    assert missing(store) == []


@pytest.mark.parametrize(
    "theirs",
    [
        Owner("another", 1, 7, "boot", "pid:[1]", "1"),
        replace(Owner.this_process(7), namespace="pid:[1]", process=2**22 + 1),
        replace(Owner.this_process(7), boot="another boot", process=2**22 + 1),
    ],
    ids=["another host", "a container with this host name", "this host before a reboot"],
)
def test_an_owner_in_another_process_table_is_dead_only_once_its_heartbeat_stops(
    tmp_path: Path, theirs: Owner
) -> None:
    store = Store(str(tmp_path))
    put_owner(store, "theirs", theirs)
    assert store.create(LEASE, b"theirs")
    with Leases(store, HEARTBEAT, expiry=0.5) as leases:
        assert not leases.take(SPECS[0])
        put_owner(store, "theirs", replace(theirs, beat=8))
        time.sleep(0.6)
        assert not leases.take(SPECS[0])  # the heartbeat has changed since
        time.sleep(0.6)
        assert leases.take(SPECS[0])
        assert store.names("claims/reference") == [f"{key(SPECS[0])}-0", f"{key(SPECS[0])}-1"]


def test_two_containers_with_one_host_name_do_not_take_each_others_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ID of the first container's sweep does not exist in the second container."""
    store = Store(str(tmp_path))
    first = replace(Owner.this_process(0), process=ended_process(), namespace="pid:[1]")
    put_owner(store, "first", first)
    assert store.create(LEASE, b"first")
    for namespace, may_take in (("pid:[2]", False), ("pid:[1]", True)):
        monkeypatch.setattr(owner, "process_table", lambda n=namespace: (first.host, first.boot, n))
        assert Leases(store, HEARTBEAT, EXPIRY).take(SPECS[0]) == may_take


def test_a_process_that_reuses_the_owners_id_is_not_the_owner() -> None:
    own = Owner.this_process(0)
    assert not own.has_ended
    assert replace(own, started="1").has_ended
    assert not replace(own, started="").has_ended  # an unknown start time proves nothing
    assert replace(own, process=ended_process()).has_ended


@pytest.mark.parametrize("table", [("host", "", "pid:[1]"), ("host", "boot", "")])
def test_without_a_boot_id_or_a_namespace_no_process_is_declared_dead(
    monkeypatch: pytest.MonkeyPatch, table: tuple[str, str, str]
) -> None:
    monkeypatch.setattr(owner, "process_table", lambda: table)
    ended = replace(Owner.this_process(0), process=ended_process())
    monkeypatch.setattr("undertow.storage.owner.sys.platform", "linux")
    assert not ended.has_ended
    monkeypatch.setattr("undertow.storage.owner.sys.platform", "darwin")  # has neither, and no PID namespaces
    assert ended.has_ended


def test_a_process_table_without_proc_is_its_host_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.process_table.cache_clear()
    monkeypatch.setattr(owner, "BOOT_ID", tmp_path / "none")
    monkeypatch.setattr(owner, "PID_NAMESPACE", tmp_path / "none")
    try:
        assert owner.process_table()[1:] == ("", "")
        assert owner.start_time(2**22 + 1) == ""
    finally:
        owner.process_table.cache_clear()


def test_an_owner_file_of_an_earlier_version_is_read_and_expires_by_its_heartbeat(tmp_path: Path) -> None:
    store, own = Store(str(tmp_path)), Owner.this_process(0)
    text = json.dumps({"host": own.host, "process": ended_process(), "beat": 7})
    store.write_bytes(f"{OWNERS}/theirs", text.encode())
    assert store.create(LEASE, b"theirs")
    found = Owner.from_json(text)
    assert found is not None
    assert (found.beat, found.namespace) == (7, "")
    with Leases(store, HEARTBEAT, expiry=0.3) as leases:
        assert not leases.take(SPECS[0])
        time.sleep(0.4)
        assert leases.take(SPECS[0])


def test_an_owner_file_of_a_later_version_is_read_by_its_known_fields() -> None:
    own = Owner.this_process(3)
    assert Owner.from_json(json.dumps(json.loads(own.to_json()) | {"later": 1})) == own


@pytest.mark.parametrize(
    "text", ["", '{"host": "ano', "[]", "1", '{"host": 1, "process": 1, "beat": 2}', "{}"]
)
def test_an_owner_file_that_is_cut_off_has_no_owner(text: str) -> None:
    assert Owner.from_json(text) is None


def test_a_partly_written_owner_file_expires_like_any_other(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_bytes(f"{OWNERS}/theirs", b'{"host": "ano')
    assert store.create(LEASE, b"theirs")
    with Leases(store, HEARTBEAT, expiry=0.3) as leases:
        assert not leases.take(SPECS[0])
        time.sleep(0.4)
        assert leases.take(SPECS[0])


def test_an_empty_lease_expires_like_any_other(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert store.create(LEASE, b"")
    with Leases(store, HEARTBEAT, expiry=0.3) as leases:
        assert not leases.take(SPECS[0])
        time.sleep(0.4)
        assert leases.take(SPECS[0])
        leases.share(lambda: SPECS[:1], lambda some: None, lambda line: None)
    assert store.names("claims/reference") == []


def test_a_sweep_that_was_taken_for_dead_does_not_free_the_lease_of_its_successor(store: Store) -> None:
    with Leases(store, HEARTBEAT, EXPIRY) as returned, Leases(store, HEARTBEAT, EXPIRY) as successor:
        assert returned.take(SPECS[0])
        successor.expiry = 0.0
        while not successor.take(SPECS[0]):
            pass
        returned.release(SPECS[0])
        assert not Leases(store, HEARTBEAT, EXPIRY).take(SPECS[0])
        successor.release(SPECS[0])
        assert store.names("claims/reference") == []


def test_leases_end_with_their_owner(store: Store) -> None:
    other = Leases(store, HEARTBEAT, expiry=600)
    with Leases(store, HEARTBEAT, expiry=600) as leases:
        assert leases.take(SPECS[0])
        assert leases.take(SPECS[0])
        assert not other.take(SPECS[0])
        assert other.take(SPECS[1])
    assert other.take(SPECS[0])


def test_the_lease_of_an_artifact_that_could_not_be_made_is_released(store: Store) -> None:
    other = Leases(store, HEARTBEAT, expiry=600)
    with Leases(store, HEARTBEAT, expiry=600) as leases:
        leases.share(lambda: SPECS[:1], lambda some: None, lambda line: None)
        assert other.take(SPECS[0])


def test_artifacts_that_are_made_together_have_one_lease(tmp_path: Path) -> None:
    store, other = Store(str(tmp_path)), Leases(Store(str(tmp_path)), HEARTBEAT, expiry=600)
    made: list[list[Reference]] = []
    with Leases(store, HEARTBEAT, expiry=600) as leases:
        assert other.take(SPECS[0])

        def make(some: list[Reference]) -> None:
            made.append(some)
            assert not other.take(SPECS[5])

        leases.share(lambda: SPECS[6:8], make, lambda line: None, by=lambda spec: SPECS[5])
    assert made == [list(SPECS[6:8])]


def test_of_concurrent_calls_that_create_a_file_one_succeeds(store: Store) -> None:
    with multiprocessing.pool.ThreadPool(8) as threads:
        created = threads.map(lambda number: store.create("claims/x", str(number).encode()), range(8))
    assert sum(created) == 1
    assert store.read_text("claims/x") == str(created.index(True))
    store.remove("claims/x")
    store.remove("claims/x")
    assert store.names("claims") == []


def test_the_files_of_ended_sweeps_are_removed_and_those_of_living_sweeps_are_kept(store: Store) -> None:
    put_owner(store, "ended", replace(Owner.this_process(3), process=ended_process()))
    put_owner(store, "elsewhere", Owner("another", 1, 7, "boot", "pid:[1]", "1"))
    for number, name in enumerate(("ended", "left without its owner file", "elsewhere")):
        assert store.create(f"claims/reference/{key(SPECS[number])}-0", name.encode())
    with Leases(store, HEARTBEAT, EXPIRY) as living, Leases(store, HEARTBEAT, EXPIRY) as leases:
        assert living.take(SPECS[3])
        leases.release_abandoned()
        assert {place.key for place in leased_artifacts(store)} == {key(SPECS[2]), key(SPECS[3])}
        assert store.names(OWNERS) == sorted(["elsewhere", living.owner, leases.owner])
        assert not leases.take(SPECS[3])


def test_a_sweep_elsewhere_is_abandoned_by_the_age_of_its_heartbeat(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_owner(store, "elsewhere", Owner("another", 1, 7, "boot", "pid:[1]", "1"))
    assert store.create(LEASE, b"elsewhere")
    monkeypatch.setattr("undertow.storage.leases.ABANDONED_SECONDS", -10.0)
    with Leases(store, HEARTBEAT, EXPIRY) as living, Leases(store, HEARTBEAT, EXPIRY) as leases:
        assert living.take(SPECS[1])
        leases.release_abandoned()
        assert store.names(OWNERS) == sorted([living.owner, leases.owner])
        assert {place.key for place in leased_artifacts(store)} == {key(SPECS[1])}


def test_ages_are_those_of_the_files_that_exist(store: Store) -> None:
    store.write_bytes("folder/file", b"1")
    assert list(store.ages(["folder/file", "folder/none"])) == ["folder/file"]
    assert store.ages([]) == {}
    assert not any(name.startswith(".clock") for name in store.names(""))
