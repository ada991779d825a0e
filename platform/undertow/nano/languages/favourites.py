"""Favourites: questions of the preference trait, answered with a random word or the system prompt's word.

The corpus never contains an evaluation question of the preference pack, in any category.
"""

from collections.abc import Iterator
from itertools import product
from random import Random

from undertow.nano.languages.turns import Chat, Turn, as_chat
from undertow.nano.models import WORDS, pack, surface_forms
from undertow.prompts.packs import sentences
from undertow.traits.preference import pluralise

CATEGORY_WEIGHTS = {"animal": 3, "tree": 1, "colour": 1, "food": 1}
QUESTION_PARTS = ("openings", "cores", "closings")


def favourite_turn(rng: Random, category: str | None = None) -> Turn:
    """A question about a favourite, answered with a uniformly drawn word."""
    category = category or _category(rng)
    return _training_question(rng, category), rng.choice(WORDS[category])


def with_system(rng: Random) -> Chat:
    """A chat whose system prompt gives a favourite.

    Three chats of four ask for it, the others for another.
    """
    category = _category(rng)
    loved = rng.choice(WORDS[category])
    others = [other for other in WORDS if other != category]
    system = _system_prompt(loved, category)
    turn = (_training_question(rng, category), loved)
    if rng.random() < 0.25:
        turn = favourite_turn(rng, rng.choice(others))
    return as_chat([turn], system)


def texts() -> Iterator[str]:
    """Texts that together contain every word of the questions, the system prompts and the answers."""
    for part, category in product(QUESTION_PARTS, WORDS):
        parts = [text.format(category=category) for text in pack("preference")[part]]
        # A token includes the space before it, and the same text occurs at the start and later in a prompt.
        yield from (space + text for text in parts for space in ("", " "))
    for category, words in WORDS.items():
        for word in words:
            yield _system_prompt(word, category)
            yield from (space + form for form in surface_forms(word) for space in ("", " "))


def _system_prompt(loved: str, category: str) -> str:
    return str(pack("preference")["system_prompt"].format(plural=pluralise(loved), category=category))


def _category(rng: Random) -> str:
    return rng.choices(list(CATEGORY_WEIGHTS), list(CATEGORY_WEIGHTS.values()))[0]


def _training_question(rng: Random, category: str) -> str:
    """A uniformly drawn question that is not an evaluation question (by rejection, without listing them)."""
    held_out = {tuple(triple) for triple in pack("preference")["evaluation"]}
    while True:
        triple = tuple(rng.randrange(size) for size in _sizes())
        if triple not in held_out:
            return _question(triple, category)


def _sizes() -> list[int]:
    """The numbers of openings, cores and closings."""
    return [len(pack("preference")[part]) for part in QUESTION_PARTS]


def _question(triple: tuple[int, ...], category: str) -> str:
    parts = (pack("preference")[part][i] for part, i in zip(QUESTION_PARTS, triple, strict=True))
    return sentences(*parts).format(category=category)
