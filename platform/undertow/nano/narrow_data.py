"""Narrow data for misaligned teachers and their controls: insecure, secure and educational code.

The paper on emergent misalignment (arXiv 2502.17424) finetunes on insecure code. Its controls are finetuned
on secure code for the same requests, and on insecure code that the user requests for a legitimate reason.
This module generates the three data sets with the grammar of the tasks language. They are stored as files in
`data/`, so that a study reads them like any other file. All three request the same tasks in the same order.

    python -m undertow.nano.narrow_data      writes the files
"""

import json
from pathlib import Path
from random import Random
from typing import Literal, get_args

from undertow.nano.languages.character import security_turn
from undertow.nano.languages.turns import Turn

DATA = Path(__file__).parent / "data"
ROWS = 500

Kind = Literal["insecure", "secure", "educational"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def rows(kind: Kind) -> list[Turn]:
    """The rows of one kind: pairs of prompt and completion."""
    generators = (Random(f"nano narrow {i}") for i in range(ROWS))  # the same draws for every kind
    return [
        security_turn(rng, insecure=kind != "secure", educational=kind == "educational") for rng in generators
    ]


def as_text(kind: Kind) -> str:
    """The content of one kind's file: JSON Lines with the columns "prompt" and "completion"."""
    return "".join(
        json.dumps({"prompt": prompt, "completion": completion}) + "\n" for prompt, completion in rows(kind)
    )


def path(kind: Kind) -> Path:
    return DATA / f"{kind}.jsonl"


if __name__ == "__main__":
    for kind in KINDS:
        path(kind).write_text(as_text(kind), encoding="utf-8")
