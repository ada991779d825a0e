"""Simulated studies: rates drawn from a stated distribution over seeds and judged by the platform's own code.

There are two distributions ("laws"). `Normal`: students and controls vary normally around their means.
`Bimodal`: a share of the seeds takes off, that is, ends near the rate `take`, and the others stay at the
controls' rate. Published seeds behave like this (.90/.94/.10 and .03/.83/.18 in three students of a
condition), and a t interval from few such seeds is not valid.

There are three verdict rules: "t", "shape-free", and "rule", which is what a study does by default: t, unless
an arm of the study shows two modes, and then shape-free for all its conditions (`choose_distribution`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from undertow.statistics.distribution_free import have_two_modes
from undertow.statistics.effects import infer
from undertow.statistics.ttests import Array, Inference

VerdictRule = Literal["t", "shape-free", "rule"]


@dataclass(frozen=True, kw_only=True)
class Normal:
    """Rates that vary normally over seeds.

    Rates are not truncated to [0, 1], because t tests do not depend on these limits.

    Attributes:
        effect: mean of the students minus mean of the controls, which is 0.
        sd, control_sd: standard deviations over seeds of students and of control students.
        correlation: correlation between a student and the control student of its seed.
    """

    effect: float
    sd: float
    control_sd: float
    correlation: float = 0.0

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Array, Array]:
        """Draws rates of students and of controls, both of `shape`; equal indices share a seed."""
        scores, control_scores = _correlated_scores(shape, self.correlation, rng)
        return self.effect + self.sd * scores, self.control_sd * control_scores


@dataclass(frozen=True, kw_only=True)
class Bimodal:
    """Rates with two modes over seeds: a share of the students takes off; by default, no control does.

    Attributes:
        took_off: the share of students that end near `take`; the others end near `control_rate`.
        take: mean rate of those that take off.
        control_rate: mean rate of those that do not.
        sd, control_sd: standard deviations within a mode. Within a mode, rates are uniform and no wider than
            the mode's distance from 0 or 1, so that they stay in [0, 1] and means are exact.
        correlation: correlation of the normal scores behind the rates of a pair.
        control_took_off: the share of controls that take off, independently of the students.
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
        """Draws rates of students and of controls, both of `shape`; equal indices share a seed."""
        scores, control_scores = _correlated_scores(shape, self.correlation, rng)
        mode, control_mode = (
            np.where(rng.random(shape) < share, self.take, self.control_rate)
            for share in (self.took_off, self.control_took_off)
        )
        return _uniform_around(mode, self.sd, scores), _uniform_around(
            control_mode, self.control_sd, control_scores
        )


Law = Normal | Bimodal


def _correlated_scores(
    shape: tuple[int, ...], correlation: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draws two arrays of standard normal scores with the given elementwise correlation."""
    scores, independent = rng.standard_normal((2, *shape))
    return scores, correlation * scores + np.sqrt(1 - correlation**2) * independent


def _uniform_around(mode: Array, sd: float, scores: Array) -> Array:
    """Maps normal scores to uniform values in [0, 1] around `mode`, with a standard deviation of `sd`."""
    from scipy.special import ndtr

    half_width = np.minimum(np.sqrt(3) * sd, np.minimum(mode, 1 - mode))
    return np.asarray(mode + half_width * (2 * ndtr(scores) - 1))


def infer_with_rule(
    rule: VerdictRule,
    students: Array,
    controls: Array,
    *,
    margin: float,
    paired: bool,
    confidence: float | None = None,
) -> Inference:
    """Applies `effects.infer` to studies (studies, conditions, students) under a verdict rule."""
    if rule != "rule":
        distribution: Literal["normal", "any"] = "normal" if rule == "t" else "any"
        return infer(
            students, controls, margin=margin, paired=paired, confidence=confidence, distribution=distribution
        )
    inferred = infer(students, controls, margin=margin, paired=paired, confidence=confidence)
    # One arm with two modes changes the method for all conditions of its study.
    bimodal = (have_two_modes(students) | have_two_modes(controls)).any(axis=-1)
    if bimodal.any():
        controls = np.broadcast_to(controls, (*students.shape[:-1], controls.shape[-1]))
        shape_free = infer(
            students[bimodal],
            controls[bimodal],
            margin=margin,
            paired=paired,
            confidence=confidence,
            distribution="any",
        )
        for values, replacements in zip(inferred, shape_free, strict=True):
            values[bimodal] = replacements
    return inferred
