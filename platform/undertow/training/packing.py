"""Packing: a micro-batch's rows concatenated in one sequence, without padding or attention between rows.

Position ids restart with each row. Attention is computed within rows (`row_attention`). Models that it does
not fit get a block-diagonal causal mask, which transformers derives from the position ids, and whose cost
grows with the square of the micro-batch's tokens.

Not every architecture does this, and one that does not silently trains on rows that attend to each other.
Each training therefore tests its model first (`keeps_rows_apart`) and pads rows if the test fails.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from undertow.training.data import TokenizedRow
from undertow.training.forward import FullForward

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}  # relative to the logits' norm: rounding only


@torch.no_grad()
def keeps_rows_apart(forward: FullForward, engine: Any, rows: Sequence[TokenizedRow]) -> bool:
    """Whether a row packed behind another row has the logits that it has alone. Collective.

    The logits must be bit-identical when the preceding row changes, and equal those of the row alone up to
    the rounding of another shape. The second test alone would miss a leak that is smaller than its tolerance.
    Restores `forward` and the engine's mode.
    """
    before, row = rows[0], rows[-1]
    # Of the same length, so that only the content of the preceding row differs, not the shape of any tensor.
    other = replace(before, ids=before.ids[::-1].copy())
    was_packing, was_training = forward.packing, engine.training
    engine.eval()  # dropout would make any two passes differ
    forward.packing = True
    first, second = (forward.logits(engine, [front, row])[-row.targets :] for front in (before, other))
    forward.packing = False
    alone = forward.logits(engine, [row])
    forward.packing = was_packing
    engine.train(was_training)
    tolerance = TOLERANCE[next(engine.parameters()).dtype]
    return torch.equal(first, second) and bool((first - alone).norm() <= tolerance * alone.norm())
