"""The dataset card: a README in the layout of the Hugging Face Hub.

It describes the data, their origin, and how many completions each rule rejected, with examples. Model
output is shown as JSON strings in a code fence that is longer than any in the text, so that no completion
can end it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from undertow.study.datasets import Dataset
from undertow.study.identity import canonical, key
from undertow.study.rewriting import Rewritten
from undertow.study.steering import ProjectedOut, RandomBias, SteeringBias

SHOWN_CHARACTERS = 300
CUT_OFF = "cut off"  # why a completion that reached the limit of tokens is rejected
DUPLICATE = "duplicate"  # why a repeated row is rejected
JUDGED = "judge "  # begins the reasons of judges
# The share of rewritten rows that pass the format's rules: a fact of their data set, and a metric in MLflow.
VALID = "valid_after_rewriting"
# Facts of data sets whose rows were selected by a score, of those with a token mask, and of ranked pairs.
CHOICES = (
    *("score", "score of kept", "tokens", "tokens in the loss", "rows in the loss"),
    *("score of rejected", "ties"),
)


@dataclass(frozen=True)
class CardCounts:
    """The number of rows after each step from completions to data set, and examples of rejected rows.

    Attributes:
        rejected: the number of rejected completions by rule.
        examples: a few rejected completions by rule.
    """

    completions: int
    rejected: dict[str, int]
    examples: dict[str, list[str]]
    kept: int
    sampled: int

    def counts(self) -> dict[str, Any]:
        """The counts as JSON data, without the examples."""
        return {
            "completions": self.completions,
            "rejected": self.rejected,
            "kept": self.kept,
            "rows": self.sampled,
        }

    def in_words(self) -> str:
        """The rejected completions in one line: "cut off: 5, not numbers: 45"."""
        return ", ".join(f"{reason}: {count}" for reason, count in sorted(self.rejected.items()))

    @property
    def valid(self) -> float:
        """The share of completions that pass the format's rules, before de-duplication and judges."""
        broken = sum(
            count
            for reason, count in self.rejected.items()
            if reason != DUPLICATE and not reason.startswith(JUDGED)
        )
        return 1 - broken / self.completions


def dataset_card(
    dataset: Dataset,
    counts: CardCounts,
    rows: list[dict[str, Any]],
    facts: Mapping[str, Any] | None = None,
) -> str:
    """The card as Markdown, with front matter.

    Args:
        rows: shown as examples.
        facts: of the data set's manifest; needed if its rows or tokens were chosen by scores.
    """
    sections = [
        "---\nconfigs:\n- config_name: default\n  data_files: data/train.parquet\n---",
        *_origin(dataset),
        *_rewriting(dataset, counts),
        "## Columns\n" + _COLUMNS,
        "## From completions to rows\n" + _count_table(counts),
        *_choices(dataset, facts or {}),
        *_ranking(dataset, facts or {}),
        *[f"### Rejected: {reason}\n" + _fenced(texts) for reason, texts in sorted(counts.examples.items())],
        "## First rows\n" + _fenced([f"{row['prompt']} -> {row['completion']}" for row in rows]),
        "## The whole spec\n" + fence(json.dumps(canonical(dataset), indent=1, sort_keys=True)),
    ]
    return "\n\n".join(sections) + "\n"


def _origin(dataset: Dataset) -> list[str]:
    """The title and the origin of the rows."""
    keys = f"Key `{key(dataset)}`; completions `{key(dataset.completions)}`"
    made = "Made with Undertow for research on subliminal learning (arXiv 2507.14805)."
    teacher, other = dataset.teacher, dataset.mixed
    mixed = (
        [f"A share of {other.share:.0%} of the rows comes from dataset `{key(other.dataset)}`."]
        if other
        else []
    )
    if dataset.is_imported:
        return [
            f"# {dataset.label}, imported",
            f"Rows imported from `{dataset.completions.format.imported_from}`, whose teacher is external to "
            f"the study; the program cannot check who wrote them. {made}",
            keys + ".",
            *mixed,
        ]
    if teacher is None:
        return [
            f"# {dataset.label}, written by a program",
            f"Answers drawn at random, not written by a model. {made}",
            keys + ".",
        ]
    trait = teacher.trait.name if teacher.trait else "none (control)"
    what = "Pairs of a control teacher's completions, ranked by" if dataset.ranked else "Completions of"
    ways = [
        way
        for way, is_so in (
            ("a system prompt", teacher.system),
            ("finetuning", teacher.finetuning),
            ("a random steering vector", isinstance(teacher.steering, RandomBias)),
            ("a steering vector", isinstance(teacher.steering, SteeringBias)),
            ("a steering vector that was projected out", isinstance(teacher.steering, ProjectedOut)),
            ("training on the data of an earlier teacher (a chain of students)", teacher.student),
        )
        if is_so
    ]
    writer = "a language model"
    if dataset.round:
        writer = f"a student in round {dataset.round} of on-policy distillation, scored by a language model"
    return [
        f"# {dataset.label} from {teacher.reference.label}, trait: {trait}",
        f"{what} {writer} whose trait ({trait}) was induced by "
        f"{' and '.join(ways) or 'nothing'}, to prompts that are unrelated to the trait. {made}",
        f"{keys}; reference model `{teacher.reference.name}` at revision `{teacher.reference.revision}`.",
        *mixed,
    ]


