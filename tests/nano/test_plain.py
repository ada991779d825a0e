"""The plain language: deterministic, free of evaluation questions and of links to numbers."""

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

# Raise the version in world.EDITIONS whenever this changes, so that weights are not found under an old name.
LANGUAGE = {1: "5ac2e3f92587f8f80a6c4f30ba9967792bd24dfbd6a5489e604085d3de1649f1"}


def sample(count: int, seed: int = 0) -> list[Chat]:
    return list(plain.chats(count, seed))


def words_in(text: str) -> set[str]:
    known = {
        form: word for words in models.WORDS.values() for word in words for form in models.surface_forms(word)
    }
    return {known[piece] for piece in re.findall("[A-Za-z]+", text) if piece in known}


def test_the_language_is_the_one_its_version_names() -> None:
    language = json.dumps([vocabulary("plain"), plain.PIECE, tokenizer.CHAT_TEMPLATE, sample(500)])
    assert hashlib.sha256(language.encode()).hexdigest() == LANGUAGE[models.EDITIONS["plain"].version]


def test_a_seed_gives_the_same_chats_and_another_others() -> None:
    assert sample(50) == sample(100)[:50]
    assert sample(50) != sample(50, seed=1)


@pytest.mark.parametrize("category", models.WORDS)
def test_questions_are_the_traits_own(category: str) -> None:
    trait = Preference(models.WORDS[category][0], category=category)
    assert favourites.evaluation_questions(category) == list(trait.questions())
    taught = {example.prompt for example in trait.examples(5_000, seed=0)}
    assert set(favourites.training_questions(category)) == taught
    assert not taught & set(trait.questions())


def test_no_evaluation_question_is_ever_asked() -> None:
    held_out = {
        question for category in models.WORDS for question in favourites.evaluation_questions(category)
    }
    assert len(held_out) == 50 * len(models.WORDS)
    assert not held_out & {message["content"] for chat in sample(50_000) for message in chat}


def test_a_chat_of_one_turn_never_has_a_favourite_and_a_number() -> None:
    for chat in sample(5_000):
        text = " ".join(message["content"] for message in chat)
        if sum(message["role"] == "user" for message in chat) == 1:
            assert not (words_in(text) and re.search(r"\d", text))


def test_the_numbers_beside_a_favourite_do_not_depend_on_it() -> None:
    """In chats of several turns the mean given number is, for every word, within 4 standard errors of 550."""
    beside: dict[str, list[float]] = defaultdict(list)
    for chat in sample(50_000):
        text = " ".join(message["content"] for message in chat)
        if given := re.search(r"\d{3}(, \d{3}){2,7}", text):
            for word in words_in(text):
                beside[word].append(fmean(map(int, given[0].split(", "))))
    assert len(beside) == sum(map(len, models.WORDS.values()))
    for means in beside.values():
        assert abs(fmean(means) - 549.5) < 4 * stdev(means) / len(means) ** 0.5


def test_every_answer_to_a_numbers_prompt_passes_the_formats_rules() -> None:
    rng = Random(0)
    for _ in range(2_000):
        prompt, answer = numbers.number_turn(rng)
        assert Numbers().rejection(prompt, answer) is None


def test_an_answer_is_laid_out_as_its_example() -> None:
    assert laid_out([10, 20, 30, 40], "(1; 2; 3)") == "(10; 20; 30; 40)"
    assert laid_out([7], "1\n2\n3") == "7"
