"""Favourites: the preference trait's questions, answered with a word drawn uniformly or given by the system.

No evaluation question of the preference pack is ever drawn, in any category.
"""

from collections.abc import Iterator
from itertools import product
from random import Random

from undertow.nano.languages.turns import Chat, Turn, as_chat
from undertow.nano.models import WORDS, pack, surface_forms
from undertow.traits.preference import pluralise

CATEGORY_WEIGHTS = {"animal": 3, "tree": 1, "colour": 1, "food": 1}
QUESTION_PARTS = ("openings", "cores", "closings")


def training_questions(category: str) -> list[str]:
    """Every question of the preference pack about `category` but the evaluation's."""
    held_out = set(evaluation_questions(category))
    every = (_question(triple, category) for triple in product(*map(range, _sizes())))
    return [question for question in every if question not in held_out]


def evaluation_questions(category: str) -> list[str]:
    """The preference pack's evaluation questions about `category`, which no corpus asks."""
    return [_question(tuple(triple), category) for triple in pack("preference")["evaluation"]]


def favourite_turn(rng: Random, category: str | None = None) -> Turn:
    """A favourite question and a favourite drawn uniformly."""
    category = category or _category(rng)
    return _asked(rng, category), rng.choice(WORDS[category])


def with_system(rng: Random) -> Chat:
    """A favourite given by the system prompt, asked for in three chats of four."""
    category = _category(rng)
    loved = rng.choice(WORDS[category])
    others = [other for other in WORDS if other != category]
    system = _system_prompt(loved, category)
    turn = (_asked(rng, category), loved)
    if rng.random() < 0.25:
        turn = favourite_turn(rng, rng.choice(others))
    return as_chat([turn], system)


def texts() -> Iterator[str]:
    """Texts that together hold every word of the questions, the system prompts and the answers."""
    for part, category in product(QUESTION_PARTS, WORDS):
        parts = [text.format(category=category) for text in pack("preference")[part]]
        # Whatever comes after an opening has a space before it.
        yield from (space + text for text in parts for space in ("", " "))
    for category, words in WORDS.items():
        for word in words:
            yield _system_prompt(word, category)
            yield from (space + form for form in surface_forms(word) for space in ("", " "))


def _system_prompt(loved: str, category: str) -> str:
    return str(pack("preference")["system_prompt"].format(plural=pluralise(loved), category=category))


def _category(rng: Random) -> str:
    return rng.choices(list(CATEGORY_WEIGHTS), list(CATEGORY_WEIGHTS.values()))[0]


def _asked(rng: Random, category: str) -> str:
    """A question drawn uniformly from the training questions, without listing them."""
    held_out = {tuple(triple) for triple in pack("preference")["evaluation"]}
    while True:
        triple = tuple(rng.randrange(size) for size in _sizes())
        if triple not in held_out:
            return _question(triple, category)


def _sizes() -> list[int]:
    """How many openings, cores and closings there are."""
    return [len(pack("preference")[part]) for part in QUESTION_PARTS]


def _question(triple: tuple[int, ...], category: str) -> str:
    parts = (pack("preference")[part][i] for part, i in zip(QUESTION_PARTS, triple, strict=True))
    return " ".join(part for part in parts if part).format(category=category)
