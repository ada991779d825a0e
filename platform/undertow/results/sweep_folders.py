"""The folders of sweeps in a store, and the files that are written before a sweep starts.

    <storage>/sweeps/<study>/<time>/plan.json     the sweep's record (see `sweep_record`)
    <storage>/sweeps/<study>/stated-<key>.json    the study as it was first stated, with the time

The second file is written once per study key and never overwritten. It distinguishes pre-registered
questions from those that were found in the data.
"""

import json
import time

from undertow.errors import StorageError, UserError, suggestion
from undertow.results import csv_tables
from undertow.results.sweep_record import Record, StudySettings
from undertow.storage.store import Store
from undertow.study.identity import canonical, key
from undertow.study.study import Study

PLAN = "plan.json"
EVENTS = "events.json"
VIEWER = "viewer.html"


def folder_of(study: str, sweep: str = "") -> str:
    """The folder of a study's sweeps, or of one of them, relative to the storage."""
    return f"sweeps/{study}/{sweep}".rstrip("/")


def newest(store: Store, study: str, sweep: str = "") -> str:
    """The name of the given sweep, else of the newest one that has a plan.

    Raises UserError if there is no such sweep.
    """
    studies = store.names("sweeps")
    if study not in studies:
        known = suggestion(study, studies) if studies else "run one first"
        raise UserError(f"--study {study}: no sweep of it in {store.url}; {known}")
    sweeps = _sweeps(store, study)
    if not sweeps or sweep not in ("", *sweeps):
        raise UserError(f"--sweep {sweep}: not a sweep of {study}; {suggestion(sweep, sweeps)}")
    started = (name for name in reversed(sweeps) if store.read_text(f"{folder_of(study, name)}/{PLAN}"))
    return sweep or next(started, sweeps[-1])


def better_than(store: Store, study: str, sweep: str) -> str:
    """A line that names the newest earlier sweep with effects if this one ended without any; else ""."""

    def table(name: str) -> str:
        return store.read_text(f"{folder_of(study, name)}/{csv_tables.EFFECTS}")

    if not (own := table(sweep)) or csv_tables.conditions_of(own):
        return ""  # it has not ended, or has effects
    for name in reversed(_sweeps(store, study)):
        if name < sweep and csv_tables.conditions_of(table(name)):
            return f"sweep {sweep} has no effects; {name} has some: --sweep {name}"
    return ""


def read(store: Store, study: str, sweep: str) -> Record:
    """The record of one sweep. Raises StorageError if it does not exist or cannot be parsed."""
    place = f"{folder_of(study, sweep)}/{PLAN}"
    text = store.read_text(place)
    if not text:
        raise StorageError(f"{store.url}/{place} does not exist; run the sweep, or name another one")
    return Record.from_json(text, f"{store.url}/{place}")


def of_study(store: Store, study: StudySettings) -> list[str]:
    """The sweeps of the same study. A changed study keeps its name, so the key is compared."""
    texts = {
        name: store.read_text(f"{folder_of(study.name, name)}/{PLAN}") for name in _sweeps(store, study.name)
    }
    return [name for name, text in texts.items() if f'"key": "{study.key}"' in text]


def _sweeps(store: Store, study: str) -> list[str]:
    """The names of a study's sweeps, the oldest first. Their folder also has the study as it was stated."""
    return [name for name in store.names(folder_of(study)) if name[:1].isdigit()]


def state(study: Study, store: Store) -> None:
    """Stores the study with the time, unless it is stored already. Reports take this as pre-registration."""
    place = f"{folder_of(study.name)}/{_stated(key(study))}"
    if not store.read_text(place):
        text = json.dumps({"key": key(study), "stated": time.time(), "study": canonical(study)}, indent=1)
        store.create(place, text.encode())  # the first of two sweeps that start together


def stated(record: Record, store: Store) -> float | None:
    """When the study was first stated in this storage, in seconds since 1970; None if it was not."""
    text = store.read_text(f"{folder_of(record.study.name)}/{stated_file(record)}")
    try:
        return float(json.loads(text)["stated"]) if text else None
    except (ValueError, KeyError, TypeError):
        return None


def stated_file(record: Record) -> str:
    """The name of the file with the study as it was first stated, in the folder of its sweeps."""
    return _stated(record.study.key)


def _stated(study_key: str) -> str:
    return f"stated-{study_key}.json"
