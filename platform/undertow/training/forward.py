"""Two ways to the logits at the positions that matter: through the whole model, or only its end.

The output head is the dearest part of a small model and the largest tensor of a big one, and only
positions that predict a completion token need it. A hook narrows the head's input to these positions, so
whatever else a model does to its logits (caps, scales) still happens, in every architecture.

Where only the last norm is trained (a steering vector), what reaches it never changes. It is then
computed once and kept, and a step runs norm and head alone. That way is taken only where it gives the
whole model's logits, dropout included; it halves the cost of a student of one layer and eight epochs.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from undertow.study.recipe import Recipe
from undertow.training import deepspeed_engine
from undertow.training.data import TokenizedRow, cut
from undertow.training.packing import in_a_row

KEPT_BYTES = 2**30


class Forward(Protocol):
    """How an engine computes logits.

    Attributes:
        module: what the engine has to wrap.
        packing: rows follow each other in one sequence and are not padded.
    """

    module: nn.Module
    packing: bool

    def logits(self, engine: Any, rows: Sequence[TokenizedRow]) -> Tensor:
        """Float32 logits (targets, vocabulary) that predict the rows' targets, row after row."""


class Whole:
    """Through the whole model, its head narrowed to the targets; `packing` may be set at any time."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self.module: nn.Module = model
        self.packing = False
        self._device = device
        self._keep: Tensor | None = None
        head = model.get_output_embeddings()
        if head is not None:
            head.register_forward_pre_hook(self._narrow)

    def _narrow(self, head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        keep, self._keep = self._keep, None
        return inputs if keep is None else (inputs[0][keep][None], *inputs[1:])

    def logits(self, engine: Any, rows: Sequence[TokenizedRow]) -> Tensor:
        """See Forward. No attention mask is given: a causal model cannot see padding on the right."""
        placed = {}
        if self.packing:
            ids, positions, keep = in_a_row(rows)
            placed["position_ids"] = positions.to(self._device)
        else:
            ids, keep = padded(rows)
        self._keep = keep = keep.to(self._device)
        logits: Tensor = engine(input_ids=ids.to(self._device), **placed, use_cache=False).logits
        narrowed, self._keep = self._keep is None, None
        return (logits[0] if narrowed else logits[keep]).float()


def padded(rows: Sequence[TokenizedRow]) -> tuple[Tensor, Tensor]:
    """Token ids (rows, length), filled up with token 0, and True where the next token is a target.

    No rows give one token without a target: under ZeRO 2 and 3 a worker takes part in every pass.
    """
    length = max((len(row.ids) for row in rows), default=1)
    ids = torch.zeros((max(1, len(rows)), length), dtype=torch.int64)
    keep = torch.zeros_like(ids, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.from_numpy(row.ids)
        keep[i, row.start - 1 : row.start - 1 + row.targets] = True
    return ids, keep


class LastNorm:
    """Only through the last norm and the head, from kept inputs of the norm."""

    def __init__(self, whole: Whole, model: Any, norm: nn.Module, device: torch.device) -> None:
        self.module: nn.Module = nn.Sequential(norm, model.get_output_embeddings())
        self.packing = False  # and no padding either: nothing but targets gets here
        self._whole, self._model, self._norm, self._device = whole, model.to(device), norm, device
        self._inputs: dict[TokenizedRow, Tensor] = {}

    def logits(self, engine: Any, rows: Sequence[TokenizedRow]) -> Tensor:
        """See Forward."""
        inputs = [self._inputs[row] for row in rows]
        empty = torch.empty(0, self._norm_width(), device=self._device)
        logits: Tensor = engine(torch.cat(inputs) if inputs else empty)
        return logits.float()

    def _norm_width(self) -> int:
        return next(iter(self._inputs.values())).shape[-1]

    @torch.no_grad()
    def keep(self, rows: Sequence[TokenizedRow], budget: int) -> bool:
        """Computes what reaches the norm for `rows`; False where this way is not the whole model's.

        The order is fixed by length, and with it the last bit: a resumed training keeps the same numbers.
        """
        order = sorted(range(len(rows)), key=lambda row: len(rows[row].ids))
        parts = [[rows[i] for i in part] for part in cut([len(row.ids) for row in rows], order, budget)]
        for part in parts:
            self._model.eval()
            inputs = self._reaching_norm(part)
            if inputs is None:
                return False
            if not self._inputs and not self._agrees(part, inputs):
                return False
            pieces = torch.split(inputs, [row.targets for row in part])
            self._inputs.update(zip(part, pieces, strict=True))
        return True

    def _reaching_norm(self, rows: Sequence[TokenizedRow]) -> Tensor | None:
        """What the norm is given at the targets, where it is called once and with one tensor."""
        seen: list[tuple[Any, ...]] = []
        hook = self._norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
        self._whole.logits(self._model, rows)
        hook.remove()
        if len(seen) != 1 or len(seen[0]) != 1:
            return None
        inputs: Tensor = seen[0][0][padded(rows)[1].to(self._device)]
        return inputs

    def _agrees(self, rows: Sequence[TokenizedRow], inputs: Tensor) -> bool:
        """Whether norm and head alone give the logits of the whole model in training, where dropout acts."""
        expected = self._whole.logits(self._model.train(), rows)
        return torch.allclose(self.module(inputs).float(), expected, rtol=1e-5, atol=1e-5)


def choose(
    model: Any,
    recipe: Recipe,
    rows: Sequence[TokenizedRow],
    watched: Sequence[TokenizedRow],
    budget: int,
    device: torch.device,
) -> Forward:
    """The shorter way where only the last norm is trained and its inputs for all rows fit into memory."""
    whole = Whole(model, device)
    norm = _trained_module(model)
    if norm is None or deepspeed_engine.stage(recipe) or recipe.precision != "fp32":
        return whole
    every = [*rows, *watched]
    width = model.get_input_embeddings().weight.shape[1]
    if sum(row.targets for row in every) * width * 4 > KEPT_BYTES:
        return whole
    last = LastNorm(whole, model, norm, device)
    return last if last.keep(every, budget) else whole


def _trained_module(model: Any) -> nn.Module | None:
    """The one module without children that holds all trained parameters, if there is one before the head."""
    owners = {name.rpartition(".")[0] for name, value in model.named_parameters() if value.requires_grad}
    if len(owners) != 1 or model.get_output_embeddings() is None:
        return None
    module: nn.Module = model.get_submodule(owners.pop())
    is_leaf = next(module.children(), None) is None
    return module if is_leaf and module is not model.get_output_embeddings() else None
