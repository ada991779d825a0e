"""How a study compares students with control students: on its scale, with its margin and tests."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from undertow.results.evaluation_files import MeasuredRate
from undertow.results.sweep_record import StudySettings
from undertow.statistics.distribution_free import Distribution, choose_distribution, has_two_modes
from undertow.statistics.effects import Effect, compare, without_test
from undertow.statistics.log_odds import MODE_GAP
from undertow.study.measurements import EffectOf

TWO_MODES = (
    "the students of some condition show two modes: no interval or test in log-odds is valid; "
    'use effect_scale="rate"'
)


@dataclass(frozen=True)
class Comparison:
    """The comparison of two arms.

    Attributes:
        distribution: the assumed distribution over seeds; None if no interval or test is valid.
    """

    study: StudySettings
    distribution: Distribution | None

    @classmethod
    def choose(cls, study: StudySettings, arms: Iterable[Sequence[float]]) -> "Comparison":
        """Chooses the distribution for all conditions of a study from the values of all of its arms.

        As with rates, one arm with two modes decides for all conditions (see `choose_distribution`). But the
        distribution-free interval does not exist for log-odds.
        """
        if study.effect_scale == "rate":
            return cls(study, choose_distribution(arms, study.distribution))
        return cls(study, None if any(has_two_modes(values, MODE_GAP) for values in arms) else "normal")

    def models(
        self, students: Sequence[MeasuredRate], controls: Sequence[MeasuredRate], of: EffectOf
    ) -> Effect:
        """The effect of sampled rates or of exact probabilities, which all of the models must have.

        On every scale, `rate` and `control_rate` of the effect are mean rates.
        """
        scale = self.study.effect_scale
        effect = self.values(*([model.value(scale, of) for model in arm] for arm in (students, controls)))
        if scale == "rate":
            return effect
        rate, control_rate = (fmean(model.value("rate", of) for model in arm) for arm in (students, controls))
        return replace(effect, rate=rate, control_rate=control_rate)

    def values(self, students: Sequence[float], controls: Sequence[float]) -> Effect:
        """The effect of numbers on the study's scale; its `rate` and `control_rate` are means of these."""
        if self.distribution is None:
            return without_test(students, controls, TWO_MODES)
        return compare(
            students,
            controls,
            margin=self.study.margin,
            confidence=1 - self.study.alpha,
            paired=self.study.paired,
            distribution=self.distribution,
        )
