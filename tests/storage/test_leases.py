"""Several sweeps on one storage: each artifact is made once, and nobody waits for the dead."""

import json
import multiprocessing.pool
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from undertow.storage.leases import OWNERS, Leases
from undertow.storage.store import Store
from undertow.study.artifacts import Reference
from undertow.study.identity import key

SPECS = tuple(Reference(f"org/model-{number}", "revision", "template") for number in range(8))
BEAT, DEAD = 0.2, 60.0  # seconds; on a busy machine a heart may skip many beats
SPAWN = multiprocessing.get_context("spawn")  # a fork would copy the threads of S3's client


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    yield Store(str(tmp_path / "storage") if request.param == "local" else request.getfixturevalue("s3_url"))


def missing(store: Store) -> list[Reference]:
    there = store.keys("reference")
    return [spec for spec in SPECS if key(spec) not in there]


def work(url: str, log: Path, seconds: float) -> None:
    """A sweep that makes what is missing and writes down what it made."""
    store = Store(url)

    def make(some: list[Reference]) -> None:
        for spec in some:
            with log.open("a") as file:
                file.write(f"{spec.name}\n")
            time.sleep(seconds)
            with store.new(spec, {}) as folder:
                (folder / "weights").write_text(spec.name)

    with Leases(store, BEAT, DEAD) as claims:
        claims.share(lambda: missing(store), make, lambda line: None)


def start(store: Store, log: Path, seconds: float = 0.05) -> Any:
    process = SPAWN.Process(target=work, args=(store.url, log, seconds))
    process.start()
    return process


def wait_for(log: Path, lines: int) -> None:
    deadline = time.monotonic() + 60
    while not log.exists() or len(log.read_text().splitlines()) < lines:
        assert time.monotonic() < deadline
        time.sleep(0.05)


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


def test_sweeps_that_release_while_others_look_do_not_hinder_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds every claim in turn, for no time: whoever looks meets claims that come and go."""
    monkeypatch.setattr("undertow.storage.leases.LOOK_SECONDS", 0.001)
    store = Store(str(tmp_path))
    specs = [replace(SPECS[0], name=f"org/model-{number}") for number in range(60)]

    def sweep(_: int) -> None:
        with Leases(store, BEAT, DEAD) as own:
            own.share(lambda: specs, lambda some: None, lambda line: None)

    with multiprocessing.pool.ThreadPool(4) as threads:
        threads.map(sweep, range(8))
    assert store.names("claims/reference") == store.names(OWNERS) == []


def test_what_a_killed_sweep_held_is_made_by_the_next_at_once(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    killed = start(store, log, seconds=60)
    wait_for(log, 1)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join(60)
    began = time.monotonic()
    with Leases(store, BEAT, dead=600) as claims:
        assert all(claims.take(spec) for spec in SPECS)
    assert time.monotonic() - began < 60


def test_a_sweep_that_starts_beside_another_waits_for_what_it_makes(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = start(store, log, seconds=0.2)
    wait_for(log, 1)
    told: list[str] = []
    with Leases(store, BEAT, DEAD) as claims:
        claims.share(lambda: missing(store), lambda some: told.append("made"), told.append)
    assert told == [told[0]]
    assert told[0].startswith("waiting for ") and told[0].endswith("(reference) that another sweep is making")
    first.join(60)
    assert first.exitcode == 0
    assert missing(store) == []


def test_an_owner_on_another_machine_is_dead_when_its_heart_has_stood_still(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_bytes(f"{OWNERS}/theirs", json.dumps({"host": "another", "process": 1, "beat": 7}).encode())
    assert store.create(f"claims/reference/{key(SPECS[0])}-0", b"theirs")
    with Leases(store, BEAT, dead=0.5) as claims:
        assert not claims.take(SPECS[0])
        store.write_bytes(
            f"{OWNERS}/theirs", json.dumps({"host": "another", "process": 1, "beat": 8}).encode()
        )
        time.sleep(0.6)
        assert not claims.take(SPECS[0])  # it beat meanwhile
        time.sleep(0.6)
        assert claims.take(SPECS[0])
        assert store.names("claims/reference") == [f"{key(SPECS[0])}-0", f"{key(SPECS[0])}-1"]


def test_an_owner_cut_off_while_it_wrote_is_given_its_time(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_bytes(f"{OWNERS}/theirs", b'{"host": "ano')
    assert store.create(f"claims/reference/{key(SPECS[0])}-0", b"theirs")
    with Leases(store, BEAT, dead=0.3) as claims:
        assert not claims.take(SPECS[0])
        time.sleep(0.4)
        assert claims.take(SPECS[0])


def test_a_claim_cut_off_while_it_was_written_is_given_its_time(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert store.create(f"claims/reference/{key(SPECS[0])}-0", b"")
    with Leases(store, BEAT, dead=0.3) as claims:
        assert not claims.take(SPECS[0])
        time.sleep(0.4)
        assert claims.take(SPECS[0])
        claims.share(lambda: SPECS[:1], lambda some: None, lambda line: None)
    assert store.names("claims/reference") == []


def test_claims_end_with_their_owner(store: Store) -> None:
    other = Leases(store, BEAT, dead=600)
    with Leases(store, BEAT, dead=600) as claims:
        assert claims.take(SPECS[0])
        assert claims.take(SPECS[0])
        assert not other.take(SPECS[0])
        assert other.take(SPECS[1])
    assert other.take(SPECS[0])


def test_what_could_not_be_made_may_be_tried_by_others(store: Store) -> None:
    other = Leases(store, BEAT, dead=600)
    with Leases(store, BEAT, dead=600) as claims:
        claims.share(lambda: SPECS[:1], lambda some: None, lambda line: None)
        assert other.take(SPECS[0])


def test_what_is_made_together_is_claimed_together(tmp_path: Path) -> None:
    store, other = Store(str(tmp_path)), Leases(Store(str(tmp_path)), BEAT, dead=600)
    made: list[list[Reference]] = []
    with Leases(store, BEAT, dead=600) as claims:
        assert other.take(SPECS[0])

        def make(some: list[Reference]) -> None:
            made.append(some)
            assert not other.take(SPECS[5])

        claims.share(lambda: SPECS[6:8], make, lambda line: None, by=lambda spec: SPECS[5])
    assert made == [list(SPECS[6:8])]


def test_of_many_that_create_a_file_one_does(store: Store) -> None:
    with multiprocessing.pool.ThreadPool(8) as threads:
        won = threads.map(lambda number: store.create("claims/x", str(number).encode()), range(8))
    assert sum(won) == 1
    assert store.read_text("claims/x") == str(won.index(True))
    store.remove("claims/x")
    store.remove("claims/x")
    assert store.names("claims") == []
