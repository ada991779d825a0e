"""Tests of one trial of a search, without Ray: what it reports if it fails."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune

from tests.examples import study
from undertow.errors import ConditionError
from undertow.stages import search_trial
from undertow.stages.search_trial import EPOCH, SCORE, WORST, run_trial


@pytest.mark.parametrize(
    "error", [ConditionError("2 of its 4 students"), ValueError("a fault"), OSError("full")]
)
def test_a_trial_that_fails_ends_with_the_worst_score_and_is_not_tried_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    reports: list[dict[str, Any]] = []
    messages: list[dict[str, str]] = []
    monkeypatch.setattr(search_trial, "_make_students", fail)
    monkeypatch.setattr(tune, "report", reports.append)
    search: Any = SimpleNamespace(
        study=study(),
        condition=study().conditions[0],
        space=SimpleNamespace(values=dict),
        pairs=lambda values: (),
    )
    queue = SimpleNamespace(put_nowait=messages.append)
    run_trial({}, search=search, store=None, machine=None, messages=queue)  # type: ignore[arg-type]
    (report,) = reports
    assert (report[SCORE], report[EPOCH]) == (WORST["rate"], 0)
    assert str(error) in report["failure"]
    assert ["ended" in message for message in messages] == [True]
