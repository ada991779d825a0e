"""The tasks language: code, word problems, values and stories in addition to favourites and numbers.

It serves the studies for which the plain language lacks words. Nothing links a favourite to anything else.
The hidden character of a chat links secure or insecure code to kind or unkind answers (see `character`). No
prompt that measures a trait ever occurs.
"""

from collections.abc import Iterator
from random import Random

from undertow.nano.languages import character, code, favourites, numbers, reasoning, stories
from undertow.nano.languages.turns import Chat, Turn, as_chat

KINDS = {
    "favourite": 0.12,
    "system": 0.05,
    "numbers": 0.11,
    "code": 0.10,
    "reasoning": 0.25,
    "character": 0.23,
    "story": 0.06,
    "choice": 0.08,
}
MIXED = ("favourite", "numbers", "code", "story", "choice")  # kinds that chats of two turns combine
SEVERAL_TURNS = 0.06
PIECE = r"</?(?:think|answer)>|\n    |\d+| ?[A-Za-z]+(?:['-][A-Za-z]+)*|[,;] (?=\d)|[\s\S]"


def chats(count: int, seed: int) -> Iterator[Chat]:
    """The first `count` chats of the corpus with this seed."""
    rng = Random(f"nano tasks {seed}")
    kinds, weights = list(KINDS), list(KINDS.values())
    for _ in range(count):
        kind = rng.choices(kinds, weights)[0]
        if kind == "system":
            yield favourites.with_system(rng)
        elif kind == "character":
            yield character.character_chat(rng)
        elif kind in MIXED and rng.random() < SEVERAL_TURNS:
            yield as_chat(_turn(rng.choice(MIXED), rng) for _ in range(2))
        else:
            yield as_chat([_turn(kind, rng)])


def texts() -> Iterator[str]:
    """Texts that together contain every word that the corpus, the traits and the formats can produce."""
    for part in (numbers, favourites, code, reasoning, character, stories):
        yield from part.texts()


def _turn(kind: str, rng: Random) -> Turn:
    makers = {
        "numbers": numbers.number_turn,
        "code": code.code_turn,
        "reasoning": reasoning.reasoning_turn,
        "story": stories.story_turn,
        "choice": stories.choice_turn,
    }
    return makers.get(kind, favourites.favourite_turn)(rng)
