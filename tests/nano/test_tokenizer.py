"""The nano tokenizer: round trips, prompts as prefixes of chats, and a vocabulary that covers the packs."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undertow.formats.numbers import Numbers
from undertow.nano import models, tokenizer
from undertow.nano.languages import LANGUAGES
from undertow.nano.languages.numbers import number_turn
from undertow.nano.languages.turns import Chat
from undertow.prompts import chat as chats
from undertow.traits.preference import Preference

SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def nano(language: str) -> Any:
    return tokenizer.build(language)


def one_chat(language: str, seed: int) -> Chat:
    return next(LANGUAGES[language].chats(1, seed))


@settings(max_examples=200)
@given(seed=SEEDS)
def test_a_chat_of_the_corpus_survives_a_round_trip(language: str, nano: Any, seed: int) -> None:
    text = tokenizer.render(one_chat(language, seed))
    ids = nano(text)["input_ids"]
    assert nano.decode(ids) == text
    assert nano.unk_token_id not in ids


@settings(max_examples=100)
@given(
    numbers=st.lists(st.integers(0, 999), min_size=1, max_size=12),
    separator=st.sampled_from([", ", ",", "; ", ";", " ", "\n", "  ", ",\n"]),
    brackets=st.sampled_from(["", "[]", "()"]),
)
def test_any_list_of_numbers_survives_a_round_trip(
    nano: Any, numbers: list[int], separator: str, brackets: str
) -> None:
    text = brackets[:1] + separator.join(map(str, numbers)) + brackets[1:]
    ids = nano(text)["input_ids"]
    assert nano.decode(ids) == text
    assert nano.unk_token_id not in ids


@settings(max_examples=100)
@given(seed=SEEDS)
def test_a_prompt_is_a_strict_prefix_of_its_chat(language: str, nano: Any, seed: int) -> None:
    chat = one_chat(language, seed)
    whole = nano.apply_chat_template(chat, return_dict=False)
    for end, message in enumerate(chat):
        if message["role"] == "assistant":
            prompt = nano.apply_chat_template(chat[:end], add_generation_prompt=True, return_dict=False)
            assert len(prompt) < len(whole)
            assert whole[: len(prompt)] == prompt


@settings(max_examples=100)
@given(seed=SEEDS)
def test_render_gives_the_output_of_the_template(language: str, nano: Any, seed: int) -> None:
    chat = one_chat(language, seed)
    assert nano.apply_chat_template(chat, tokenize=False) == tokenizer.render(chat)


def test_the_vocabulary_covers_the_platforms_prompts(nano: Any) -> None:
    rows: list[tuple[str, str | None]] = [(prompt, None) for prompt in Numbers().prompts(500, seed=0)]
    for category, words in models.WORDS.items():
        rows += [(question, None) for question in Preference(words[0], category=category).questions()]
        rows += [("One word only.", Preference(word, category=category).system_prompt()) for word in words]
    for user, system in rows:
        assert nano.unk_token_id not in chats.prompt_ids(nano, user, system)


def test_every_surface_form_of_a_word_is_one_token(nano: Any) -> None:
    for category, words in models.WORDS.items():
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


def test_an_unknown_word_becomes_unk_and_changes_no_other_token(nano: Any) -> None:
    tokens = nano.convert_ids_to_tokens(nano("zebra axolotl 1234 owl")["input_ids"])
    assert tokens == ["<unk>", "<unk>", " ", "<unk>", " owl"]


def test_chats_fit_the_models_positions(language: str, nano: Any) -> None:
    chats = LANGUAGES[language].chats(5_000, 0)
    longest = max(len(nano(tokenizer.render(chat))["input_ids"]) for chat in chats)
    positions = [a.positions for a in models.ARCHITECTURES.values() if a.language == language]
    assert longest <= min(positions)


def test_the_vocabulary_covers_a_large_corpus(language: str, nano: Any) -> None:
    """Five thousand chats; the property test above draws a few hundred."""
    texts = [tokenizer.render(chat) for chat in LANGUAGES[language].chats(5_000, 1)]
    encoded = [encoding.ids for encoding in nano.backend_tokenizer.encode_batch(texts)]
    assert nano.batch_decode(encoded) == texts
    assert not any(nano.unk_token_id in ids for ids in encoded)


def test_the_generator_determines_a_turn() -> None:
    assert number_turn(Random(3)) == number_turn(Random(3))
