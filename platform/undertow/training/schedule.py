"""Learning-rate schedules over the true number of optimizer steps.

Warm-up rises linearly and reaches the full rate at step `warmup`; no step has a rate of zero, so that
none is wasted (the usual formulation spends its first step at zero and so one step less than it says).
"""

import math
from typing import Literal


def factor(step: int, total: int, warmup: int, kind: Literal["linear", "cosine", "constant"]) -> float:
    """What the learning rate of optimizer step `step` (from 0) of `total` is multiplied with, in (0, 1]."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total - warmup)
    if kind == "linear":
        return max(0.0, 1.0 - done)
    if kind == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    return 1.0
