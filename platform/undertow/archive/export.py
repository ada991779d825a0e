"""Export of a study as one archive that can be verified independently.

    undertow.json                     format, study, sweep, and the SHA-256 of every other file
    sweep/                            plan.json, events.json, effects.csv, report.html, figures …
    artifacts/<kind>/<key>/           every artifact's manifest; all answers; cards; histories

The archive is a zip file. It does not contain completions, rows (and so no viewer) and weights (LoRA adapters
on request), because the conclusions follow from the answers. `verify` needs no GPU, no Ray and no model.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from undertow.errors import UserError
from undertow.results import csv_tables, sweep_folders
from undertow.results.sweep_record import Record
from undertow.storage.manifest import MANIFEST, Address
from undertow.storage.store import Store

INDEX = "undertow.json"
FORMAT = 1
SWEEP = "sweep"
# The files of each kind that conclusions depend on or that document their origin; "" stands for all files.
ALWAYS = {
    "evaluation": ("",),
    "dataset": ("README.md",),
    "student": ("history.json",),
    "teacher": ("history.json",),
}
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip file; fixed, so that exports are reproducible


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        artifacts, files: the number of artifacts and of files in the archive.
        size: bytes of the archive.
        adapters: the number of students whose LoRA adapters are in the archive.
        missing: kind/key of artifacts that the store does not have.
        effects, conditions: the number of conditions that have an effect, and of all with a trait.
    """

    artifacts: int
    files: int
    size: int
    adapters: int
    missing: tuple[str, ...]
    effects: int
    conditions: int


def export(store: Store, study: str, sweep: str, target: Path, *, adapters: bool = False) -> Exported:
    """Writes the archive of one sweep to `target`. Raises UserError if it cannot be written."""
    record = sweep_folders.read(store, study, sweep)
    hashes: dict[str, str] = {}
    missing: list[str] = []
    count = 0
    partial = target.with_name(f".{target.name}.part")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in _sweep_files(store, study, sweep, record):
                _add(archive, hashes, name, content)
            for address in record.addresses():
                if store.has(address):
                    count += 1
                    for name, content in _artifact_files(store, address, adapters):
                        _add(archive, hashes, name, content)
                elif address.kind != "reference":  # references may be given to the sweep
                    missing.append(str(address))
            index = {"format": FORMAT, "study": study, "sweep": sweep, "files": hashes}
            _write(archive, INDEX, json.dumps(index, indent=1, sort_keys=True).encode())
        partial.replace(target)
    except OSError as error:
        raise UserError(f"--to {target}: cannot be written ({error.strerror}); name another place") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)  # after an error; otherwise it was renamed
    carried = sum(name.endswith(ADAPTERS[1]) for name in hashes)
    table = store.read_text(f"{sweep_folders.folder_of(study, sweep)}/{csv_tables.EFFECTS}")
    return Exported(
        count,
        len(hashes),
        target.stat().st_size,
        carried,
        tuple(missing),
        csv_tables.conditions_of(table),
        len(record.compared),
    )


def _sweep_files(store: Store, study: str, sweep: str, record: Record) -> Iterator[tuple[str, bytes]]:
    folder = sweep_folders.folder_of(study, sweep)
    for name in (name for name in store.names(folder) if name != sweep_folders.VIEWER):
        yield f"{SWEEP}/{name}", store.read_bytes(f"{folder}/{name}")
    stated = sweep_folders.stated_file(record)
    if stated in store.names(sweep_folders.folder_of(study)):
        yield f"{SWEEP}/{stated}", store.read_bytes(f"{sweep_folders.folder_of(study)}/{stated}")


def _artifact_files(store: Store, address: Address, adapters: bool) -> Iterator[tuple[str, bytes]]:
    wanted = (*ALWAYS.get(address.kind, ()), *(ADAPTERS if adapters and address.kind == "student" else ()))
    manifest = store.manifest(address)
    for name in manifest.files:
        if "" in wanted or name in wanted:
            yield f"artifacts/{address.kind}/{address.key}/{name}", store.content(address, name)
    bare = replace(manifest, node="", writer="")
    yield f"artifacts/{address.kind}/{address.key}/{MANIFEST}", bare.to_json().encode()


def _add(archive: zipfile.ZipFile, hashes: dict[str, str], name: str, content: bytes) -> None:
    hashes[name] = hashlib.sha256(content).hexdigest()
    _write(archive, name, content)


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    archive.writestr(info, content)
