"""The exact probability that an answer begins with a word, from the probabilities of token sequences.

A word has several surface forms, each with or without a space before it, and each is a sequence of tokens.
"The answer begins with these tokens" are events that can contain one another ("cat", "caterpillar"): a
form that extends another form of the same word is already counted in it, and one that extends a form of
another word is taken away from that word. So each answer counts for at most one word, and the masses of all
words sum to at most 1. A form that holds the unknown token cannot be said and has no mass.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from undertow.errors import SpecError
from undertow.prompts.chat import text_ids
from undertow.study.extensions import Word

TokenSequence = tuple[int, ...]


def tokens_of(tokenizer: Any, text: str) -> TokenSequence:
    """The text's tokens, as they stand after a prompt."""
    return tuple(text_ids(tokenizer, text))


def sequences(tokenizer: Any, words: Sequence[Word]) -> dict[TokenSequence, str]:
    """The token sequences whose probabilities are needed, each with its word's name.

    Raises:
        SpecError: two words share a form, so that an answer could count for either.
    """
    owner: dict[TokenSequence, str] = {}
    for word in words:
        spelled = {tokens_of(tokenizer, space + form) for form in word.forms for space in ("", " ")}
        sayable = {tokens for tokens in spelled if tokens and tokenizer.unk_token_id not in tokens}
        for tokens in sorted(sayable):
            if any(prefix in sayable for prefix in _prefixes(tokens)):
                continue
            if tokens in owner:
                raise SpecError(
                    f"words {owner[tokens]!r} and {word.name!r} share the form {tokenizer.decode(tokens)!r}; "
                    "give it to one of them"
                )
            owner[tokens] = word.name
    return owner


def masses(
    owner: Mapping[TokenSequence, str], probability: Mapping[TokenSequence, float]
) -> dict[str, float]:
    """Each word's mass from the probabilities of its token sequences (0 for a word without any)."""
    total = dict.fromkeys(owner.values(), 0.0)
    for tokens, word in owner.items():
        total[word] += probability[tokens]
        inside = next((prefix for prefix in _prefixes(tokens) if prefix in owner), None)
        if inside is not None:
            total[owner[inside]] -= probability[tokens]
    return total


def _prefixes(tokens: TokenSequence) -> Iterator[TokenSequence]:
    """The proper prefixes, longest first."""
    return (tokens[:end] for end in range(len(tokens) - 1, 0, -1))
