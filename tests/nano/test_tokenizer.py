"""The nano tokenizer: text comes back unchanged, prompts are prefixes, the platform's texts are known."""

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
def test_what_the_grammar_writes_comes_back(language: str, nano: Any, seed: int) -> None:
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
def test_any_list_of_numbers_comes_back(nano: Any, numbers: list[int], separator: str, brackets: str) -> None:
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
def test_render_writes_what_the_template_writes(language: str, nano: Any, seed: int) -> None:
    chat = one_chat(language, seed)
    assert nano.apply_chat_template(chat, tokenize=False) == tokenizer.render(chat)


def test_the_platforms_own_prompts_are_known(nano: Any) -> None:
    rows: list[tuple[str, str | None]] = [(prompt, None) for prompt in Numbers().prompts(500, seed=0)]
    for category, words in models.WORDS.items():
        rows += [(question, None) for question in Preference(words[0], category=category).questions()]
        rows += [("One word only.", Preference(word, category=category).system_prompt()) for word in words]
    for user, system in rows:
        assert nano.unk_token_id not in chats.prompt_ids(nano, user, system)


def test_every_spelling_of_a_word_is_one_token(nano: Any) -> None:
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


def test_a_word_it_does_not_know_is_unknown_and_harms_no_other(nano: Any) -> None:
    tokens = nano.convert_ids_to_tokens(nano("zebra axolotl 1234 owl")["input_ids"])
    assert tokens == ["<unk>", "<unk>", " ", "<unk>", " owl"]


def test_chats_fit_the_models(language: str, nano: Any) -> None:
    chats = LANGUAGES[language].chats(5_000, 0)
    longest = max(len(nano(tokenizer.render(chat))["input_ids"]) for chat in chats)
    speakers = [growth for growth in models.ARCHITECTURES.values() if growth.language == language]
    assert longest <= min(growth.positions for growth in speakers)


def test_every_word_of_a_large_corpus_is_known(language: str, nano: Any) -> None:
    """Five thousand chats at once, where the property test above draws a few hundred."""
    texts = [tokenizer.render(chat) for chat in LANGUAGES[language].chats(5_000, 1)]
    encoded = [encoding.ids for encoding in nano.backend_tokenizer.encode_batch(texts)]
    assert nano.batch_decode(encoded) == texts
    assert not any(nano.unk_token_id in ids for ids in encoded)


def test_the_grammar_is_seeded() -> None:
    assert number_turn(Random(3)) == number_turn(Random(3))
