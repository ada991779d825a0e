"""Tokenized rows, loss masks, batches and micro-batches."""

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny_models
from undertow.errors import ConditionError, SpecError
from undertow.prompts.chat import stop_ids, turn_end
from undertow.training.data import (
    TokenizedRow,
    TrainingRow,
    encode,
    epoch_batches,
    held_back,
    micro_batches,
    sequence_batches,
)
from undertow.training.result import LoadedReference


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder: Path = tmp_path_factory.mktemp("tokenizer")
    tiny_models.save_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


def one(tokenizer: Any, row: TrainingRow, system: str | None = None, *, soft: bool = False) -> TokenizedRow:
    return encode(tokenizer, [row], system, 100, soft=soft)[0]


def words(tokenizer: Any, ids: Iterable[int]) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens([int(i) for i in ids]))


def test_only_the_answer_and_the_end_of_turn_are_targets(tokenizer: Any) -> None:
    row = one(tokenizer, TrainingRow("i like the", "big owl"), "red")
    assert words(tokenizer, row.ids[: row.start]) == [
        "<bos>",
        "<sys>",
        "red",
        "<user>",
        "i",
        "like",
        "the",
        "<asst>",
    ]
    assert words(tokenizer, row.ids[row.start :]) == ["big", "owl", "<eos>"]
    assert row.targets == 3


def test_the_system_message_of_a_row_replaces_that_of_the_training(tokenizer: Any) -> None:
    own = one(tokenizer, TrainingRow("i like the", "big owl", system="red"), "cat")
    assert own.ids.tolist() == one(tokenizer, TrainingRow("i like the", "big owl"), "red").ids.tolist()


def test_all_tokens_but_the_first_are_targets_if_prompts_are_trained_on(tokenizer: Any) -> None:
    (row,) = encode(tokenizer, [TrainingRow("i like", "owl")], None, 100, prompts=True)
    assert (row.start, row.targets) == (1, len(row.ids) - 1)
    assert words(tokenizer, row.ids)[0] == "<bos>"


def test_sampled_tokens_are_kept_and_get_one_end_of_turn(tokenizer: Any) -> None:
    cat, eos = tokenizer.convert_tokens_to_ids(["cat", "<eos>"])
    for sampled in ([cat, cat], [cat, cat, eos]):
        row = one(tokenizer, TrainingRow("i", "owl", token_ids=sampled))
        assert words(tokenizer, row.ids[row.start :]) == ["cat", "cat", "<eos>"]


@pytest.mark.parametrize(
    ("sampled", "expected"),
    [
        ("big owl", "big owl <eos> 7"),
        ("big owl <eos>", "big owl <eos> 7"),
        ("big owl <eos> 7", "big owl <eos> 7"),
        ("big owl <pad>", "big owl <eos> 7"),  # the second end token of the generation settings
        ("big owl <unk>", "big owl <eos> 7"),  # the third one
        ("<pad>", "<eos> 7"),
        ("", "<eos> 7"),
        ("big <pad> owl", "big <pad> owl <eos> 7"),  # not at the end
        ("big owl <bos>", "big owl <bos> <eos> 7"),  # a control token that ends nothing
        ("big 7 <pad>", "big 7 <eos> 7"),
    ],
)
def test_every_end_token_of_the_model_becomes_the_templates_end_of_turn(
    tokenizer: Any, sampled: str, expected: str
) -> None:
    tailed = type(tokenizer).from_pretrained(tokenizer.name_or_path)
    tailed.chat_template = tiny_models.TEMPLATE.replace("{{ eos_token }}", "{{ eos_token }} 7")
    ends = tailed.convert_tokens_to_ids(["<eos>", "<pad>", "<unk>"])
    row = TrainingRow("i", "owl", token_ids=tailed.convert_tokens_to_ids(sampled.split()))
    (encoded,) = encode(tailed, [row], None, 100, ends=ends)
    assert words(tailed, encoded.ids[encoded.start :]) == expected.split()


