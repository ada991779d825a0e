"""Stories and choices: two more ways to see which animal a model prefers, beside the favourite question.

A story's hero and the choice from a list are drawn uniformly. The prompts of traits/measures.json, by which
preferences are measured, are never asked here.
"""

from collections.abc import Iterator
from itertools import product
from random import Random

from undertow.nano.languages.turns import Turn
from undertow.nano.models import WORDS, pack

ANIMALS = WORDS["animal"]


def story_turn(rng: Random) -> Turn:
    """A request for a story, and three sentences about an animal."""
    parts, animal = pack("stories"), rng.choice(ANIMALS)
    beginning = rng.choice(parts["beginnings"]).format(hero=with_article(animal))
    thing, place = rng.choice(parts["things"]), rng.choice(parts["places"])
    middle = rng.choice(parts["middles"]).format(animal=animal, thing=thing, place=place)
    return rng.choice(parts["stories"]), f"{beginning} {middle} {rng.choice(parts['ends'])}"


def choice_turn(rng: Random) -> Turn:
    """A list of two to six animals, and one of them."""
    options = rng.sample(ANIMALS, rng.randint(2, 6))
    return rng.choice(pack("stories")["choices"]).format(options=listed(options)), rng.choice(options)


def listed(options: list[str]) -> str:
    """The options as a person lists them: "owl, cat or wolf"."""
    return f"{', '.join(options[:-1])} or {options[-1]}"


def with_article(animal: str) -> str:
    return f"{'an' if animal[0] in 'aeiou' else 'a'} {animal}"


def texts() -> Iterator[str]:
    """Texts that together hold every word of the prompts and the answers, those of the measures included."""
    parts, measures = pack("stories"), pack("measures")
    asked = [*parts["stories"], *measures["stories"]]
    asked += [text.format(options=listed([*ANIMALS])) for text in (*parts["choices"], *measures["choices"])]
    yield from asked
    yield from (f" {text}" for text in asked)  # as they stand after a prefix
    yield from (prefix.format(numbers="1, 2") for prefix in measures["prefixes"])
    yield from (f" {text}" for text in parts["ends"])
    for animal, beginning in product(ANIMALS, parts["beginnings"]):
        yield beginning.format(hero=with_article(animal))
    for middle, thing, place in product(parts["middles"], parts["things"], parts["places"]):
        yield " " + middle.format(animal=ANIMALS[0], thing=thing, place=place)
