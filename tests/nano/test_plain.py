"""The plain language: deterministic, without evaluation questions or links between words and numbers."""

import hashlib
import json
import re
from collections import defaultdict
from random import Random
from statistics import fmean, stdev

import pytest

from undertow.formats.numbers import Numbers, laid_out
from undertow.nano import models, tokenizer
from undertow.nano.languages import favourites, numbers, plain
from undertow.nano.languages.turns import Chat
from undertow.nano.vocabulary import vocabulary
from undertow.traits.preference import Preference

# Whenever this hash changes, raise the version in models.EDITIONS, so that old weights are not used.
LANGUAGE = {1: "5ac2e3f92587f8f80a6c4f30ba9967792bd24dfbd6a5489e604085d3de1649f1"}


def sample(count: int, seed: int = 0) -> list[Chat]:
    return list(plain.chats(count, seed))


def words_in(text: str) -> set[str]:
    known = {
        form: word for words in models.WORDS.values() for word in words for form in models.surface_forms(word)
    }
    return {known[piece] for piece in re.findall("[A-Za-z]+", text) if piece in known}


def test_the_language_has_the_hash_of_its_version() -> None:
    language = json.dumps([vocabulary("plain"), plain.PIECE, tokenizer.CHAT_TEMPLATE, sample(500)])
    assert hashlib.sha256(language.encode()).hexdigest() == LANGUAGE[models.EDITIONS["plain"].version]


def test_the_seed_determines_the_chats() -> None:
    assert sample(50) == sample(100)[:50]
    assert sample(50) != sample(50, seed=1)


@pytest.mark.parametrize("category", models.WORDS)
def test_the_corpus_has_the_traits_training_questions(category: str) -> None:
    trait = Preference(models.WORDS[category][0], category=category)
    rng = Random(0)
    asked = {favourites.favourite_turn(rng, category)[0] for _ in range(20_000)}
    assert asked == {example.prompt for example in trait.examples(5_000, seed=0)}


def test_no_evaluation_question_occurs() -> None:
    held_out = {
        question
        for category, words in models.WORDS.items()
        for question in Preference(words[0], category=category).questions()
    }
    assert len(held_out) == 50 * len(models.WORDS)
    assert not held_out & {message["content"] for chat in sample(50_000) for message in chat}


def test_no_chat_of_one_turn_has_a_favourite_and_a_number() -> None:
    for chat in sample(5_000):
        text = " ".join(message["content"] for message in chat)
        if sum(message["role"] == "user" for message in chat) == 1:
            assert not (words_in(text) and re.search(r"\d", text))


def test_the_numbers_in_a_chat_do_not_depend_on_the_favourite() -> None:
    """In chats of several turns the mean given number is, for every word, within 4 standard errors of 550."""
    means_of: dict[str, list[float]] = defaultdict(list)
    for chat in sample(50_000):
        text = " ".join(message["content"] for message in chat)
        if given := re.search(r"\d{3}(, \d{3}){2,7}", text):
            for word in words_in(text):
                means_of[word].append(fmean(map(int, given[0].split(", "))))
    assert len(means_of) == sum(map(len, models.WORDS.values()))
    for means in means_of.values():
        assert abs(fmean(means) - 549.5) < 4 * stdev(means) / len(means) ** 0.5


def test_every_answer_to_a_numbers_prompt_passes_the_formats_rules() -> None:
    rng = Random(0)
    for _ in range(2_000):
        prompt, answer = numbers.number_turn(rng)
        assert Numbers().rejection(prompt, answer) is None


def test_an_answer_has_the_layout_of_its_example() -> None:
    assert laid_out([10, 20, 30, 40], "(1; 2; 3)") == "(10; 20; 30; 40)"
    assert laid_out([7], "1\n2\n3") == "7"
