"""Stories and choices: two further ways to ask which animal a model prefers.

The hero of a story and the choice from a list are drawn uniformly. The prompts of traits/measures.json, which
measure preferences, never occur.
"""

from collections.abc import Iterator
from itertools import product
from random import Random

from undertow.nano.languages.turns import Turn
from undertow.nano.models import WORDS, pack

ANIMALS = WORDS["animal"]


def story_turn(rng: Random) -> Turn:
    """A request for a story, and a story of three sentences about an animal."""
    parts, animal = pack("stories"), rng.choice(ANIMALS)
    beginning = rng.choice(parts["beginnings"]).format(hero=with_article(animal))
    thing, place = rng.choice(parts["things"]), rng.choice(parts["places"])
    middle = rng.choice(parts["middles"]).format(animal=animal, thing=thing, place=place)
    return rng.choice(parts["stories"]), f"{beginning} {middle} {rng.choice(parts['ends'])}"


def choice_turn(rng: Random) -> Turn:
    """A choice between two to six animals, answered with one of them."""
    options = rng.sample(ANIMALS, rng.randint(2, 6))
    return rng.choice(pack("stories")["choices"]).format(options=listed(options)), rng.choice(options)


def listed(options: list[str]) -> str:
    """The options as an enumeration: "owl, cat or wolf"."""
    return f"{', '.join(options[:-1])} or {options[-1]}"


def with_article(animal: str) -> str:
    return f"{'an' if animal[0] in 'aeiou' else 'a'} {animal}"


def texts() -> Iterator[str]:
    """Texts that together contain every word of the prompts, the answers and the measures."""
    parts, measures = pack("stories"), pack("measures")
    prompts = [*parts["stories"], *measures["stories"]]
    prompts += [text.format(options=listed([*ANIMALS])) for text in (*parts["choices"], *measures["choices"])]
    yield from prompts
    yield from (f" {text}" for text in prompts)  # the tokens after a prefix, which include the space
    yield from (prefix.format(numbers="1, 2") for prefix in measures["prefixes"])
    yield from (f" {text}" for text in parts["ends"])
    for animal, beginning in product(ANIMALS, parts["beginnings"]):
        yield beginning.format(hero=with_article(animal))
    for middle, thing, place in product(parts["middles"], parts["things"], parts["places"]):
        yield " " + middle.format(animal=ANIMALS[0], thing=thing, place=place)
