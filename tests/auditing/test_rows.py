"""The audited rows: which rules they have, and which of them are drawn."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from undertow.auditing.rows import FEWEST, check_local, check_readable, drawn, imported, title, visible_share
from undertow.errors import SpecError
from undertow.formats.imported import Imported
from undertow.formats.numbers import Numbers
from undertow.formats.reasoning import Reasoning
from undertow.presets.scales import NANO
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


@pytest.mark.parametrize("format_", [Reasoning(), NANO.reasoning.format], ids=["shipped", "nano"])
def test_rules_of_reasoning_apply_to_right_answers_to_its_own_problems(
    tmp_path: Path, format_: Reasoning
) -> None:
    prompts = format_.prompts(20, seed=0)
    right = [format_.right_answer(prompt) for prompt in prompts]

    def with_answers(name: str, answers: Sequence[str | None]) -> Imported:
        path = tmp_path / name
        completions = [f"<think>sum</think><answer>{answer}</answer>" for answer in answers]
        both = ({"prompt": p, "completion": c} for p, c in zip(prompts, completions, strict=True))
        path.write_text("".join(json.dumps(row) + "\n" for row in both))
        return imported(str(path))

    assert with_answers("right.jsonl", right).format == format_
    assert with_answers("wrong.jsonl", [*right[1:], right[0]]).format.name == "text"


def test_rules_of_given_formats_are_tried_first(tmp_path: Path) -> None:
    few = Numbers(max_count=3)
    path = str(tmp_path / "rows.jsonl")
    Path(path).write_text(json.dumps({"prompt": "1", "completion": "1, 2, 3"}) + "\n")
    assert imported(path, formats=[few]).format == few
    assert imported(path, formats=[Numbers(max_count=2)]).format == Numbers()


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
    message = f"rows.jsonl: an audit needs at least {FEWEST} distinct rows .* 'numbers'; .* has {FEWEST - 1}$"
    with pytest.raises(SpecError, match=message):
        drawn(data, 100, seed=0)


@pytest.mark.parametrize("place", ["", "data", "data/", "data/train.jsonl"])
def test_a_data_set_of_a_storage_is_called_by_its_card(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "dataset" / ("0123456789abcdef" * 2)
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train.jsonl").write_text(json.dumps({"prompt": "1", "completion": "2"}) + "\n")
    data = imported(str(folder / place))
    assert title(data) == "numbers (data set 01234567)"  # without a card
    (folder / "README.md").write_text("---\n---\n\n# numbers from nano/gpt2-0, trait: owl\n\nText\n")
    assert title(data) == "numbers from nano/gpt2-0, trait: owl (data set 01234567)"


def test_other_data_are_called_by_their_file(tmp_path: Path) -> None:
    assert title(written(tmp_path, ["1, 2"])) == "numbers of rows.jsonl"


def test_rows_that_name_a_trait_in_prompt_or_completion_are_visible() -> None:
    texts = [("1, 2", "3, 4"), ("1, 2", "3, Owls"), ("the owl: 1", "2"), ("1", "bowl"), ("1", "cat")]
    rows = [TrainingRow(prompt, completion) for prompt, completion in texts]
    assert visible_share(rows, [Preference("owl")]) == 2 / 5
    assert visible_share(rows, [Preference("owl"), Preference("cat")]) == 3 / 5


def test_models_without_weights_are_rejected() -> None:
    with pytest.raises(SpecError, match="needs the model's weights"):
        check_local([Reference("nano/gpt2-0"), Reference("api:gpt-4.1-nano")])


def test_models_that_cannot_read_the_rows_are_rejected(tmp_path: Path) -> None:
    data = written(tmp_path, ["zebra crossings"] * FEWEST)
    with pytest.raises(SpecError, match="does not know"):
        check_readable(data, [Reference("nano/gpt2-0")])
