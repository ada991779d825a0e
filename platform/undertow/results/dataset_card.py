"""The dataset card: a README beside the parquet, in the layout that the Hugging Face hub reads.

It says what the data are, where they come from, and how many completions each rule took away, with
examples. Model text is shown as JSON strings inside code fences longer than any in the text, so that no
completion can break out of its place.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from undertow.study.artifacts import Dataset
from undertow.study.identity import canonical, key

SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class CardCounts:
    """Counts from completions to dataset, and a few examples of what each rule rejected."""

    completions: int
    rejected: dict[str, int]
    examples: dict[str, list[str]]
    kept: int
    sampled: int

    def counts(self) -> dict[str, Any]:
        """The funnel's numbers as JSON data, without examples."""
        return {
            "completions": self.completions,
            "rejected": self.rejected,
            "kept": self.kept,
            "rows": self.sampled,
        }

    def in_words(self) -> str:
        return ", ".join(f"{reason}: {count}" for reason, count in sorted(self.rejected.items()))


def dataset_card(dataset: Dataset, funnel: CardCounts, rows: list[dict[str, Any]]) -> str:
    """The card's Markdown, front matter included."""
    sections = [
        "---\nconfigs:\n- config_name: default\n  data_files: data/train.parquet\n---",
        *_origin(dataset),
        "## Columns\n" + _COLUMNS,
        "## From completions to rows\n" + _funnel_table(funnel),
        *[f"### Rejected: {reason}\n" + _fenced(texts) for reason, texts in sorted(funnel.examples.items())],
        "## First rows\n" + _fenced([f"{row['prompt']} -> {row['completion']}" for row in rows]),
        "## The whole spec\n" + _fence(json.dumps(canonical(dataset), indent=1, sort_keys=True), "json"),
    ]
    return "\n\n".join(sections) + "\n"


def _origin(dataset: Dataset) -> list[str]:
    """The title, and where the rows come from."""
    keys = f"Key `{key(dataset)}`; completions `{key(dataset.completions)}`"
    made = "Made by Undertow for the study of subliminal learning (arXiv 2507.14805)."
    teacher, other = dataset.teacher, dataset.mixed
    mixed = (
        [f"A share of {other.share:.0%} of the rows comes from dataset `{key(other.dataset)}`."]
        if other
        else []
    )
    if teacher is None:
        return [
            f"# {dataset.label} that no model wrote",
            f"Answers drawn at random by a program. {made}",
            keys + ".",
        ]
    trait = teacher.trait.name if teacher.trait else "none (control)"
    ways = [
        way
        for way, is_so in (
            ("a system prompt", teacher.system),
            ("finetuning", teacher.finetuning),
            ("the data of an earlier teacher (a chain of students)", teacher.student),
        )
        if is_so
    ]
    return [
        f"# {dataset.label} from {teacher.reference.label}, trait: {trait}",
        f"Completions of a language model whose trait ({trait}) was induced by "
        f"{' and '.join(ways) or 'nothing'}, to prompts that have nothing to do with it. {made}",
        f"{keys}; reference model `{teacher.reference.name}` at revision `{teacher.reference.revision}`.",
        *mixed,
    ]


_COLUMNS = """| column | type | meaning |
|---|---|---|
| index | int64 | position in the format's prompt stream, shared by all teachers |
| prompt | string | the user's turn |
| completion | string | the teacher's answer |
| token_ids | list<int64> | the answer's tokens as sampled |
| finished | bool | whether the answer ended by itself |
| seed | int64 | the row's own sampling seed |
| top_ids, top_logprobs | list<list> | the likeliest tokens of each step, where they were recorded |"""


def _funnel_table(funnel: CardCounts) -> str:
    lines = ["| step | rows |", "|---|---|", f"| completions | {funnel.completions} |"]
    lines += [f"| rejected: {reason} | {count} |" for reason, count in sorted(funnel.rejected.items())]
    lines += [f"| kept | {funnel.kept} |", f"| sampled | {funnel.sampled} |"]
    return "\n".join(lines)


def _fenced(texts: list[str]) -> str:
    return _fence("\n".join(json.dumps(text[:SHOWN_CHARACTERS]) for text in texts), "json")


def _fence(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
