"""LoRA adapters in vLLM on a CPU: two matrix products for each adapter of a batch.

vLLM's own operations for CPUs copy the matrices of an adapter for every token, which took 60 % of the time of
a nano model. They also compute a token without an adapter with that of the last slot, if another request of
the batch has one (vLLM 0.32).

vLLM creates this class by its name (`runtime.lean_on_cpu`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import linear
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

Rows = slice | torch.Tensor


class CPUAdapters(PunicaWrapperCPU):
    """Applies the adapters of a batch, each to the tokens of its requests."""

    _rows: Sequence[tuple[int, Rows]] = ()  # of this batch

    def update_metadata(self, *arguments: Any, **settings: Any) -> None:
        """Takes the adapters of the tokens of a batch."""
        super().update_metadata(*arguments, **settings)
        self._rows = rows_of_adapters(self.token_lora_indices)

    def _apply_shrink(self, y: torch.Tensor, x: torch.Tensor, w_t_all: torch.Tensor, scale: float) -> None:
        """y = x A^T · scale; y: (tokens, rank), x: (tokens, width), all A: (slots, 1, rank, width)."""
        for adapter, rows in self._rows:
            y[rows] = scale * linear(x[rows].to(y.dtype), w_t_all[adapter, 0].to(y.dtype))

    def _apply_expand(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        w_t_all: torch.Tensor,
        y_offset: int,
        y_slice_size: int,
        add_inputs: bool = True,
    ) -> None:
        """y += x B^T in columns of y; x: (tokens, rank), all B: (slots, 1, columns, rank)."""
        part = y[:, y_offset : y_offset + y_slice_size]
        for adapter, rows in self._rows:
            change = linear(x[rows].to(y.dtype), w_t_all[adapter, 0].to(y.dtype))
            part[rows] = part[rows] + change if add_inputs else change


def rows_of_adapters(slots: torch.Tensor) -> list[tuple[int, Rows]]:
    """The rows of each adapter, a slice if they follow each other.

    Args:
        slots: the adapter's slot for each token, -1 for tokens without one.
    """
    found: list[tuple[int, Rows]] = []
    for slot in sorted(set(slots.tolist())):
        rows = (slots == slot).nonzero().squeeze(1)
        start, stop = int(rows[0]), int(rows[-1]) + 1
        if slot >= 0:
            found.append((slot, slice(start, stop) if stop - start == len(rows) else rows))
    return found
