"""The audited rows, and the rules that the model's own answers must pass to be compared with them."""

import random
from collections.abc import Sequence

from undertow.errors import SpecError
from undertow.formats.code import Code
from undertow.formats.imported import Imported
from undertow.formats.numbers import Numbers
from undertow.formats.reasoning import Reasoning
from undertow.nano.models import PACKS
from undertow.planning.resolve import check_prompts
from undertow.study.extensions import Format, Trait
from undertow.study.identity import seed_for
from undertow.study.references import Reference
from undertow.training.data import TrainingRow

FEWEST = 10  # rows; below, no test of a trait has a chance


def imported(place: str, prompt: str = "", completion: str = "", formats: Sequence[Format] = ()) -> Imported:
    """The data set at `place` with the rules of the first format that accepts all rows, else those of text.

    Control rows must pass the same rules: data sets are filtered, and a model's own answers are not. System
    turns are left out, as students do not see them.

    Args:
        formats: tried before the shipped ones.

    Raises SpecError for a data set that cannot be read.
    """
    text = Imported(place, prompt=prompt, completion=completion, system="drop")
    rows = text.imported(text.size, 0)
    shipped = (Numbers(), Code(), Reasoning(), Reasoning(pack=str(PACKS["reasoning"].path)))
    for format_ in (*formats, *shipped):
        if all(format_.rejection(row.prompt, row.completion.strip()) is None for row in rows):
            return text.changed(format=format_)
    return text


def drawn(data: Imported, count: int, seed: int) -> list[TrainingRow]:
    """`count` distinct rows that pass the rules, or all if there are fewer, drawn from the seed.

    Raises SpecError if fewer than `FEWEST` are left.
    """
    rows = data.imported(data.size, 0)
    kept = {
        (row.prompt, row.completion.strip()): None
        for row in rows
        if data.rejection(row.prompt, row.completion.strip()) is None
    }
    if len(kept) < FEWEST:
        raise SpecError(f"{data.place}: {len(kept)} distinct rows to audit; give at least {FEWEST}")
    rng = random.Random(seed_for("audited rows", seed))
    chosen = rng.sample(list(kept), min(count, len(kept)))
    return [TrainingRow(prompt, completion) for prompt, completion in chosen]


def visible_share(rows: Sequence[TrainingRow], traits: Sequence[Trait]) -> float:
    """The share of rows whose prompt or completion has a word of a candidate trait."""
    words = [trait.word() for trait in traits if not trait.is_judged]
    texts = [f"{row.prompt}\n{row.completion}" for row in rows]
    return sum(any(word.matches(text) for word in words) for text in texts) / len(texts)


def check_local(references: Sequence[Reference]) -> None:
    """Raises SpecError for a model without weights."""
    for reference in references:
        if reference.is_api or reference.is_external:
            raise SpecError(f"--model {reference.name}: needs the model's weights; name a local model")


def check_readable(data: Imported, references: Sequence[Reference]) -> None:
    """Raises SpecError for rows with words that a nano model does not know."""
    for reference in references:
        check_prompts(data, reference)
