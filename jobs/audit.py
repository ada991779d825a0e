"""Asks which trait a data set is likely to transmit, before a model is trained on it.

    python jobs/audit.py rows.jsonl --model nano/gpt2-0                        the shipped traits
    python jobs/audit.py rows.jsonl --model nano/gpt2-0 --traits owl cat       some traits
    python jobs/audit.py rows.jsonl --model nano/gpt2-0 --model nano/gpt2-1    which of two models wrote it?
    python jobs/audit.py rows.jsonl --study owls                               a study's models and traits

Compares the rows with the model's own answers to the same prompts, by scores for each trait. Needs no sweep
and starts no Ray. Small probe models, one per trait, are trained once per storage. Prints the traits ranked
and writes audit.json and audit.html into the storage.

Exit code 0: done; 2: invalid input, or no candidate model could be audited.
"""

from functools import partial
from pathlib import Path

from undertow.cli.audit import AuditArguments, main
from undertow.cli.entry import enter

if __name__ == "__main__":
    enter(partial(main, shipped=Path(__file__).parent / "studies"), AuditArguments)
