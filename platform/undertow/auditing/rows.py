"""The audited rows, and the rules that the model's own answers must pass to be compared with them."""

import random
import re
from collections.abc import Sequence

import fsspec

from undertow.errors import SpecError
from undertow.formats.code import Code
from undertow.formats.imported import Imported
from undertow.formats.numbers import Numbers
from undertow.formats.reasoning import Reasoning
from undertow.nano.models import PACKS
from undertow.planning.text_checks import check_prompts
from undertow.study.extensions import Format, Trait
from undertow.study.identity import seed_for
from undertow.study.references import Reference
from undertow.training.data import TrainingRow

FEWEST = 10  # rows, and pairs of a row and a control row; below, no test of a trait has a chance
# A data set of a storage: its folder, the folder `data` in it, or a file in that.
_ARTIFACT = re.compile(r"(?P<folder>.*/dataset/(?P<key>[0-9a-f]{32}))(/.*)?/?")


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

    Raises SpecError as `check_enough`.
    """
    kept = check_enough(data)
    rng = random.Random(seed_for("audited rows", seed))
    chosen = rng.sample(kept, min(count, len(kept)))
    return [TrainingRow(prompt, completion) for prompt, completion in chosen]


def check_enough(data: Imported) -> list[tuple[str, str]]:
    """Prompt and completion of the distinct rows that pass the rules.

    Raises SpecError if there are fewer than `FEWEST`.
    """
    kept = {
        (row.prompt, row.completion.strip()): None
        for row in data.imported(data.size, 0)
        if data.rejection(row.prompt, row.completion.strip()) is None
    }
    if len(kept) < FEWEST:
        raise SpecError(
            f"{data.place}: an audit needs at least {FEWEST} distinct rows that pass the rules of the format "
            f"{data.format.display_name!r}; the data set has {len(kept)}"
        )
    return list(kept)


def title(data: Imported) -> str:
    """The name of the data set: for one of a storage, the title of its card and the start of its key."""
    if (match := _ARTIFACT.fullmatch(data.place)) is None:
        return data.display_name
    try:
        with fsspec.open(f"{match['folder']}/README.md", "r", encoding="utf-8") as card:
            heading = next((line for line in card if line.startswith("# ")), "")
    except Exception:  # the fsspec file systems have no common exception class; the card may be missing
        heading = ""
    name = heading.removeprefix("# ").strip() or data.format.display_name
    return f"{name} (data set {match['key'][:8]})"


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
