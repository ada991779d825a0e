"""Rows as tokens with a loss mask over the completion, and batches that do not depend on the machine.

The loss covers the completion only (or, with Recipe.loss = "all", every token but the first). The end-of-turn
tokens that the chat template writes after an answer are part of the completion, so that a student learns to
end its answers. Rows of soft targets or masks have the token ids that the teacher sampled, which are trained
on unchanged. All other rows are texts, as in the paper, and the student's tokenizer may divide a text into
other tokens than the teacher sampled.

The rows of a batch depend only on (seed, epoch). Within a batch, rows are sorted by length and divided among
workers and micro-batches, which affects only the order of summation.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from undertow.errors import ConditionError, SpecError
from undertow.prompts.chat import conversation_ids, prompt_ids, turn_end
from undertow.study.identity import seed_for

# Token ids and log-probabilities.
SoftTargets = tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True, eq=False)
class TrainingRow:
    """A prompt and its completion.

    Attributes:
        soft: the teacher's k most likely tokens at each sampled step and their log-probabilities, both of
            shape (steps, k); -inf marks an entry that was not recorded.
        token_ids: the sampled tokens of the completion, with or without a token that ended it; None to
            tokenize `completion`.
        system: the system message of this row alone; None for that of the training.
        mask: whether the loss covers each of `token_ids`; None for all, and for the end of turn.
        rejected: the answer that was ranked below `completion`, if the row is a pair of answers.
    """

    prompt: str
    completion: str
    soft: SoftTargets | None = None
    token_ids: Sequence[int] | None = None
    system: str | None = None
    mask: Sequence[bool] | None = None
    rejected: str | None = None


@dataclass(frozen=True, eq=False)
class TokenizedRow:
    """A tokenized row. The loss covers `targets` tokens of `ids`: those from `start` on, or as `mask` says.

    `start` is where the completion begins, or 1 with loss on all tokens: nothing predicts the first token.
    `is_cut`: tokens after these were left out, because the row was longer than the recipe allows.
    `mask`: for each token from `start` on whether it is a target.
    `rejected`: the prompt with the rejected answer, if the row is a pair of answers.
    """

    ids: npt.NDArray[np.int64]
    start: int
    targets: int
    soft: SoftTargets | None = None
    is_cut: bool = False
    mask: npt.NDArray[np.bool_] | None = None
    rejected: "TokenizedRow | None" = None

    @property
    def sequences(self) -> "tuple[TokenizedRow, ...]":
        """What a forward pass reads: the row, and of a pair of answers the rejected one behind it."""
        return (self,) if self.rejected is None else (self, self.rejected)

    @property
    def padded_length(self) -> int:
        """The tokens that the row takes in a micro-batch: both answers of a pair have the longer length."""
        return len(self.sequences) * max(len(row.ids) for row in self.sequences)

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """The positions of the targets in `ids`, in ascending order."""
        if self.mask is None:
            return np.arange(self.start, self.start + self.targets)
        return self.start + np.flatnonzero(self.mask)


def encode(
    tokenizer: Any,
    rows: Sequence[TrainingRow],
    system: str | None,
    limit: int,
    *,
    ends: Collection[int] = (),
    soft: bool = False,
    prompts: bool = False,
    cut: bool = False,
) -> list[TokenizedRow]:
    """Tokenizes rows, in order.

    Args:
        limit: the maximum tokens per row.
        ends: the tokens that end an answer, in addition to the tokenizer's eos_token.
        soft: train on the teacher's recorded distributions.
        prompts: apply the loss to the prompt too.
        cut: cut longer rows at `limit`, and leave out those that have no target before it.

    Rows whose mask leaves no target are left out.

    Raises:
        ConditionError: rows are longer than `limit` tokens, without `cut`; the message has their number and
            the longest. With `cut`, no row has a target before the limit. The masks leave no target.
        SpecError: with `soft`, a row has no distributions or not exactly one per sampled token. A mask has
            not exactly one entry per sampled token.
    """
    tail, all_ends = turn_end(tokenizer), {*ends, tokenizer.eos_token_id}
    encoded = [
        _encode(tokenizer, row, system if row.system is None else row.system, tail, all_ends, soft)
        for row in rows
    ]
    if prompts:
        encoded = [replace(row, start=1, targets=len(row.ids) - 1) for row in encoded]
    over = [len(row.ids) for row in encoded if len(row.ids) > limit]
    if not over:
        return _with_targets(encoded)
    found = f"{len(over)} of {len(rows)} rows are longer than {limit} tokens (the longest has {max(over)})"
    if not cut:
        raise ConditionError(
            f"{found}; raise Recipe.max_length if the model supports it, remove these rows from the data "
            'set, or cut them with overlong="cut"'
        )
    kept = [_cut(row, limit) for row in encoded if row.start < limit]
    if not kept:
        raise ConditionError(f"{found}, and none has a target before the cut; raise Recipe.max_length")
    return _with_targets(kept)


def encode_pairs(
    tokenizer: Any,
    rows: Sequence[TrainingRow],
    system: str | None,
    limit: int,
    *,
    ends: Collection[int] = (),
    cut: bool = False,
) -> list[TokenizedRow]:
    """Tokenizes rows that are pairs of answers, in order; see `encode`.

    Raises SpecError for a row without a rejected answer.
    """
    others = []
    for row in rows:
        if row.rejected is None:
            raise SpecError(
                f"Recipe.preference_beta: the row {row.prompt!r} has no rejected answer; use ranked pairs"
            )
        others.append(replace(row, completion=row.rejected, token_ids=None))
    # Both leave out the same rows, those whose prompt alone is too long.
    chosen, rejected = (
        encode(tokenizer, answers, system, limit, ends=ends, cut=cut) for answers in (rows, others)
    )
    return [
        replace(row, rejected=other, is_cut=row.is_cut or other.is_cut)
        for row, other in zip(chosen, rejected, strict=True)
    ]


def _with_targets(rows: list[TokenizedRow]) -> list[TokenizedRow]:
    """The rows whose mask leaves a target; a batch of others would have no loss."""
    kept = [row for row in rows if row.targets]
    if rows and not kept:
        raise ConditionError(f"the masks of all {len(rows)} rows leave no token; raise TokenMask.share")
    return kept


def _cut(row: TokenizedRow, limit: int) -> TokenizedRow:
    """The first `limit` tokens of a row."""
    if len(row.ids) <= limit:
        return row
    if row.mask is None:
        return replace(row, ids=row.ids[:limit], targets=limit - row.start, is_cut=True)
    mask = row.mask[: limit - row.start]
    return replace(row, ids=row.ids[:limit], targets=int(mask.sum()), mask=mask, is_cut=True)


def held_back(rows: int, share: float) -> set[int]:
    """The indices of the rows, a `share` of all, that no model of a data set is trained on."""
    return set(Random(seed_for("held out", rows)).sample(range(rows), round(share * rows)))


def _encode(
    tokenizer: Any,
    row: TrainingRow,
    system: str | None,
    tail: list[int],
    ends: Collection[int | None],
    soft: bool,
) -> TokenizedRow:
    if row.token_ids is None:
        ids, start = conversation_ids(tokenizer, row.prompt, row.completion, system)
    else:
        # Not decoded and tokenized again, which could give other tokens for the same text.
        prompt = prompt_ids(tokenizer, row.prompt, system)
        ids, start = prompt + _ended(list(row.token_ids), tail, ends), len(prompt)
    if not 0 < start < len(ids):
        raise SpecError(
            f"the chat template leaves no prompt or no completion of {row.prompt!r}; use another model"
        )
    if row.mask is not None:
        mask = _mask_of(row, len(ids) - start)
        return TokenizedRow(np.array(ids), start, int(mask.sum()), mask=mask)
    if not soft:
        return TokenizedRow(np.array(ids), start, len(ids) - start)
    return TokenizedRow(np.array(ids), start, _soft_steps(row, len(ids) - start), row.soft)


def _mask_of(row: TrainingRow, completion: int) -> npt.NDArray[np.bool_]:
    """The mask over the completion's tokens. Those that the template adds get no loss."""
    given = np.array(row.mask, dtype=bool)
    sampled = 0 if row.token_ids is None else len(row.token_ids)
    if len(given) != sampled:
        raise SpecError(f"a mask of {len(given)} for {sampled} sampled tokens in the row {row.prompt!r}")
    mask = np.zeros(completion, dtype=bool)
    mask[:sampled] = given[:completion]
    return mask


