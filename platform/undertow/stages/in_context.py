"""In-context students: rows of a data set in the prompt before a question, instead of training.

The student's seed determines which rows are shown and in which order, so that every seed is another draw. By
default a row appears as in training: the teacher's prompt is the user's turn, its completion the assistant's.
With the layout "system" the rows are listed in the system message, each text between tags. If the context
window cannot hold all rows, the condition fails; rows are never dropped silently.
"""

import random

import pyarrow.parquet as pq

from undertow.errors import ConditionError
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.extensions import Example
from undertow.study.identity import key, seed_for
from undertow.study.recipe import INTRODUCTION, InContext
from undertow.study.students import Student, Subject


def shows_rows(subject: Subject) -> bool:
    """Whether rows of a data set precede every question to `subject`."""
    return isinstance(subject, Student) and isinstance(subject.recipe, InContext)


def before_questions(
    subject: Subject, system: str | None, store: Store
) -> tuple[str | None, tuple[Example, ...]]:
    """The system message of every question to `subject`, and the turns that precede the question.

    The message is `system`, with the rows that are listed there; the turns are rows that are shown as turns.
    """
    if not isinstance(subject, Student) or not isinstance(subject.recipe, InContext):
        return system, ()
    drawn = _drawn(subject, subject.recipe, store)
    if subject.recipe.layout == "turns":
        return system, drawn
    rows = (
        f"<example>\n<question>{row.prompt}</question>\n<reply>{row.answer}</reply>\n</example>"
        for row in drawn
    )
    return "\n\n".join([*([system] if system else []), INTRODUCTION, *rows]), ()


def _drawn(student: Student, recipe: InContext, store: Store) -> tuple[Example, ...]:
    """The rows that an in-context student reads before every question."""
    # A condition checks InContext.rows against Generation.rows. Without a Generation.rows the number of rows
    # is known only now.
    folder = store.fetch(student.dataset) / DATA
    rows = pq.read_table(folder, columns=["prompt", "completion"]).to_pylist()
    if not recipe.fits(len(rows)):
        raise ConditionError(
            f"{recipe.name}: dataset {key(student.dataset)[:16]} has {len(rows):,} rows; "
            "raise Generation.prompts or lower InContext.rows"
        )
    rng = random.Random(seed_for("in context", student.seed))
    drawn = rng.choices(rows, k=recipe.rows) if recipe.replacement else rng.sample(rows, recipe.rows)
    return tuple(Example(row["prompt"], row["completion"]) for row in drawn)
