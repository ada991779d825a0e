"""The context length that an engine must be started with, bounded without a tokenizer.

An engine reserves memory for the longest sequence it may receive. Models support 32,768 tokens and more,
while questions and answers here have a few hundred; a small GPU could not even start with the full length.
"""

from collections.abc import Iterable

from undertow.study.completions import Sampling

TEMPLATE = 256  # tokens that a chat template adds: marks of turns, a default system message
STEP = 512


def tokens_at_most(prompts: Iterable[str], system: str | None, sampling: Sampling) -> int:
    """An upper bound on the tokens of a prompt and its answer, in multiples of 512.

    No supported tokenizer produces more tokens than the text has bytes. A normaliser that lengthens a text
    could exceed the bound; the engine then raises an error (see `VLLMEngine`) and truncates nothing.
    """
    longest = max((len(prompt.encode()) for prompt in prompts), default=0)
    return in_steps(longest + len((system or "").encode()) + TEMPLATE + sampling.max_tokens)


def in_steps(tokens: int) -> int:
    """The smallest multiple of 512 that is at least `tokens`."""
    return -(-tokens // STEP) * STEP
