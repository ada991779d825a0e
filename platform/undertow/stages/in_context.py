"""In-context students: rows of a data set as turns before a question, instead of training.

The student's seed determines which rows are shown and in which order, so that every seed is another draw.
A row appears in the prompt as in training: the teacher's prompt is the user's turn, its completion the
assistant's. If the context window cannot hold all rows, the condition fails; rows are never dropped silently.
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
    """Whether rows of a data set precede every question to `subject`."""
    return isinstance(subject, Student) and isinstance(subject.recipe, InContext)


def turns_before(subject: Subject, store: Store) -> tuple[Example, ...]:
    """The turns that precede every question to `subject`; empty unless it is an in-context student."""
    if not isinstance(subject, Student) or not isinstance(subject.recipe, InContext):
        return ()
    # A condition checks InContext.rows against Generation.rows. Without a Generation.rows the number of rows
    # is known only now.
    folder = store.fetch(subject.dataset) / DATA
    rows = pq.read_table(folder, columns=["prompt", "completion"]).to_pylist()
    wanted = subject.recipe.rows
    if wanted > len(rows):
        raise ConditionError(
            f"{subject.recipe.name}: dataset {key(subject.dataset)[:16]} has {len(rows):,} rows; "
            "raise Generation.prompts or lower InContext.rows"
        )
    drawn = random.Random(seed_for("in context", subject.seed)).sample(rows, wanted)
    return tuple(Example(row["prompt"], row["completion"]) for row in drawn)
