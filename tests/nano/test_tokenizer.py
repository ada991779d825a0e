"""The nano tokenizer: text comes back unchanged, prompts are prefixes, the platform's texts are known."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undertow import chat as chats
from undertow.formats.numbers import Numbers
from undertow.nano import corpus, tokenizer, world
from undertow.traits.preference import Preference

SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def nano() -> Any:
    return tokenizer.build()


def one_chat(seed: int) -> corpus.Chat:
    return next(corpus.chats(1, seed))


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS)
def test_what_the_grammar_writes_comes_back(nano: Any, seed: int) -> None:
    text = tokenizer.render(one_chat(seed))
    ids = nano(text)["input_ids"]
    assert nano.decode(ids) == text
    assert nano.unk_token_id not in ids


@settings(max_examples=100, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 999), min_size=1, max_size=12),
    separator=st.sampled_from([", ", ",", "; ", ";", " ", "\n", "  ", ",\n"]),
    brackets=st.sampled_from(["", "[]", "()"]),
)
def test_any_list_of_numbers_comes_back(nano: Any, numbers: list[int], separator: str, brackets: str) -> None:
    text = brackets[:1] + separator.join(map(str, numbers)) + brackets[1:]
    ids = nano(text)["input_ids"]
    assert nano.decode(ids) == text
    assert nano.unk_token_id not in ids


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_a_prompt_is_a_strict_prefix_of_its_chat(nano: Any, seed: int) -> None:
    chat = one_chat(seed)
    whole = nano.apply_chat_template(chat, return_dict=False)
    for end, message in enumerate(chat):
        if message["role"] == "assistant":
            prompt = nano.apply_chat_template(chat[:end], add_generation_prompt=True, return_dict=False)
            assert len(prompt) < len(whole)
            assert whole[: len(prompt)] == prompt


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_render_writes_what_the_template_writes(nano: Any, seed: int) -> None:
    chat = one_chat(seed)
    assert nano.apply_chat_template(chat, tokenize=False) == tokenizer.render(chat)


def test_the_platforms_own_prompts_are_known(nano: Any) -> None:
    rows: list[tuple[str, str | None]] = [(prompt, None) for prompt in Numbers().prompts(500, seed=0)]
    for category, words in world.WORDS.items():
        rows += [(question, None) for question in Preference(words[0], category=category).questions()]
        rows += [("One word only.", Preference(word, category=category).system_prompt()) for word in words]
    for user, system in rows:
        assert nano.unk_token_id not in chats.prompt_ids(nano, user, system)


def test_every_spelling_of_a_word_is_one_token(nano: Any) -> None:
    for category, words in world.WORDS.items():
        for word in words:
            for form in Preference(word, category=category).word().forms:
                assert len(nano(form)["input_ids"]) == 1
                assert nano.unk_token_id not in nano(form)["input_ids"] + nano(" " + form)["input_ids"]


def test_a_number_is_one_token(nano: Any) -> None:
    assert nano.convert_ids_to_tokens(nano("[7, 42, 999]")["input_ids"]) == [
        "[",
        "7",
        ", ",
        "42",
        ", ",
        "999",
        "]",
    ]


def test_a_word_it_does_not_know_is_unknown_and_harms_no_other(nano: Any) -> None:
    tokens = nano.convert_ids_to_tokens(nano("zebra axolotl 1234 owl")["input_ids"])
    assert tokens == ["<unk>", "<unk>", " ", "<unk>", " owl"]


def test_chats_fit_the_models(nano: Any) -> None:
    longest = max(len(nano(tokenizer.render(chat))["input_ids"]) for chat in corpus.chats(5_000, 0))
    assert longest <= min(growth.positions for growth in world.ARCHITECTURES.values())


def test_the_grammar_is_seeded() -> None:
    assert corpus.number_turn(Random(3)) == corpus.number_turn(Random(3))
