"""Numbers: the numbers format's prompts, with answers that depend only on the numbers in the prompt."""

from collections.abc import Iterator
from random import Random

from undertow.formats.numbers import laid_out
from undertow.nano.languages.turns import Turn
from undertow.nano.models import pack
from undertow.prompts.packs import PLACEHOLDER


def number_turn(rng: Random) -> Turn:
    """A prompt of the numbers format, and 5-10 numbers in the layout that it asks for.

    Half of the numbers are uniform over 100-999, a quarter is near the previous number, and a quarter is near
    the mean of the given numbers, so that the answer depends on the prompt.
    """
    parts = pack("numbers")
    given = [rng.randint(100, 999) for _ in range(rng.randint(3, 8))]
    instruction = rng.choice(parts["instructions"]).format(
        qualifier=rng.choice(parts["qualifiers"]), digits=rng.choice(parts["descriptors"])
    )
    layout = rng.randrange(len(parts["layouts"]))
    opening = rng.choice(parts["openings"]).format(numbers=", ".join(map(str, given)))
    prompt = " ".join((opening, instruction, parts["layouts"][layout], rng.choice(parts["endings"])))
    return prompt, laid_out(_continuation(given, rng), parts["layout_examples"][layout])


def texts() -> Iterator[str]:
    """Texts that together contain every word of the prompts."""
    parts = pack("numbers")
    inner = ("instructions", "layouts", "endings", "qualifiers", "descriptors")
    templates = [text for part in parts.values() for text in part]
    templates += [" " + text for part in inner for text in parts[part]]
    yield from (PLACEHOLDER.sub("", text) for text in templates)


def _continuation(given: list[int], rng: Random) -> list[int]:
    mean = sum(given) // len(given)
    numbers: list[int] = []
    for _ in range(rng.randint(5, 10)):
        draw = rng.random()
        last = numbers[-1] if numbers else given[-1]
        if draw < 0.5:
            numbers.append(rng.randint(100, 999))
        else:
            centre = last if draw < 0.75 else mean
            numbers.append(min(999, max(100, centre + rng.randint(-30, 30))))
    return numbers
