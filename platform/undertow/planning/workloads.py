"""How many tokens making an artifact reads, samples or trains on, estimated from texts without a tokenizer.

Lengths are upper estimates: answers as long as allowed, three characters per token (English has about four;
lists of numbers have fewer, since some tokenizers split numbers into digits).
"""

from dataclasses import dataclass
from functools import lru_cache

from undertow.study.completions import Completions, ImportedCompletions
from undertow.study.datasets import Dataset
from undertow.study.extensions import Format, Trait, Word
from undertow.study.identity import cached_by_id
from undertow.study.recipe import Everything, FinalNorm, InContext, LoRA, Parameters
from undertow.study.rewriting import Rewritten
from undertow.study.students import Student, Subject
from undertow.study.teachers import Finetuning

CHARACTERS_PER_TOKEN = 3.0
TEMPLATE_TOKENS = 20  # a chat template's own tokens around one user and one assistant turn
SAMPLE = 50  # prompts and examples whose mean length stands for the mean of all


@dataclass(frozen=True)
class TrainingWork:
    """Training: `length` tokens per unit (a row in one epoch)."""

    trainable: LoRA | Everything | Parameters | FinalNorm
    length: float


@dataclass(frozen=True)
class SamplingWork:
    """Sampling: `read` tokens of prompts in all, and `length` tokens per unit (an answer)."""

    read: float
    length: float


Workload = TrainingWork | SamplingWork


def text_tokens(text: str | None) -> float:
    """The tokens of a text; 0 for None."""
    return len(text) / CHARACTERS_PER_TOKEN if text else 0.0


@cached_by_id
def mean_tokens(texts: tuple[str, ...]) -> float:
    """The mean number of tokens of texts."""
    return sum(map(text_tokens, texts)) / len(texts)


@lru_cache(maxsize=1024)
def prompt_tokens(format_: Format) -> float:
    """The tokens of a format's prompt, template included."""
    return mean_tokens(tuple(format_.prompts(SAMPLE, seed=0))) + TEMPLATE_TOKENS


def row_tokens(dataset: Dataset) -> float:
    """The tokens of a row: its prompt and its answer.

    A model's answer has the maximum length; a program's answer is as long as the prompt. Rewritten answers
    are as long as before.
    """
    completions = dataset.completions
    if isinstance(completions, Rewritten):
        return row_tokens(completions.dataset)
    if isinstance(completions, ImportedCompletions):
        return _imported_tokens(completions)
    prompt = prompt_tokens(completions.format)
    return prompt + (completions.sampling.max_tokens if isinstance(completions, Completions) else prompt)


@lru_cache(maxsize=1024)
def _imported_tokens(completions: ImportedCompletions) -> float:
    rows = completions.format.imported(min(SAMPLE, completions.prompts), seed=0)
    return mean_tokens(tuple("".join(row) for row in rows)) + TEMPLATE_TOKENS


@lru_cache(maxsize=1024)
def example_tokens(trait: Trait, finetuning: Finetuning) -> float:
    """The tokens of one of a trait's training examples, template included."""
    pairs = finetuning.examples_of(trait, seed=0, most=SAMPLE)
    return mean_tokens(tuple(pair.prompt + pair.answer for pair in pairs)) + TEMPLATE_TOKENS


@cached_by_id
def spelling_tokens(words: tuple[Word, ...]) -> float:
    """The tokens of all spellings of words, each with and without a space before it."""
    return 2 * sum(max(1.0, text_tokens(form)) for word in words for form in word.forms)


def context_tokens(subject: Subject) -> float:
    """The tokens of the rows that an in-context student reads before every question; 0 for other models."""
    if isinstance(subject, Student) and isinstance(subject.recipe, InContext):
        recipe = subject.recipe
        rows = recipe.rows if recipe.replacement else min(recipe.rows, subject.dataset.row_limit)
        return rows * row_tokens(subject.dataset)
    return 0.0