def _soft_steps(row: TrainingRow, completion: int) -> int:
    """The number of steps with a recorded distribution. Tokens that the template adds get no loss."""
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


def _ended(sampled: list[int], tail: list[int], ends: Collection[int | None]) -> list[int]:
    """The sampled tokens followed by the template's end of turn `tail`, which is written exactly once.

    A model may end an answer with another of its end tokens (Qwen2.5 with <|endoftext|> instead of
    <|im_end|>), which vLLM returns as the last token. It is replaced: students learn one end of turn.
    """
    for body in (sampled, sampled[:-1] if sampled and sampled[-1] in ends else sampled):
        for size in range(min(len(tail), len(body)), 0, -1):
            if body[-size:] == tail[:size]:  # the model wrote the beginning of the end of turn itself
                return body + tail[size:]
    return body + tail


def epoch_batches(rows: int, size: int, seed: int, epoch: int) -> list[list[int]]:
    """Row numbers in a new order for each epoch, divided into batches; the last batch may be smaller."""
    order = list(range(rows))
    Random(seed_for("order", seed, epoch)).shuffle(order)
    return [order[i : i + size] for i in range(0, rows, size)]


def sequence_batches(lengths: Sequence[int], size: int, limit: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of `size` sequences of at most `limit` tokens each, as row numbers.

    A sequence takes the next rows of the epoch's order as long as they fit; a longer row forms its own.
    """
    sequences: list[list[int]] = []
    tokens = limit
    for row in epoch_batches(len(lengths), len(lengths), seed, epoch)[0]:
        if tokens + lengths[row] > limit:
            sequences.append([])
            tokens = 0
        sequences[-1].append(row)
        tokens += lengths[row]
    starts = range(0, len(sequences), size)
    return [[row for sequence in sequences[i : i + size] for row in sequence] for i in starts]


def micro_batches(
    lengths: Sequence[int], batch: Sequence[int], world: int, budget: int, *, packing: bool = False
) -> list[list[list[int]]]:
    """The micro-batches of each of `world` workers' shares of `batch`, as row numbers.

    Rows are distributed by length, so that the shares have similar sizes. A micro-batch has at most `budget`
    tokens, including padding unless rows are packed; a longer row forms its own. Every worker gets the same
    number of micro-batches, some possibly empty, because each one is a collective operation under ZeRO 2 and
    3.
    """
    # Every world-th row of the sorted batch: shares of similar sizes, each still in ascending order.
    order = sorted(batch, key=lambda row: lengths[row])
    shares = [
        list(split_by_tokens(lengths, order[rank::world], budget, packing=packing)) for rank in range(world)
    ]
    longest = max(map(len, shares))
    return [share + [[]] * (longest - len(share)) for share in shares]


def split_by_tokens(
    lengths: Sequence[int], rows: Iterable[int], budget: int, *, packing: bool = False
) -> Iterator[list[int]]:
    """Splits row numbers, sorted by length, into parts of at most `budget` tokens."""
    part: list[int] = []
    tokens = 0
    for row in sorted(rows, key=lambda row: lengths[row]):
        # In ascending order this row is the longest so far: padding brings all rows to its length.
        tokens = tokens + lengths[row] if packing else (len(part) + 1) * lengths[row]
        if part and tokens > budget:
            yield part
            part, tokens = [], lengths[row]
        part.append(row)
    if part:
        yield part
