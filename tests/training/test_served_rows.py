"""Which rows a training scores for the check of served models, and how they are stored."""

import json
from pathlib import Path

import numpy as np
import pytest

from undertow.errors import StorageError
from undertow.training import served_rows
from undertow.training.data import TokenizedRow
from undertow.training.served_rows import LONGEST, ROWS, SCORED, SERVED_CHECK, CheckedRows, ServedRow


def row(first: int, prompt: int, completion: int) -> TokenizedRow:
    return TokenizedRow(np.arange(first, first + prompt + completion), prompt, completion)


def stored(rows: list[TokenizedRow], folder: Path, positions: int = 2**31) -> list[ServedRow]:
    """The rows that are stored for `rows`, with as many log-probabilities as there are tokens to score."""
    checked = CheckedRows(rows, positions, budget=4096)
    zeros = [[0.0] * SCORED for _ in range(ROWS)]
    scored = [values[:count] for values, count in zip(zeros, checked.scored, strict=False)]
    checked.write(folder, scored, scored)
    return served_rows.read(folder)


def test_rows_are_spread_over_the_data(tmp_path: Path) -> None:
    found = stored([row(first, 4, 3) for first in range(100)], tmp_path)
    assert [served.ids[0] for served in found] == [i * 100 // ROWS for i in range(ROWS)]
    assert {(served.start, len(served.trained)) for served in found} == {(4, 3)}


@pytest.mark.parametrize(
    ("prompt", "completion", "positions", "tokens"),
    [
        (10, 5, 2**31, 15),
        (10, 500, 2**31, 10 + SCORED),
        (LONGEST - 3, 500, 2**31, LONGEST),
        (LONGEST, 500, 2**31, None),  # no room for a token of the completion
        (10, 22, 32, 31),  # an engine needs room for one token more
    ],
)
def test_a_row_is_cut_after_its_scored_tokens(
    tmp_path: Path, prompt: int, completion: int, positions: int, tokens: int | None
) -> None:
    found = stored([row(0, prompt, completion)], tmp_path, positions)
    assert [len(served.ids) for served in found] == ([] if tokens is None else [tokens])
    assert (tmp_path / SERVED_CHECK).exists() == bool(found)
    assert all(len(served.trained) == len(served.ids) - prompt for served in found)


def test_only_the_tokens_in_the_loss_of_a_masked_row_are_scored(tmp_path: Path) -> None:
    mask = np.array([False, True, False, False, True, False])
    (found,) = stored([TokenizedRow(np.arange(9), 3, 2, mask=mask)], tmp_path)
    assert (found.ids, found.start, found.positions) == (tuple(range(8)), 3, (4, 7))
    assert len(found.trained) == 2
    assert found.scored([0.3, 0.4, 0.5, 0.6, 0.7]) == [0.4, 0.7]
    assert json.loads((tmp_path / SERVED_CHECK).read_text())["version"] == 2


def test_a_file_without_masked_rows_is_that_of_earlier_versions(tmp_path: Path) -> None:
    (found,) = stored([row(0, 4, 3)], tmp_path)
    assert found.scored([0.1, 0.2, 0.3]) == [0.1, 0.2, 0.3]
    content = json.loads((tmp_path / SERVED_CHECK).read_text())
    assert content["version"] == 1
    assert content["rows"][0].keys() == {"ids", "start", "reference", "trained"}


def test_a_file_of_a_later_version_is_an_error(tmp_path: Path) -> None:
    (tmp_path / SERVED_CHECK).write_text(json.dumps({"version": 3, "rows": []}))
    with pytest.raises(StorageError, match=f"{SERVED_CHECK}: version 3, not 1 or 2; use a newer Undertow"):
        served_rows.read(tmp_path)
