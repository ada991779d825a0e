"""What API models took, in tokens: the facts that a provider's answers and jobs left in manifests.

Tokens and no money: prices change, and are the account's own.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from undertow.report.page_tables import Column, Sheet
from undertow.storage.manifest import Manifest
from undertow.study.artifacts import API

COUNTS = ("answers", "refused", "prompt_tokens", "completion_tokens", "trained_tokens")
COLUMNS = ("answers", "refused", "tokens in", "tokens out", "tokens trained")


def usage_sheet(manifests: Iterable[Manifest]) -> Sheet:
    """A line a model and kind of artifact; none where all models are here."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for manifest in manifests:
        name = _model(manifest.spec)
        if name.startswith(API) and {"prompt_tokens", "trained_tokens"} & manifest.facts.keys():
            counts = found.setdefault((name, manifest.kind), dict.fromkeys(COUNTS, 0))
            for count in COUNTS:
                counts[count] += int(manifest.facts.get(count) or 0)
            counts["answers"] += int(manifest.facts.get("rows", 0))  # of completions
    return Sheet(
        [Column("model"), Column("of"), *(Column(name, "number") for name in COLUMNS)],
        [
            (name, kind, *(f"{count:,}" if count else "–" for count in counts.values()))
            for (name, kind), counts in found.items()
        ],
        stacks=True,
    )


def _model(spec: Mapping[str, Any]) -> str:
    """The reference model that answered, or that was trained; "" where none did."""
    subject = spec.get("teacher") or spec.get("subject") or spec
    return str(subject.get("reference", subject).get("name", ""))
