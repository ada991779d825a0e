"""Learning-rate schedules over the actual number of optimizer steps.

The rate rises linearly during warm-up and reaches its peak at step `warmup`. No step has a rate of zero: in
the usual formulation the first step has, and is wasted.
"""

import math
from typing import Literal


def factor(step: int, total: int, warmup: int, kind: Literal["linear", "cosine", "constant"]) -> float:
    """The fraction, in (0, 1], of the peak learning rate at step `step` (from 0) of `total`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    if kind == "linear":
        return max(0.0, 1.0 - progress)
    if kind == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return 1.0
