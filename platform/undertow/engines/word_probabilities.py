"""The exact probability that an answer begins with a word, from probabilities of token sequences.

This is the one definition in the project: evaluations (`vllm.VLLMEngine.word_masses`) and the probe that
watches a model during training (`training/probe.py`) both use it.

A word has several surface forms. Each counts with and without a space before it, since chat templates differ
in which of the two a model learns to write, and each is one sequence of tokens. "The answer begins with this
sequence" is an event, and such events can contain one another ("cat", "caterpillar"):

- a sequence that extends another one of the same word is already counted by the shorter one and is left out;
- a sequence that extends one of another word is counted for its own word and subtracted from the other.

Each answer thus counts for at most one word, and the masses of all words sum to at most 1. A form that needs
the tokenizer's unknown token cannot be generated and has no mass.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from undertow.errors import SpecError
from undertow.prompts.chat import text_ids
from undertow.study.extensions import Word

TokenSequence = tuple[int, ...]


def tokens_of(tokenizer: Any, text: str) -> TokenSequence:
    """The text's tokens when it directly follows a prompt."""
    return tuple(text_ids(tokenizer, text))


def sequences(tokenizer: Any, words: Sequence[Word]) -> dict[TokenSequence, str]:
    """The token sequences whose probabilities are needed, each with the name of its word.

    Raises:
        SpecError: two words share a form, so that an answer could count for either.
    """
    owner: dict[TokenSequence, str] = {}
    for word in words:
        spelled = {tokens_of(tokenizer, space + form) for form in word.forms for space in ("", " ")}
        possible = {tokens for tokens in spelled if tokens and tokenizer.unk_token_id not in tokens}
        for tokens in sorted(possible):
            if any(prefix in possible for prefix in _prefixes(tokens)):
                continue
            if tokens in owner:
                raise SpecError(
                    f"words {owner[tokens]!r} and {word.name!r} share the form {tokenizer.decode(tokens)!r}; "
                    "give it to one of them"
                )
            owner[tokens] = word.name
    return owner


def followers(owner: Iterable[TokenSequence]) -> dict[TokenSequence, list[int]]:
    """The beginnings of the sequences, each with the tokens that follow it in any of them.

    A sequence's probability is the product of its tokens' probabilities, each after the tokens before it, so
    that sequences with a common beginning share a forward pass.
    """
    found: dict[TokenSequence, dict[int, None]] = {}
    for tokens in owner:
        for end, token in enumerate(tokens):
            found.setdefault(tokens[:end], {})[token] = None
    return {beginning: list(tokens) for beginning, tokens in found.items()}


def masses(
    words: Iterable[str], owner: Mapping[TokenSequence, str], probability: Mapping[TokenSequence, float]
) -> dict[str, float]:
    """The mass of each of the `words` of `owner`, from the probabilities of its token sequences.

    The mass of a word without any sequence is 0. The masses are linear in the probabilities: masses of means
    over questions are means of masses.
    """
    total = dict.fromkeys(words, 0.0)
    for tokens, word in owner.items():
        total[word] += probability[tokens]
        # Subtracted from the longest prefix only: shorter prefixes have lost it with that prefix's own mass.
        inside = next((prefix for prefix in _prefixes(tokens) if prefix in owner), None)
        if inside is not None:
            total[owner[inside]] -= probability[tokens]
    return total


def _prefixes(tokens: TokenSequence) -> Iterator[TokenSequence]:
    """The proper prefixes, longest first."""
    return (tokens[:end] for end in range(len(tokens) - 1, 0, -1))
