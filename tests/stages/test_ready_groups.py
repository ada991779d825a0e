"""Tests of the searcher that hands worker groups to Ray Tune as they become ready."""

import pickle
from typing import Any

import pytest
from ray.tune.search import Searcher

from tests.examples import study
from tests.stages.test_grouping import cells
from undertow.cluster.interrupts import StoppedError, allow_pipelines, stopped_on_error
from undertow.stages.ready_groups import ReadyGroups
from undertow.stages.training_group import Group
from undertow.stages.trials import group_parameters
from undertow.study.identity import key

FIRST, SECOND = (Group((cell.student,)) for cell in cells(study())[:2])


def test_tune_gets_the_groups_in_their_order_with_what_they_train() -> None:
    ready = ReadyGroups()
    assert [ready.add(FIRST), ready.add(SECOND)] == [0, 1]
    trials = [ready.suggest("a"), ready.suggest("b")]
    assert trials == [
        {"group": number, **group_parameters(group), "keys": [key(group.models[0])]}
        for number, group in enumerate([FIRST, SECOND])
    ]


def test_tune_waits_while_a_trial_runs_and_no_group_is_ready() -> None:
    ready = ReadyGroups()
    ready.add(FIRST)
    ready.suggest("a")
    assert ready.suggest("b") is None
    ready.add(SECOND)
    assert ready.suggest("b")["group"] == 1


def test_the_run_of_tune_ends_after_the_last_group() -> None:
    ready = ReadyGroups()
    ready.add(FIRST)
    ready.close()
    assert ready.suggest("a")["group"] == 0
    ready.on_trial_complete("a")
    assert ready.suggest("b") == Searcher.FINISHED


def test_an_interrupt_ends_the_run_that_waits_for_a_group() -> None:
    with pytest.raises(KeyboardInterrupt), stopped_on_error():
        raise KeyboardInterrupt
    with pytest.raises(StoppedError):
        ReadyGroups().suggest("a")
    allow_pipelines()


def test_tune_can_save_it_without_the_groups() -> None:
    ready: Any = ReadyGroups()
    ready.add(FIRST)
    again = pickle.loads(pickle.dumps(ready))
    again.close()
    assert again.suggest("a") == Searcher.FINISHED