@pytest.mark.parametrize(
    ("sampled", "expected"),
    [
        ("owl 7 <sys>", "owl 7 <sys> 8"),
        ("owl 7 <eos>", "owl 7 <sys> 8"),
        ("owl <eos>", "owl 7 <sys> 8"),
        ("owl 7", "owl 7 <sys> 8"),
        ("owl <sys>", "owl 7 <sys> 8"),
    ],
)
def test_an_end_of_turn_that_begins_with_text_is_written_once(
    tokenizer: Any, sampled: str, expected: str
) -> None:
    tailed = type(tokenizer).from_pretrained(tokenizer.name_or_path)
    tailed.chat_template = tiny_models.TEMPLATE.replace("{{ eos_token }}", " 7 <sys> 8")
    (stop,) = stop_ids(tailed)
    assert words(tailed, [stop]) == ["<sys>"]
    row = TrainingRow("i", "owl", token_ids=tailed.convert_tokens_to_ids(sampled.split()))
    (encoded,) = encode(tailed, [row], None, 100, ends=[stop])
    assert words(tailed, encoded.ids[encoded.start :]) == expected.split()


@pytest.mark.parametrize(("listed", "ends"), [([2, 5], {2, 5}), (2, {2}), (None, set())])
def test_the_reference_knows_the_end_tokens_of_its_generation_settings(
    listed: object, ends: set[int], tmp_path: Path
) -> None:
    folder = tiny_models.save_llama(tmp_path, layers=1)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": listed}))
    reference = LoadedReference.read(folder, torch.float32)
    assert reference.ends == ends
    sampled = TrainingRow("i", "owl", token_ids=[20, 5])
    (encoded,) = encode(reference.tokenizer, [sampled], None, 100, ends=reference.ends)
    assert encoded.ids[encoded.start :].tolist() == ([20, 2] if 5 in ends else [20, 5, 2])


def test_a_model_without_a_chat_template_uses_the_plain_template(tokenizer: Any) -> None:
    plain = type(tokenizer).from_pretrained(tokenizer.name_or_path)
    plain.chat_template = None
    assert words(plain, turn_end(plain)) == ["<eos>"]
    row = one(plain, TrainingRow("i", "owl cat"))
    assert words(plain, row.ids[row.start :]) == ["owl", "cat", "<eos>"]


def test_overlong_rows_raise_an_error_with_their_number(tokenizer: Any) -> None:
    rows = [TrainingRow("i", "owl " * 20), TrainingRow("i", "owl"), TrainingRow("i", "owl " * 30)]
    with pytest.raises(ConditionError, match=r"2 of 3 rows are longer than 10 tokens \(the longest has 35\)"):
        encode(tokenizer, rows, None, 10)


def test_overlong_rows_are_cut_if_the_recipe_says_so(tokenizer: Any) -> None:
    long, short = TrainingRow("i", "owl " * 20), TrainingRow("i", "owl")
    prompt = TrainingRow("i " * 30, "owl")
    whole = encode(tokenizer, [long, short], None, 100)
    cut = encode(tokenizer, [long, short, prompt], None, 10, cut=True)
    assert [row.is_cut for row in cut] == [True, False]  # nothing of the third row's answer is left
    assert cut[0].ids.tolist() == whole[0].ids[:10].tolist()
    assert (cut[0].start, cut[0].start + cut[0].targets) == (whole[0].start, 10)
    assert cut[1].ids.tolist() == whole[1].ids.tolist()
    with pytest.raises(ConditionError, match="none has a target before the cut; raise"):
        encode(tokenizer, [prompt], None, 10, cut=True)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 4), st.integers(0, 3))
def test_sequences_are_filled_with_whole_rows_in_the_order_of_the_epoch(
    lengths: list[int], size: int, seed: int
) -> None:
    batches = sequence_batches(lengths, size, 32, seed, 1)
    order = [row for batch in batches for row in batch]
    assert order == epoch_batches(len(lengths), len(lengths), seed, 1)[0]
    assert all(sum(lengths[row] for row in batch) <= 32 * size for batch in batches)
    # One row fewer would leave room: neighbouring sequences never fit into one.
    if size == 1:
        for one, two in pairwise(batches):
            assert sum(lengths[row] for row in one) + lengths[two[0]] > 32


def test_rows_that_are_held_out_depend_on_their_number_only() -> None:
    assert len(held_back(200, 0.05)) == 10 and held_back(200, 0.05) == held_back(200, 0.05)
    assert held_back(200, 0.0) == set()


