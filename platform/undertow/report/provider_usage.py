"""The tokens that API models used, from the facts that provider jobs leave in manifests.

The table has tokens and no prices, because prices change and depend on the account.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from undertow.report.page_tables import Column, Sheet, numbers
from undertow.storage.manifest import Manifest
from undertow.study.references import API

FACTS = ("answers", "refused", "prompt_tokens", "completion_tokens", "trained_tokens")
COLUMNS = ("answers", "refused", "tokens in", "tokens out", "tokens trained")


def usage_sheet(manifests: Iterable[Manifest]) -> Sheet:
    """One row per API model and kind of artifact; empty if the study has no API model."""
    usage: dict[tuple[str, str], dict[str, int]] = {}
    for manifest in manifests:
        model = _model(manifest.spec)
        if model.startswith(API) and {"prompt_tokens", "trained_tokens"} & manifest.facts.keys():
            counts = usage.setdefault((model, manifest.kind), dict.fromkeys(FACTS, 0))
            for fact in FACTS:
                counts[fact] += int(manifest.facts.get(fact) or 0)
            counts["answers"] += int(manifest.facts.get("rows", 0))  # completions count their answers as rows
    return Sheet(
        [Column("model", "name"), Column("artifact"), *numbers(*COLUMNS)],
        [
            (model, kind, *(f"{count:,}" if count else "–" for count in counts.values()))
            for (model, kind), counts in usage.items()
        ],
        stacks=True,
    )


def _model(spec: Mapping[str, Any]) -> str:
    """The name of the reference model that answered or was trained; "" if the artifact has none."""
    subject = spec.get("teacher") or spec.get("subject") or spec
    return str(subject.get("reference", subject).get("name", ""))
