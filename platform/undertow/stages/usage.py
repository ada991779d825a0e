"""A provider's usage counts as facts of an artifact: tokens, refusals and model fingerprints.

Tokens, not money: prices change and differ between accounts. Paid answers are saved in parts as they arrive,
so that an interrupted sweep pays for none of them twice.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from undertow.engines.protocol import Answer, Engine, Request, Usage
from undertow.engines.registry import engine_for
from undertow.storage.store import Store
from undertow.study.completions import Sampling
from undertow.study.references import Artifact, Reference

PART_ROWS = 256  # answers per part: at most this many are requested again after an interruption
COLUMNS = tuple(field.name for field in dataclasses.fields(Usage))


def columns(answers: Sequence[Answer]) -> dict[str, list[Any]]:
    """The usage of answers as columns of a table; empty for answers of a local engine."""
    usages = [answer.usage for answer in answers if answer.usage]
    return {name: [getattr(usage, name) for usage in usages] for name in COLUMNS if usages}


def summed(usage: dict[str, list[Any]]) -> dict[str, Any]:
    """The sums of the result of `columns`, as facts for a manifest."""
    if not usage:
        return {}
    return {
        "prompt_tokens": sum(usage["prompt_tokens"]),
        "completion_tokens": sum(usage["completion_tokens"]),
        "refused": sum(usage["refused"]),
        "fingerprints": sorted(set(usage["fingerprint"]) - {""}),
    }


def answers_of(
    reference: Reference,
    engine: Engine,
    requests: list[Request],
    sampling: Sampling,
    artifact: Artifact,
    store: Store,
) -> list[Answer]:
    """Samples all requests of an artifact at once; those of a provider in saved parts, as they cost money.

    Args:
        reference: the model that the engine serves.
    """
    if not engine_for(reference).is_metered:
        return engine.generate(requests, sampling)
    kept = store.parts(artifact)  # one listing; each part is then read whole
    answers: list[Answer] = []
    for start in range(0, len(requests), PART_ROWS):
        name = f"answers-{start:07d}.json"
        if name in kept:
            answers += from_json(store.read_part(artifact, name))
            continue
        part = engine.generate(requests[start : start + PART_ROWS], sampling)
        store.write_part(artifact, name, to_json(part))
        answers += part
    return answers


def to_json(answers: Sequence[Answer]) -> bytes:
    """A part of a provider's answers as JSON."""
    rows = [(answer.text, answer.finished, answer.usage) for answer in answers if answer.usage]
    content = [[text, finished, dataclasses.asdict(usage)] for text, finished, usage in rows]
    return json.dumps(content).encode()


def from_json(part: bytes) -> list[Answer]:
    """The answers in a part that `to_json` wrote."""
    return [Answer(text, (), finished, usage=Usage(**used)) for text, finished, used in json.loads(part)]
