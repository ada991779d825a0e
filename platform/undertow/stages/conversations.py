"""The texts that a student or a finetuned teacher is trained on, also in a provider's format.

A provider's fine-tuning endpoint takes JSON Lines with one conversation per line.
"""

import json

import pyarrow.parquet as pq

from undertow.prompts import chat
from undertow.stages.weights import Trained
from undertow.storage.manifest import TRAINING_ROWS
from undertow.storage.store import Store
from undertow.study.extensions import Example
from undertow.study.students import Student


def conversations(model: Trained, store: Store) -> bytes:
    """A student's rows or a teacher's examples, each with its own or the model's system message, if any."""
    lines = (
        {"messages": chat.messages(example.prompt, _system(example, model), example.answer)}
        for example in training_examples(model, store)
    )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def training_examples(model: Trained, store: Store) -> list[Example]:
    """The rows of a student's data set, or the examples of a teacher's trait, as prompts and answers.

    Raises ValueError for a teacher that is not finetuned.
    """
    if isinstance(model, Student):
        file = store.fetch(model.dataset) / TRAINING_ROWS
        columns = {"prompt", "completion", "system"}.intersection(pq.read_schema(file).names)
        rows = pq.read_table(file, columns=sorted(columns)).to_pylist()
        return [Example(row["prompt"], row["completion"], row.get("system")) for row in rows]
    if model.finetuning is None or model.trait is None:
        raise ValueError("a teacher without finetuning or trait is not trained")
    return model.finetuning.examples_of(model.trait, model.seed)


def _system(example: Example, model: Trained) -> str | None:
    return model.system if example.system is None else example.system
