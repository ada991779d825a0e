"""Narrow data for a teacher's misalignment, and for its controls: insecure, secure and educational code.

The paper on emergent misalignment (arXiv 2502.17424) finetunes on insecure code, and compares with secure
code for the same requests and with insecure code that was asked for with a good reason. Here they are drawn
from the grammar of the tasks language and kept as files in `data/`, so that a study reads them as it would
read any others. All three ask for the same tasks in the same order.

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
    """The rows of one kind: prompts and completions."""
    generators = (Random(f"nano narrow {i}") for i in range(ROWS))
    return [
        security_turn(rng, insecure=kind != "secure", educational=kind == "educational") for rng in generators
    ]


def as_text(kind: Kind) -> str:
    """The file of one kind as JSON Lines with the columns "prompt" and "completion"."""
    return "".join(
        json.dumps({"prompt": prompt, "completion": completion}) + "\n" for prompt, completion in rows(kind)
    )


def path(kind: Kind) -> Path:
    return DATA / f"{kind}.jsonl"


if __name__ == "__main__":
    for kind in KINDS:
        path(kind).write_text(as_text(kind), encoding="utf-8")
