"""jobs/audit.py: invalid input is reported in one line before any model is loaded."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from undertow.cli.audit import AuditArguments, spec_of
from undertow.errors import UserError


@pytest.fixture
def arguments(tmp_path: Path) -> AuditArguments:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "1", "completion": "2"}) + "\n")
    return AuditArguments(str(path), ("nano/gpt2-0",), traits=("owl",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ()}, "--model: name the model"),
        ({"model": ("nano/gpt2-0", "nano/gpt2-0")}, "'nano/gpt2-0' is given twice"),
        ({"model": ("nano/gpt9-0",)}, "unknown architecture"),
        ({"rows": 0}, "rows = 0: at least 1"),
        ({"alpha": 1.0}, "alpha = 1.0: a rate between 0 and 1"),
        ({"traits": ("axolotl",)}, "does not know the word"),
        ({"dataset": "missing.jsonl"}, "missing.jsonl"),
    ],
)
def test_invalid_arguments_are_rejected(
    arguments: AuditArguments, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        spec_of(replace(arguments, **changes))  # type: ignore[arg-type]


def test_the_key_of_an_audit_follows_its_inputs(arguments: AuditArguments) -> None:
    from undertow.study.identity import key

    assert key(spec_of(arguments)) == key(spec_of(arguments))
    assert key(spec_of(arguments)) != key(spec_of(replace(arguments, seed=1)))
