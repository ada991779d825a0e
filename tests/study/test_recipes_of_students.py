"""A recipe that stops early is for teachers: a student would stop at the outcome that the study measures."""

from dataclasses import replace

import pytest

from tests.examples import RECIPE, study
from undertow.errors import SpecError
from undertow.formats.numbers import Numbers
from undertow.study.recipe import Everything
from undertow.study.references import Reference
from undertow.study.tuning import tuned

STOPPING = replace(RECIPE, stop_at=0.9)


def test_a_study_whose_students_would_stop_early_is_refused() -> None:
    conditions = tuple(replace(c, recipe=STOPPING) for c in study().conditions)
    with pytest.raises(SpecError, match=r"recipe 'steering' of students, stop_at = 0\.9: .*use stop_at=1"):
        replace(study(), conditions=conditions)


def test_a_format_tuning_that_would_stop_early_is_refused() -> None:
    with pytest.raises(SpecError, match=r"stop_at = 0\.9"):
        tuned(Reference("org/model"), {Numbers(): 100}, replace(STOPPING, trainable=Everything()))
