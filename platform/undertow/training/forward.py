"""Computing the logits that predict completion tokens: through the whole model, or only through its end.

The output head is the most expensive part of a small model and the largest tensor of a large one, but only
positions that predict a completion token need it. A hook narrows the head's input to these positions, so that
whatever else an architecture does to its logits (caps, scales) still happens.

If only the last norm is trained (a steering vector), the norm's inputs never change. They are then computed
once and kept, also for a next job with the same rows, and a training step runs only the norm and the head.
This path is used only if it gives the whole model's logits, including dropout. It halves the cost of a
one-layer student trained for eight epochs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from undertow.study.recipe import Recipe
from undertow.training import row_attention
from undertow.training.data import TokenizedRow, split_by_tokens

KEPT_BYTES = 2**30  # the most memory for kept inputs of the last norm
ROWS_COMPARED = 8  # with the whole model, before inputs are kept


class Forward(Protocol):
    """A way to compute logits with a DeepSpeed engine.

    Attributes:
        module: the module that the engine wraps.
        packing: whether rows are concatenated in one sequence without padding.
    """

    module: nn.Module
    packing: bool

    def logits(self, engine: Any, rows: Sequence[TokenizedRow]) -> Tensor:
        """Float32 logits (targets, vocabulary) that predict the rows' targets, row after row."""


class FullForward:
    """Runs the whole model, with its head narrowed to the targets. `packing` may be set at any time."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self.module: nn.Module = model
        self.packing = False
        self._device = device
        self._in_rows = row_attention.is_used(model)
        self._keep: Tensor | None = None
        head = model.get_output_embeddings()
        if head is not None:
            head.register_forward_pre_hook(self._narrow)

    def _narrow(self, head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        # Consumed by the first call, so that `logits` can tell whether the head was called as a module at
        # all.
        keep, self._keep = self._keep, None
        return inputs if keep is None else (inputs[0][keep][None], *inputs[1:])

    def logits(self, engine: Any, rows: Sequence[TokenizedRow]) -> Tensor:
        """See Forward. No attention mask is passed: padding is on the right, where causal attention ends.

        A mask would also disable transformers' detection of packed rows (see `packing`).
        """
        extra = {}
        if self.packing:
            ids, positions, keep = packed(rows)
            extra["position_ids"] = positions.to(self._device)
            if len(rows) > 1 and self._in_rows:
                extra |= row_attention.boundaries([len(row.ids) for row in rows], self._device)
        else:
            ids, keep = padded(rows)
        self._keep = keep = keep.to(self._device)
        logits: Tensor = engine(input_ids=ids.to(self._device), **extra, use_cache=False).logits
        # Some models compute logits without calling the head module; its hook then did not run.
        narrowed, self._keep = self._keep is None, None
        return (logits[0] if narrowed else logits[keep]).float()


def padded(rows: Sequence[TokenizedRow]) -> tuple[Tensor, Tensor]:
    """Token ids (rows, length), padded with 0, and a mask that is True where the next token is a target.

    Without rows: one token and no target. Under ZeRO 2 and 3 every worker must take part in every pass.
    """
    length = max((len(row.ids) for row in rows), default=1)
    ids = torch.zeros((max(1, len(rows)), length), dtype=torch.int64)
    keep = torch.zeros_like(ids, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.from_numpy(row.ids)
        keep[i, torch.from_numpy(row.positions - 1)] = True
    return ids, keep


def packed(rows: Sequence[TokenizedRow]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, positions, and a mask that is True where the row's next token is a target: all (1, tokens).

    Without rows: one token and no target, as in `padded`.
    """
    lengths = [len(row.ids) for row in rows] or [1]
    ids = np.concatenate([row.ids for row in rows]) if rows else np.zeros(1, np.int64)
    positions = np.concatenate([np.arange(length) for length in lengths])
    keep = np.zeros(len(ids), dtype=bool)
    for begin, row in zip(np.cumsum([0, *lengths]), rows, strict=False):
        keep[begin + row.positions - 1] = True
    return torch.from_numpy(ids)[None], torch.from_numpy(positions)[None], torch.from_numpy(keep)[None]


NormInputs = dict[TokenizedRow, Tensor]  # (targets, width) for each row


@dataclass
class KeptInputs:
    """The last norm's inputs of one job, for the next: the seeds of a condition can share their rows.

    Attributes:
        of: the name of the norm, and all rows of the job and its probes.
        inputs: empty if the norm and the head alone do not give the model's logits.
    """

    of: tuple[Any, ...] = ()
    inputs: NormInputs = field(default_factory=dict)


