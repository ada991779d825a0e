"""A message about a field of a spec names the flag, unless the user wrote the spec."""

from dataclasses import dataclass

import pytest

from undertow.cli.entry import _with_flag


@dataclass(frozen=True)
class Arguments:
    alpha: float = 0.05
    probe_steps: int = 3
    rows: int = 100


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("AuditSpec.alpha = 5.0: a rate between 0 and 1", "--alpha 5.0: a rate between 0 and 1"),
        ("OneStep.probe_steps = 0: at least 1", "--probe-steps 0: at least 1"),
        ("OneStep.width = 0: at least 1", "OneStep.width = 0: at least 1"),  # no flag sets it
        ("Generation.rows = 700: more rows", "Generation.rows = 700: more rows"),  # of a study file
        ("--rows 5: an audit needs more", "--rows 5: an audit needs more"),
    ],
)
def test_a_message_names_what_the_user_wrote(message: str, shown: str) -> None:
    assert _with_flag(message, Arguments) == shown
