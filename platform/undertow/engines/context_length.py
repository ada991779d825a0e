"""How long a context an engine must be made for: from the texts, without a tokenizer.

An engine keeps memory for the longest sequence that it may be given. Models are made for 32,768 tokens and
more; questions and answers here have a few hundred, and a small GPU could not even start for all of them.
"""

from collections.abc import Iterable

from undertow.study.artifacts import Sampling

TEMPLATE = 256  # tokens that a chat template adds: marks of turns, a default system message
STEP = 512


def tokens_at_most(prompts: Iterable[str], system: str | None, sampling: Sampling) -> int:
    """An upper bound of the tokens of a prompt and its answer, in steps of 512.

    No tokenizer served here makes more tokens of a text than it has bytes. A text that a normaliser makes
    longer might exceed that; the engine then says so (see `VLLMEngine`), and nothing is cut off.
    """
    longest = max((len(prompt.encode()) for prompt in prompts), default=0)
    total = longest + len((system or "").encode()) + TEMPLATE + sampling.max_tokens
    return -(-total // STEP) * STEP