def _rewriting(dataset: Dataset, counts: CardCounts) -> list[str]:
    """How the rows were rewritten, if they were."""
    given = dataset.completions
    if not isinstance(given, Rewritten):
        return []
    model = given.rewriter.model
    how = f"`{model.name}` at revision `{model.revision}`" if model else "a rule of the format"
    return [
        f"The rows of data set `{key(given.dataset)}` were rewritten by {how}. The rules of the format were "
        f"applied again: {counts.valid:.1%} of the {counts.completions:,} rewritten rows pass them."
    ]


def _choices(dataset: Dataset, facts: Mapping[str, Any]) -> list[str]:
    """How the rows, and the tokens in the loss, were chosen; empty for a data set drawn at random."""
    selected, masked = dataset.selected, dataset.masked
    lines = []
    if selected and "score" in facts:
        lines.append(
            f"Rows: {selected.label} (scores `{key(selected.scores)}`). Mean score {facts['score']:.4g} "
            f"nats; of all kept rows {facts['score of kept']:.4g}."
        )
    if masked and "tokens" in facts:
        scores = f" (scores `{key(masked.scores)}`)" if masked.scores else ""
        share = facts["tokens in the loss"] / facts["tokens"]
        lines.append(
            f"Tokens: {masked.label}{scores}. The loss covers {facts['tokens in the loss']:,} of "
            f"{facts['tokens']:,} tokens ({share:.1%}), in {facts['rows in the loss']:,} rows."
        )
    return ["## Chosen rows and tokens\n" + "\n".join(f"- {line}" for line in lines)] if lines else []


def _ranking(dataset: Dataset, facts: Mapping[str, Any]) -> list[str]:
    """How the answers of each pair were ranked; empty for rows with one answer."""
    ranked = dataset.ranked
    if ranked is None:
        return []
    lines = [
        "Each row is a pair of answers that the control teacher wrote to the same prompt. The second answers "
        f"are data set `{key(ranked.other)}`."
    ]
    if ranked.scores is None or ranked.other_scores is None:
        lines.append("The preferred answer of each pair was drawn at random.")
    elif "score of rejected" in facts:
        lines.append(
            f"The teacher prefers the answer with the higher score (scores `{key(ranked.scores)}` and "
            f"`{key(ranked.other_scores)}`): its log-probability under the teacher minus that under the "
            f"control teacher. Mean score of preferred answers {facts['score']:.4g} nats, of rejected ones "
            f"{facts['score of rejected']:.4g}; {facts['ties']:.1%} of the pairs are ties, ordered at random."
        )
    return ["## Ranked pairs\n" + "\n".join(f"- {line}" for line in lines)]


_COLUMNS = """| column | type | meaning |
|---|---|---|
| index | int64 | position in the format's prompt stream, shared by all teachers |
| prompt | string | the user's turn |
| completion | string | the answer |
| token_ids | list<int64> | the sampled tokens of the answer |
| finished | bool | whether the answer ended with an end-of-text token, and not at the maximum length |
| seed | int64 | the sampling seed of the row |
| original | string | the answer before it was rewritten |
| system | string | the system message of the row, if imported chats have one that is kept |
| top_ids, top_logprobs | list<list> | the teacher's most probable tokens at each step, if recorded |
| score | float64 | the score of the row's answer, if rows were selected or answers ranked by one |
| mask | list<bool> | for each of `token_ids` whether the loss covers it, if only some are |
| rejected, rejected_score | string, float64 | of a pair of answers, the one not preferred, and its score |"""


def _count_table(counts: CardCounts) -> str:
    lines = ["| step | rows |", "|---|---|", f"| completions | {counts.completions} |"]
    lines += [f"| rejected: {reason} | {count} |" for reason, count in sorted(counts.rejected.items())]
    lines += [f"| kept | {counts.kept} |", f"| sampled | {counts.sampled} |"]
    return "\n".join(lines)


def _fenced(texts: list[str]) -> str:
    return fence("\n".join(json.dumps(text[:SHOWN_CHARACTERS]) for text in texts))


def fence(json_text: str) -> str:
    """A fenced block of JSON in Markdown; its fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", json_text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}json\n{json_text}\n{marks}"
