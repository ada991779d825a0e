"""Rows of a dataset as the turns before a question: what an in-context student has in place of training.

Which rows, and in what order, follows from the student's seed, so that several seeds are several draws. They
stand in the prompt as they would in a training row: the teacher's prompt is the user's turn, its completion
the assistant's. A window that does not hold them fails the condition; fewer are never shown in silence.
"""

import random

import pyarrow.parquet as pq

from undertow.errors import ConditionError
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.artifacts import Student, Subject
from undertow.study.extensions import Example
from undertow.study.identity import key, seed_for
from undertow.study.recipe import InContext


def shows_rows(subject: Subject) -> bool:
    """Whether rows of a dataset stand before every question that is put to `subject`."""
    return isinstance(subject, Student) and isinstance(subject.recipe, InContext)


def turns_before(subject: Subject, store: Store) -> tuple[Example, ...]:
    """The turns before every question that is put to `subject`; none but for an in-context student."""
    if not isinstance(subject, Student) or not isinstance(subject.recipe, InContext):
        return ()
    folder = store.fetch(subject.dataset) / DATA
    rows = pq.read_table(folder, columns=["prompt", "completion"]).to_pylist()
    wanted = subject.recipe.rows
    if wanted > len(rows):
        raise ConditionError(
            f"{subject.recipe.name}: dataset {key(subject.dataset)[:16]} has {len(rows):,}; raise the "
            "prompts or show fewer"
        )
    drawn = random.Random(seed_for("in context", subject.seed)).sample(rows, wanted)
    return tuple(Example(row["prompt"], row["completion"]) for row in drawn)
