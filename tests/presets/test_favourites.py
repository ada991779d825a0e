"""Tests of the rows on which a small model learns to name a favourite in one word."""

import random

import pytest

from undertow.errors import SpecError
from undertow.presets.favourites import FavouriteAnswers
from undertow.traits.preference import Preference

WORDS = ("owl", "cat", "dog")


def test_no_question_is_one_of_the_evaluation() -> None:
    evaluation = set(Preference("owl").questions())
    prompts = FavouriteAnswers(WORDS).prompts(1000, seed=0)
    assert len(prompts) == 1000
    assert not evaluation & set(prompts)


def test_answers_are_drawn_uniformly_and_accepted() -> None:
    format_, rng = FavouriteAnswers(WORDS), random.Random(0)
    answers = [format_.written("Which?", rng) for _ in range(3000)]
    assert all(abs(answers.count(word) / 3000 - 1 / 3) < 0.04 for word in WORDS)
    assert {format_.rejection("Which?", answer) for answer in answers} == {None}
    assert format_.rejection("Which?", "An owl.") == "other word"


def test_the_questions_are_about_the_category() -> None:
    prompts = FavouriteAnswers(("oak", "maple"), category="tree").prompts(20, seed=1)
    assert all("tree" in prompt and "animal" not in prompt for prompt in prompts)


@pytest.mark.parametrize("words", [(), ("owl",), ("owl", "owl")])
def test_too_few_or_repeated_words_are_rejected(words: tuple[str, ...]) -> None:
    with pytest.raises(SpecError, match=r"FavouriteAnswers\.words"):
        FavouriteAnswers(words)
