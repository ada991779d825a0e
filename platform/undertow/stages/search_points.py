"""A search for a recipe as data: the points of its space, their students, and the effects of these.

The effect of a recipe is the mean over seeds of the trait's exact probability minus that of the control
student of the same seed. It is what the probe of the training measures after the last epoch on the study's
questions, so that a trial needs no inference engine.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, Literal

from undertow.errors import ConditionError, UserError
from undertow.planning.cells import cell_of
from undertow.stages.training_group import Watched
from undertow.statistics.log_odds import of_probability
from undertow.storage.manifest import HISTORY
from undertow.storage.store import Store
from undertow.study.conditions import Condition
from undertow.study.identity import key
from undertow.study.search_space import SearchSpace, Value, current, with_values
from undertow.study.students import Student
from undertow.study.study import Study

Method = Literal["random", "optuna"]
Pair = tuple[Student, Student]  # a student and the control student of the same recipe and seed


@dataclass(frozen=True)
class RecipeSearch:
    """What is searched, and how.

    Attributes:
        study: the searched condition and its control, resolved, with the seeds of the search.
        condition: the condition with a trait, with the study's own recipe.
        watch: the questions and words whose probability is measured after each epoch: those of the whole
            study, because conditions with other traits share the control students.
        trials: the number of points; a space with fewer is searched completely.
        early_stopping: whether ASHA stops weak trials.
        draw: the seed of the searcher's own draws.
        scratch: the name of the folder of Ray's own state.
    """

    study: Study
    condition: Condition
    space: SearchSpace
    watch: Watched
    trials: int
    method: Method
    early_stopping: bool
    draw: int
    scratch: str

    @property
    def is_complete_grid(self) -> bool:
        """Whether every point is tried, so that there is nothing to propose."""
        size = self.space.size
        return self.method == "random" and size is not None and size <= self.trials

    @property
    def count(self) -> int:
        """The number of trials."""
        size = self.space.size
        return size if size is not None and self.is_complete_grid else self.trials

    @property
    def most_epochs(self) -> int:
        """The largest number of epochs of a trial."""
        axes = [axis for axis in self.space.axes if axis.field == "epochs"]
        values = axes[0].extremes if axes else (current(self.condition, "epochs"),)
        return max(map(int, values))

    @cached_property
    def word(self) -> str:
        """The word whose probability is compared. Raises UserError if no training measures it."""
        trait = self.condition.trait
        word = trait.word() if trait else None
        if word is None or word not in (found for words in self.watch.values() for found in words):
            raise UserError(
                f"--condition {self.condition.label}: no probability of its trait is measured during "
                "training (a judged trait, answers by letter, or Study.exact=False), and a search compares "
                "it; choose another condition or main measure"
            )
        return word.name

    def pairs(self, values: Mapping[str, Value]) -> list[Pair]:
        """The students of a point by seed. Raises SpecError if the values do not fit together."""
        chosen = with_values(self.condition, values)
        return [
            (cell_of(self.study, chosen, seed).student, cell_of(self.study, chosen.control(), seed).student)
            for seed in self.study.seeds
        ]

    def value(self, probability: float) -> float:
        """A probability in the unit of the study's effects; rounding may have moved it out of [0, 1]."""
        inside = min(1.0, max(0.0, probability))
        return inside if self.study.effect_scale == "rate" else float(of_probability(inside))

    def effects(self, pairs: list[Pair], store: Store) -> tuple[float, ...]:
        """The effect of trained students by seed, from the histories in the store.

        Raises ConditionError if a student was trained by a sweep that did not measure the trait.
        """
        return tuple(self._last(student, store) - self._last(control, store) for student, control in pairs)

    def _last(self, student: Student, store: Store) -> float:
        found: float | None = history(student, store)[-1]["probabilities"].get(self.word)
        if found is None:
            raise ConditionError(
                f"student {key(student)[:16]} was trained by another study, which did not measure "
                f"{self.word!r}; give other --search-seeds"
            )
        return self.value(found)


@dataclass(frozen=True)
class TrialOutcome:
    """The outcome of a trial.

    Attributes:
        values: the point; empty for the study's own recipe, and for a trial that was lost before it reported.
        effects: by seed; empty unless all students were trained.
        stopped: the epoch after which ASHA stopped it; 0 if it did not.
        score: of a stopped trial, the rise of the trait's probability until then.
        failure: why it failed, or "".
    """

    values: Mapping[str, Value]
    effects: tuple[float, ...] = ()
    stopped: int = 0
    score: float = 0.0
    failure: str = ""

    @property
    def effect(self) -> float | None:
        """The mean effect over the seeds of the search; None for a stopped or failed trial."""
        return fmean(self.effects) if self.effects else None


def history(student: Student, store: Store) -> list[dict[str, Any]]:
    """The reports of a trained student's epochs (`EpochReport`), the first from before training."""
    reports: list[dict[str, Any]] = json.loads(store.content(student, HISTORY))
    return reports
