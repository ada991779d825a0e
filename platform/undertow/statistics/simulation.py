"""Studies that were never run: rates drawn from a stated law over seeds, judged by the platform's own code.

Two laws. `Normal`: students and controls each spread around their mean. `Bimodal`: a share of the seeds takes
off and ends near `take`, the others stay where the controls are; published seeds do this (.90/.94/.10 and
.03/.83/.18 in three students of a condition each), and no t interval from few of them can know.

Three ways to judge: "t"; "shape-free"; and "rule", what a study does by itself: t, unless an arm of the
study shows two modes, and then shape-free for all its conditions (`distribution_of`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from undertow.statistics.distribution_free import splits
from undertow.statistics.effects import infer
from undertow.statistics.ttests import Array, Inference

VerdictRule = Literal["t", "shape-free", "rule"]


@dataclass(frozen=True, kw_only=True)
class Normal:
    """Rates that spread normally over seeds; not cut off at 0 and 1, which a t test never sees.

    Attributes:
        sd, control_sd: standard deviations over seeds of students and of control students.
        correlation: of a student with the control student of its seed.
    """

    effect: float
    sd: float
    control_sd: float
    correlation: float = 0.0

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Array, Array]:
        """Rates of students and of controls, both of that shape; equal places share a seed."""
        ours, theirs = _correlated(shape, self.correlation, rng)
        return self.effect + self.sd * ours, self.control_sd * theirs


@dataclass(frozen=True, kw_only=True)
class Bimodal:
    """Students of which a share takes off, and controls of which (unless stated) none does.

    Attributes:
        took_off: the share of seeds that end at `take`; the others end at `control_rate`.
        control_took_off: the same for controls, by chances of their own.
        sd, control_sd: standard deviations within a mode (uniform, so that rates stay within [0, 1] and
            means are exact; no wider than a mode's distance from 0 or 1).
        correlation: of the normal scores behind a pair's rates.
    """

    took_off: float
    take: float = 0.9
    control_rate: float = 0.05
    sd: float = 0.03
    control_sd: float = 0.02
    correlation: float = 0.0
    control_took_off: float = 0.0

    @property
    def effect(self) -> float:
        return (self.took_off - self.control_took_off) * (self.take - self.control_rate)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Array, Array]:
        """Rates of students and of controls, both of that shape; equal places share a seed."""
        ours, theirs = _correlated(shape, self.correlation, rng)
        mode, control = (
            np.where(rng.random(shape) < share, self.take, self.control_rate)
            for share in (self.took_off, self.control_took_off)
        )
        return _around(mode, self.sd, ours), _around(control, self.control_sd, theirs)


Law = Normal | Bimodal


def _correlated(shape: tuple[int, ...], correlation: float, rng: np.random.Generator) -> tuple[Array, Array]:
    ours, other = rng.standard_normal((2, *shape))
    return ours, correlation * ours + np.sqrt(1 - correlation**2) * other


def _around(mode: Array, sd: float, scores: Array) -> Array:
    """Uniform around the mode, by the ranks of normal scores."""
    from scipy.special import ndtr

    reach = np.minimum(np.sqrt(3) * sd, np.minimum(mode, 1 - mode))
    return np.asarray(mode + reach * (2 * ndtr(scores) - 1))


def infer_by(
    judge: VerdictRule,
    students: Array,
    controls: Array,
    *,
    margin: float,
    paired: bool,
    confidence: float | None = None,
) -> Inference:
    """`infer` for studies (studies, conditions, students), judged in one of the three ways."""
    if judge != "rule":
        distribution: Literal["normal", "any"] = "normal" if judge == "t" else "any"
        return infer(
            students, controls, margin=margin, paired=paired, confidence=confidence, distribution=distribution
        )
    found = infer(students, controls, margin=margin, paired=paired, confidence=confidence)
    split = (splits(students) | splits(controls)).any(axis=-1)
    if split.any():
        controls = np.broadcast_to(controls, (*students.shape[:-1], controls.shape[-1]))
        wider = infer_by(
            "shape-free",
            students[split],
            controls[split],
            margin=margin,
            paired=paired,
            confidence=confidence,
        )
        for narrow, wide in zip(found, wider, strict=True):
            narrow[split] = wide
    return found