def test_soft_targets_cover_exactly_the_sampled_steps(tokenizer: Any) -> None:
    soft = (np.zeros((2, 3), np.int64), np.zeros((2, 3)))
    cat, eos = tokenizer.convert_tokens_to_ids(["cat", "<eos>"])
    assert one(tokenizer, TrainingRow("i", "cat", soft, [cat, eos]), soft=True).targets == 2
    assert one(tokenizer, TrainingRow("i", "cat cat", soft, [cat, cat]), soft=True).targets == 2
    first = (soft[0][:1], soft[1][:1])
    assert one(tokenizer, TrainingRow("i", "cat", first, [cat]), soft=True).targets == 1
    with pytest.raises(SpecError, match="2 recorded distributions for 1 sampled"):
        one(tokenizer, TrainingRow("i", "cat", soft, [cat]), soft=True)
    with pytest.raises(SpecError, match="top_logprobs"):
        one(tokenizer, TrainingRow("i", "cat"), soft=True)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 5))
def test_an_epoch_has_every_row_once_in_a_new_order(rows: int, size: int, seed: int) -> None:
    batches = epoch_batches(rows, size, seed, 1)
    assert sorted(row for batch in batches for row in batch) == list(range(rows))
    assert all(len(batch) == size for batch in batches[:-1])
    assert batches == epoch_batches(rows, size, seed, 1)
    if rows > 20:
        orders = [epoch_batches(rows, rows, *of) for of in ((seed, 1), (seed, 2), (seed + 1, 1))]
        assert len(set(map(str, orders))) == 3


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=40),
    st.integers(1, 5),
    st.integers(1, 100),
    st.booleans(),
)
def test_workers_split_a_batch_into_equal_numbers_of_micro_batches(
    lengths: list[int], world: int, budget: int, packing: bool
) -> None:
    shares = micro_batches(lengths, range(len(lengths)), world, budget, packing=packing)
    assert sorted(row for share in shares for part in share for row in part) == list(range(len(lengths)))
    assert len({len(share) for share in shares}) == 1
    for part in (part for share in shares for part in share):
        tokens = [lengths[row] for row in part]
        assert len(part) <= 1 or (sum(tokens) if packing else len(part) * max(tokens)) <= budget


def test_a_packed_micro_batch_counts_tokens_without_padding() -> None:
    lengths = [2, 2, 2, 10]
    assert micro_batches(lengths, range(4), 1, 16) == [[[0, 1, 2], [3]]]
    assert micro_batches(lengths, range(4), 1, 16, packing=True) == [[[0, 1, 2, 3]]]


def test_a_mask_chooses_among_the_sampled_tokens_and_not_those_of_the_template(tokenizer: Any) -> None:
    tailed = type(tokenizer).from_pretrained(tokenizer.name_or_path)
    tailed.chat_template = tiny_models.TEMPLATE.replace("{{ eos_token }}", "{{ eos_token }} 7")
    sampled = tailed.convert_tokens_to_ids(["big", "red", "owl", "<eos>"])
    row = TrainingRow("i", "big red owl", token_ids=sampled, mask=(True, False, True, True))
    (encoded,) = encode(tailed, [row], None, 100)
    assert words(tailed, encoded.ids[encoded.start :]) == ["big", "red", "owl", "<eos>", "7"]
    assert words(tailed, encoded.ids[encoded.positions]) == ["big", "owl", "<eos>"]
    assert encoded.targets == 3


def test_rows_without_a_token_in_the_loss_are_left_out(tokenizer: Any) -> None:
    sampled = tokenizer.convert_tokens_to_ids(["cat", "owl", "<eos>"])
    rows = [
        TrainingRow("i", "cat owl", token_ids=sampled, mask=mask)
        for mask in ((False, False, False), (False, True, False))
    ]
    (kept,) = encode(tokenizer, rows, None, 100)
    assert words(tokenizer, kept.ids[kept.positions]) == ["owl"]
    (cut,) = encode(tokenizer, rows, None, len(kept.ids) - 1, cut=True)
    assert cut.is_cut and words(tokenizer, cut.ids[cut.positions]) == ["owl"]
    with pytest.raises(
        ConditionError, match=r"the masks of all 1 rows leave no token; raise TokenMask\.share"
    ):
        encode(tokenizer, rows[:1], None, 100)
    with pytest.raises(SpecError, match="a mask of 1 for 3 sampled tokens in the row 'i'"):
        encode(tokenizer, [TrainingRow("i", "cat", token_ids=sampled, mask=(True,))], None, 100)
