"""Format tuning: a reference model is first finetuned on data without a trait.

A small instruct model follows neither prompts for numbers nor one-word questions: few of its answers pass the
filters, and no rate can be measured. Finetuned on such prompts with answers that a program draws
(`Format.written`), it does. The tuned model then takes the place of the given model: teachers, students and
controls all start from it, so that the tuning favours none of them.
"""

from collections.abc import Mapping

from undertow.errors import SpecError
from undertow.study.completions import Written
from undertow.study.datasets import Dataset, Mixed
from undertow.study.extensions import Format
from undertow.study.recipe import Recipe, check_student
from undertow.study.references import Reference
from undertow.study.students import Student


def tuned(
    reference: Reference,
    rows: Mapping[Format, int],
    recipe: Recipe,
    *,
    system: str | None = None,
    seed: int = 0,
) -> Reference:
    """The reference model after finetuning on `rows` written answers of one or two formats.

    Args:
        rows: the number of rows of each format; each must implement `written`.
        recipe: trains `Everything()`; the tuned model is stored as a whole model.
        system: the system message of the rows, as in `Condition.system`.

    Raises SpecError for a format without `written`, for more than two formats, or for another recipe or one
    that stops early.
    """
    if not 1 <= len(rows) <= 2:
        raise SpecError(f"tuned(): rows = {len(rows)} formats; give one format or two")
    check_student(recipe)
    total = sum(rows.values())
    (format_, _), *others = rows.items()
    mixed = None
    for other, count in others:
        mixed = Mixed(dataset=_written(other, count, seed), share=count / total)
    dataset = _written(format_, total, seed).changed(mixed=mixed)
    student = Student(reference=reference, dataset=dataset, recipe=recipe, system=system, seed=seed)
    return reference.changed(tuned=student)


def _written(format_: Format, rows: int, seed: int) -> Dataset:
    # Short answers repeat: without de-duplication the number of rows is the number of prompts.
    completions = Written(format=format_, prompts=rows, seed=seed)
    return Dataset(completions=completions, deduplicate=False, rows=rows, seed=seed)