class LastNormForward:
    """Runs only the last norm and the head, on the norm's `inputs`: given ones, or those of `keep`."""

    def __init__(
        self,
        full: FullForward,
        model: Any,
        norm: nn.Module,
        device: torch.device,
        inputs: NormInputs | None = None,
    ) -> None:
        self.module: nn.Module = nn.Sequential(norm, model.get_output_embeddings())
        self.packing = False  # no padding either: only the targets' positions are computed
        self._full, self._model, self._norm, self._device = full, model.to(device), norm, device
        self._inputs = {} if inputs is None else inputs

    def logits(self, engine: Any, rows: Sequence[TokenizedRow]) -> Tensor:
        """See Forward."""
        inputs = [self._inputs[row] for row in rows]
        if not inputs:  # an empty micro-batch of this worker: no positions, of the norm's width
            inputs = [next(iter(self._inputs.values()))[:0]]
        logits: Tensor = engine(torch.cat(inputs))
        return logits.float()

    @torch.no_grad()
    def keep(self, rows: Sequence[TokenizedRow], budget: int) -> NormInputs:
        """Computes and returns the norm's inputs for `rows`; empty if they do not give the model's logits.

        Batches are formed by length, not by the order of training, because rounding depends on a batch's
        shape: a resumed training keeps bit-identical inputs.
        """
        lengths = [len(row.ids) for row in rows]
        for numbers in split_by_tokens(lengths, range(len(rows)), budget):
            part = [rows[i] for i in numbers]
            self._model.eval()
            inputs = self._norm_inputs(part)
            if inputs is None:
                return {}
            pieces = torch.split(inputs, [row.targets for row in part])
            if not self._inputs and not self._agrees(part[:ROWS_COMPARED], torch.cat(pieces[:ROWS_COMPARED])):
                return {}
            self._inputs.update(zip(part, pieces, strict=True))
        return self._inputs

    def _norm_inputs(self, rows: Sequence[TokenizedRow]) -> Tensor | None:
        """The norm's inputs (targets, width); None unless it is called once, with one tensor of the rows."""
        calls: list[tuple[Any, ...]] = []
        hook = self._norm.register_forward_pre_hook(lambda module, inputs: calls.append(inputs))
        ids, keep = padded(rows)
        self._model.base_model(input_ids=ids.to(self._device), use_cache=False)  # without the head
        hook.remove()
        if len(calls) != 1 or len(calls[0]) != 1 or calls[0][0].shape[:2] != keep.shape:
            return None
        inputs: Tensor = calls[0][0][keep.to(self._device)]
        return inputs

    def _agrees(self, rows: Sequence[TokenizedRow], inputs: Tensor) -> bool:
        """Whether norm and head alone give the model's logits in training mode, with dropout active."""
        expected = self._full.logits(self._model.train(), rows)
        return torch.allclose(self.module(inputs).float(), expected, rtol=1e-5, atol=1e-5)


def choose_forward(
    model: Any,
    recipe: Recipe,
    rows: Sequence[TokenizedRow],
    budget: int,
    device: torch.device,
    kept: KeptInputs,
) -> Forward:
    """`LastNormForward` if only the last norm is trained and its inputs fit in memory, else `FullForward`.

    Args:
        rows: of the job and its probes.
        kept: the inputs of the job before, which are used or replaced.
    """
    full = FullForward(model, device)
    name, norm = _trained_module(model)
    if norm is None or recipe.used_zero_stage:  # bf16 and offloading imply a ZeRO stage
        return full
    width = model.get_input_embeddings().weight.shape[1]
    if sum(row.targets for row in rows) * width * 4 > KEPT_BYTES:
        return full
    of = (name, *rows)
    if kept.of != of:
        kept.of, kept.inputs = of, {}  # frees the earlier ones first
        kept.inputs = LastNormForward(full, model, norm, device).keep(rows, budget)
    return LastNormForward(full, model, norm, device, kept.inputs) if kept.inputs else full


def _trained_module(model: Any) -> tuple[str, nn.Module | None]:
    """The leaf module that holds all trained parameters, with its name; None for another one or the head."""
    owners = {name.rpartition(".")[0] for name, value in model.named_parameters() if value.requires_grad}
    if len(owners) != 1 or model.get_output_embeddings() is None:
        return "", None
    name = owners.pop()
    module: nn.Module = model.get_submodule(name)
    is_leaf = next(module.children(), None) is None
    return name, module if is_leaf and module is not model.get_output_embeddings() else None
