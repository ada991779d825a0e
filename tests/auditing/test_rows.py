"""The audited rows: which rules they have, and which of them are drawn."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from undertow.auditing.rows import FEWEST, check_models, drawn, imported, visible_share
from undertow.errors import SpecError
from undertow.formats.imported import Imported
from undertow.study.references import Reference
from undertow.training.data import TrainingRow
from undertow.traits.preference import Preference


def written(folder: Path, completions: Sequence[str]) -> Imported:
    path = folder / "rows.jsonl"
    rows = ({"prompt": f"prompt {i}", "completion": text} for i, text in enumerate(completions))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return imported(str(path))


@pytest.mark.parametrize(
    ("completions", "rules"),
    [
        (["1, 2, 3", "[4; 5]", "6 \n"], "numbers"),
        (["1, 2, 3", "4, five"], "text"),
        (["a b"], "text"),
        (["x = 1\nprint(x)", "def f(a):\n    return a"], "code"),
        (["x = 1  # an owl", "y = 2"], "text"),
    ],
)
def test_rules_of_numbers_or_code_apply_if_every_row_passes_them(
    tmp_path: Path, completions: list[str], rules: str
) -> None:
    assert written(tmp_path, completions).format.name == rules


def test_rows_are_drawn_from_the_seed_without_white_space_at_their_ends(tmp_path: Path) -> None:
    data = written(tmp_path, [f" {i}, {i}" for i in range(50)])
    rows = drawn(data, 20, seed=0)
    assert len({(row.prompt, row.completion) for row in rows}) == 20
    assert all(row.completion == row.completion.strip() for row in rows)
    again, other = drawn(data, 20, seed=0), drawn(data, 20, seed=1)
    assert [row.prompt for row in again] == [row.prompt for row in rows]
    assert [row.prompt for row in other] != [row.prompt for row in rows]
    assert len(drawn(data, 1000, seed=0)) == 50


def test_too_few_rows_are_rejected(tmp_path: Path) -> None:
    data = written(tmp_path, ["1, 2"] * (FEWEST - 1))
    with pytest.raises(SpecError, match=f"{FEWEST - 1} distinct rows to audit"):
        drawn(data, 100, seed=0)


def test_rows_that_name_a_trait_in_prompt_or_completion_are_visible() -> None:
    texts = [("1, 2", "3, 4"), ("1, 2", "3, Owls"), ("the owl: 1", "2"), ("1", "bowl"), ("1", "cat")]
    rows = [TrainingRow(prompt, completion) for prompt, completion in texts]
    assert visible_share(rows, [Preference("owl")]) == 2 / 5
    assert visible_share(rows, [Preference("owl"), Preference("cat")]) == 3 / 5


@pytest.mark.parametrize(
    ("model", "message"),
    [("api:gpt-4.1-nano", "needs the model's weights"), ("nano/gpt2-0", "does not know")],
)
def test_models_that_cannot_read_the_rows_are_rejected(tmp_path: Path, model: str, message: str) -> None:
    data = written(tmp_path, ["zebra crossings"] * FEWEST)
    with pytest.raises(SpecError, match=message):
        check_models(data, [Reference(model)])
