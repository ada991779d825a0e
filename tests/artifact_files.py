"""The files of the artifacts in a storage folder, for comparing two sweeps byte by byte."""

import json
from pathlib import Path

from undertow.storage.manifest import HISTORY


def file_digests(storage: Path) -> dict[tuple[str, ...], str]:
    """The SHA-256 of each file of an artifact, but for the times in histories of trainings."""
    manifests = (storage / "artifacts").glob("*/*/manifest.json")
    return {
        (*path.parts[-3:-1], name): digest
        for path in manifests
        for name, digest in json.loads(path.read_text())["files"].items()
        if name != HISTORY
    }
