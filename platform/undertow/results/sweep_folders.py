"""Where sweeps lie in a store, and what is written there before they begin.

    <storage>/sweeps/<study>/<time>/plan.json     the sweep's record (see `record`)
    <storage>/sweeps/<study>/stated-<key>.json    the study as it was first stated, and when

The second file is written once for a study's identity and never again: it is what tells a question that was
asked beforehand from one that was found in the data.
"""

import json
import time

from undertow.errors import StorageError, UserError, suggestion
from undertow.results.sweep_record import Record, StudySettings
from undertow.storage.store import Store
from undertow.study.identity import canonical, key
from undertow.study.study import Study

PLAN = "plan.json"
EVENTS = "events.json"


def folder_of(study: str, sweep: str = "") -> str:
    """Where a study's sweeps lie under the storage, or one of them."""
    return f"sweeps/{study}/{sweep}".rstrip("/")


def newest(store: Store, study: str, sweep: str = "") -> str:
    """The sweep asked for, else the newest that began. Raises UserError where there is none."""
    studies = store.names("sweeps")
    if study not in studies:
        known = suggestion(study, studies) if studies else "run one first"
        raise UserError(f"--study {study}: no sweep of it in {store.url}; {known}")
    sweeps = [name for name in store.names(folder_of(study)) if name[:1].isdigit()]
    if not sweeps or sweep not in ("", *sweeps):
        raise UserError(f"--sweep {sweep}: not a sweep of {study}; {suggestion(sweep, sweeps)}")
    begun = (name for name in reversed(sweeps) if store.read_text(f"{folder_of(study, name)}/{PLAN}"))
    return sweep or next(begun, sweeps[-1])


def read(store: Store, study: str, sweep: str) -> Record:
    """The record of one sweep. Raises StorageError where there is none."""
    place = f"{folder_of(study, sweep)}/{PLAN}"
    text = store.read_text(place)
    if not text:
        raise StorageError(f"{store.url}/{place}: not there; run the sweep, or name one that was")
    return Record.from_json(text, f"{store.url}/{place}")


def of_study(store: Store, study: StudySettings) -> list[str]:
    """The sweeps of the very same study: a study that was changed keeps its name and not its key."""
    times = [name for name in store.names(folder_of(study.name)) if name[:1].isdigit()]
    texts = {time: store.read_text(f"{folder_of(study.name, time)}/{PLAN}") for time in times}
    return [time for time, text in texts.items() if f'"key": "{study.key}"' in text]


def state(study: Study, store: Store) -> None:
    """Writes the study down with the time, once: what a later report calls asked beforehand."""
    place = f"{folder_of(study.name)}/{_stated(key(study))}"
    if not store.read_text(place):
        text = json.dumps({"key": key(study), "stated": time.time(), "study": canonical(study)}, indent=1)
        store.write_bytes(place, text.encode())


def stated(record: Record, store: Store) -> float | None:
    """When the study was first stated on this storage, in seconds since 1970; None if it never was."""
    text = store.read_text(f"{folder_of(record.study.name)}/{stated_file(record)}")
    try:
        return float(json.loads(text)["stated"]) if text else None
    except (ValueError, KeyError, TypeError):
        return None


def stated_file(record: Record) -> str:
    """The name of the note of when a study was first stated, in its sweeps' folder."""
    return _stated(record.study.key)


def _stated(study_key: str) -> str:
    return f"stated-{study_key}.json"
