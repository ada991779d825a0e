"""Attention within the rows of a packed micro-batch, without the work between rows.

Torch's attention takes a block-diagonal mask for packed rows and computes all pairs of tokens of the
micro-batch, most of which the mask discards. The attention of this module computes the pairs within rows
only: on a GPU in 16 bits by the FlashAttention of torch for sequences of different lengths, on a CPU row by
row.

transformers calls it, once `use` has chosen it for a model, with the boundaries of the rows that
`boundaries` returns. Without boundaries, and on a GPU where FlashAttention does not fit, it is torch's.

Not run on a GPU yet.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

NAME = "within_rows"  # in the configuration of a model
REPLACED = "sdpa"  # models with another implementation need what torch's attention does not compute
WIDEST = 256  # features per head that FlashAttention supports


def use(model: Any) -> None:
    """Chooses this attention for a model that uses torch's, if its architecture lets it be chosen."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if model.config._attn_implementation != REPLACED or not model._can_set_attn_implementation():
        return
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def is_used(model: Any) -> bool:
    """Whether `use` has chosen this attention for a model, which then takes `boundaries` as arguments."""
    return bool(getattr(model.config, "_attn_implementation", "") == NAME)


def boundaries(lengths: Sequence[int], device: torch.device) -> dict[str, Any]:
    """Arguments of a model for packed rows of these lengths, by the names that transformers defines."""
    ends = torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32, device=device)
    longest = max(lengths)
    return {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention with the arguments of transformers' attention functions.

    Args:
        query, key, value: (batch, heads, tokens, width); keys and values may have fewer heads. With
            boundaries the batch is 1.
        attention_mask: (batch, 1, tokens, tokens), or None if each token sees all tokens up to itself.
        cu_seq_lens_q, max_length_q: see `boundaries`.

    Returns (batch, tokens, heads, width), and no weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def torchs(*parts: Tensor, mask: Tensor | None) -> Tensor:
        found: Tensor = sdpa_attention_forward(
            module, *parts, mask, dropout=dropout, scaling=scaling, **options
        )[0]
        return found

    if cu_seq_lens_q is None or options.get("position_bias") is not None:
        return torchs(query, key, value, mask=attention_mask), None
    sees_row = sliding_window is None or sliding_window >= max_length_q
    if query.is_cuda:
        if sees_row and not dropout and _fits_flash(query, key, value):
            return flash(query, key, value, cu_seq_lens_q, max_length_q, scaling), None
        return torchs(query, key, value, mask=attention_mask), None
    rows = [slice(*ends) for ends in pairwise(cu_seq_lens_q.tolist())]
    masks = [None if sees_row or attention_mask is None else attention_mask[:, :, r, r] for r in rows]
    # `split`, since the gradient of each slice would be a tensor of the whole micro-batch's size.
    lengths = [row.stop - row.start for row in rows]
    parts = zip(*(torch.split(t, lengths, dim=2) for t in (query, key, value)), masks, strict=True)
    return torch.cat([torchs(q, k, v, mask=mask) for q, k, v, mask in parts], dim=1), None


def _fits_flash(*tensors: Tensor) -> bool:
    types = {tensor.dtype for tensor in tensors}
    return types in ({torch.bfloat16}, {torch.float16}) and tensors[0].shape[-1] <= WIDEST


def flash(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scaling: float | None
) -> Tensor:
    """Causal FlashAttention within packed rows, on a GPU; see `attend`."""
    from torch.nn.attention.varlen import varlen_attn

    found = varlen_attn(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        ends,
        ends,
        longest,
        longest,
        scale=scaling,
        window_size=(-1, 0),  # causal
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(found, Tensor)  # without `return_aux`
    return found[None]
