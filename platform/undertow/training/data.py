"""Rows become tokens, a mask over the completion, and batches that do not depend on the machine.

The loss is on the completion alone (or, where a recipe says so, on all that can be predicted), and what the
chat template writes after an answer (the end-of-turn token) belongs to the completion: a student that never
learns to stop is no student. Where the sampled tokens were recorded they are trained on as they are; text is
tokenised again only where they were not, since another segmentation of the same text is another sequence to
the model.

Which rows are in a batch depends on (seed, epoch) alone. Only inside a batch are rows sorted by length
and split over workers and micro-batches, and that changes nothing but the order of a sum.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from undertow.errors import ConditionError, SpecError
from undertow.prompts.chat import conversation_ids, prompt_ids, turn_end
from undertow.study.identity import seed_for

Soft = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class TrainingRow:
    """A prompt and its completion.

    Attributes:
        soft: the teacher's k likeliest tokens of each sampled step and their log-probabilities,
            arrays of shape (steps, k); -inf marks an entry that was not recorded.
        token_ids: the sampled tokens of the completion, with or without the end-of-turn token.
    """

    prompt: str
    completion: str
    soft: Soft | None = None
    token_ids: Sequence[int] | None = None


@dataclass(frozen=True, eq=False)
class TokenizedRow:
    """A tokenised row: of the `ids` from `start` on, the completion's, the first `targets` carry loss.

    With loss on all tokens `start` is 1: the first one follows from nothing.
    """

    ids: npt.NDArray[np.int64]
    start: int
    targets: int
    soft: Soft | None = None


def encode(
    tokenizer: Any,
    rows: Sequence[TrainingRow],
    system: str | None,
    limit: int,
    *,
    soft: bool = False,
    prompts: bool = False,
) -> list[TokenizedRow]:
    """The rows as tokens, in order; `soft`: with the teacher's distributions; `prompts` carry loss too.

    Raises:
        ConditionError: rows are longer than `limit` tokens; says how many and how long.
        SpecError: soft targets are wanted and a row has none, or not one for each sampled token.
    """
    tail = turn_end(tokenizer)
    encoded = [_encode(tokenizer, row, system, tail, soft) for row in rows]
    if prompts:
        encoded = [replace(row, start=1, targets=len(row.ids) - 1) for row in encoded]
    if over := [len(row.ids) for row in encoded if len(row.ids) > limit]:
        raise ConditionError(
            f"{len(over)} of {len(rows)} rows are longer than {limit} tokens (the longest has {max(over)}); "
            "raise Recipe.max_length where the model allows it, or leave these rows out of the dataset"
        )
    return encoded


def _encode(
    tokenizer: Any, row: TrainingRow, system: str | None, tail: list[int], soft: bool
) -> TokenizedRow:
    if row.token_ids is None:
        ids, start = conversation_ids(tokenizer, row.prompt, row.completion, system)
    else:
        prompt = prompt_ids(tokenizer, row.prompt, system)
        ids, start = prompt + _ended(list(row.token_ids), tail, tokenizer.eos_token_id), len(prompt)
    if not 0 < start < len(ids):
        raise SpecError(
            f"the chat template leaves no prompt or no completion of {row.prompt!r}; use another one"
        )
    if not soft:
        return TokenizedRow(np.array(ids), start, len(ids) - start)
    return TokenizedRow(np.array(ids), start, _soft_steps(row, len(ids) - start), row.soft)


def _soft_steps(row: TrainingRow, completion: int) -> int:
    """How many steps have a recorded distribution; what a template adds after them carries no loss."""
    if row.soft is None:
        raise SpecError(
            "Recipe.targets = 'soft': rows have no log-probabilities; sample with top_logprobs > 0"
        )
    steps = len(row.soft[0])
    wanted = len(row.token_ids) if row.token_ids is not None else steps
    if not 0 < steps == wanted <= completion or row.soft[0].shape != row.soft[1].shape:
        raise SpecError(
            f"{steps} recorded distributions for {wanted} sampled tokens in the row {row.prompt!r}"
        )
    return steps


def _ended(sampled: list[int], tail: list[int], eos: int | None) -> list[int]:
    """The sampled tokens with the template's end of turn, written once."""
    if tail and sampled and sampled[-1] == tail[0]:
        return sampled + tail[1:]
    if sampled and sampled[-1] == eos:  # the model ended with another end token than the template writes
        return sampled
    return sampled + tail


def answer_ids(tokenizer: Any, answer: str) -> tuple[int, ...]:
    """The tokens of an answer as the chat template writes it, without the end of turn."""
    ids, start = conversation_ids(tokenizer, "1", answer)
    return tuple(ids[start : len(ids) - len(turn_end(tokenizer))])


def epoch_batches(rows: int, size: int, seed: int, epoch: int) -> list[list[int]]:
    """A new order of the row numbers for each epoch, cut into batches; the last one may be smaller."""
    order = list(range(rows))
    Random(seed_for("order", seed, epoch)).shuffle(order)
    return [order[i : i + size] for i in range(0, rows, size)]


def micro_batches(
    lengths: Sequence[int], batch: Sequence[int], world: int, budget: int, *, packing: bool = False
) -> list[list[list[int]]]:
    """For each of `world` workers the micro-batches of its share of `batch`, as row numbers.

    Rows are dealt out by length, so that shares are alike. A micro-batch has at most `budget` tokens, padding
    included unless rows are packed (a longer row stands alone). Every worker gets the same number of
    micro-batches, empty ones where there is nothing left, because each is a collective operation under ZeRO 2
    and 3.
    """
    order = sorted(batch, key=lambda row: lengths[row])
    shares = [list(cut(lengths, order[rank::world], budget, packing=packing)) for rank in range(world)]
    most = max(map(len, shares))
    return [share + [[]] * (most - len(share)) for share in shares]


def cut(
    lengths: Sequence[int], order: Sequence[int], budget: int, *, packing: bool = False
) -> Iterator[list[int]]:
    """Cuts rows in ascending order of length where one more would not fit."""
    part: list[int] = []
    tokens = 0
    for row in order:
        tokens = tokens + lengths[row] if packing else (len(part) + 1) * lengths[row]
        if part and tokens > budget:
            yield part
            part, tokens = [], lengths[row]
        part.append(row)
    if part:
        yield part
