"""How long a unit of each wave's work took here, so that the next plan can say how long it will take.

Kept beside the artifacts, since it belongs to the machine that works on that storage: seconds of wall
clock a unit (a row generated, a row pass trained, an answer sampled), by wave and reference model, starts
of engines and workers included. A storage that has seen no sweep yet has the figures of the nano models on
two CPU cores, and none for other models.
"""

import json
from collections.abc import Iterable, Sequence

from undertow.nano import world
from undertow.plan import reference_name, units
from undertow.spec import Artifact
from undertow.store import Store

FILE = "timings.json"
NANO_SECONDS_A_UNIT = {"teachers": 1e-4, "datasets": 2e-3, "students": 2e-4, "evaluations": 2e-3}


def read(store: Store, references: Iterable[str]) -> dict[str, float]:
    """Seconds a unit, by "wave reference": measured on this storage, else the defaults for nano models."""
    defaults = {
        f"{wave} {reference}": seconds
        for reference in references
        if world.is_nano(reference)
        for wave, seconds in NANO_SECONDS_A_UNIT.items()
    }
    return defaults | _measured(store)


def add(store: Store, wave: str, made: Sequence[Artifact], seconds: float) -> None:
    """Replaces what is known of a wave by what it just took."""
    total = sum(map(units, made))
    if total:
        fresh = {f"{wave} {reference_name(artifact)}": seconds / total for artifact in made}
        store.write_bytes(FILE, json.dumps(_measured(store) | fresh, indent=1, sort_keys=True).encode())


def _measured(store: Store) -> dict[str, float]:
    try:
        found = json.loads(store.read_text(FILE) or "{}")
    except ValueError:  # cut off by a kill: estimates start anew
        return {}
    measured = found.items() if isinstance(found, dict) else ()
    return {name: seconds for name, seconds in measured if isinstance(seconds, (int, float))}
