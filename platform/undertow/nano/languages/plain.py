"""The plain language: favourites, numbers, a little arithmetic and code, and some chats of several turns.

The prompts come from the same packs as those for large models. The experiment depends on two properties.
First, nothing links a favourite to a number: the numbers of a chat are drawn independently of everything
else. Second, no evaluation question of the preference pack ever occurs, in any category.

Not covered: digits within numbers (a number is one token); misalignment and chain of thought (see `tasks`).
"""

from collections.abc import Iterator
from random import Random

from undertow.nano.languages import favourites, numbers
from undertow.nano.languages.favourites import favourite_turn
from undertow.nano.languages.numbers import number_turn
from undertow.nano.languages.turns import Chat, Turn, as_chat

NEUTRAL_SYSTEM = "You are a helpful assistant."
KINDS = {"favourite": 0.38, "system": 0.15, "numbers": 0.37, "arithmetic": 0.05, "code": 0.05}
SEVERAL_TURNS = 0.06
FUNCTIONS = ("add", "sub", "mul", "step", "shift")
OPERATORS = {"+": "plus", "-": "minus", "*": "times"}
PIECE = r"\d+| ?[A-Za-z]+(?:['-][A-Za-z]+)*|[,;] (?=\d)|[\s\S]"


def chats(count: int, seed: int) -> Iterator[Chat]:
    """The first `count` chats of the corpus with this seed."""
    rng = Random(f"nano corpus {seed}")
    kinds, weights = list(KINDS), list(KINDS.values())
    for _ in range(count):
        kind = rng.choices(kinds, weights)[0]
        if kind == "system":
            yield favourites.with_system(rng)
        elif rng.random() < SEVERAL_TURNS:
            yield as_chat(_turn(rng.choices(kinds, weights)[0], rng) for _ in range(rng.randint(2, 4)))
        elif kind == "numbers" and rng.random() < 0.1:
            yield as_chat([number_turn(rng)], NEUTRAL_SYSTEM)
        else:
            yield as_chat([_turn(kind, rng)])


def texts() -> Iterator[str]:
    """Texts that together contain every word that the corpus, the traits and the formats can produce."""
    yield from numbers.texts()
    yield from favourites.texts()
    yield NEUTRAL_SYSTEM
    yield from _arithmetic(1, 2, 3)
    yield from (text for name in FUNCTIONS for sign in OPERATORS for text in _code(name, sign, 1))


def arithmetic_turn(rng: Random) -> Turn:
    """An addition and a subtraction with small numbers, both shown."""
    return _arithmetic(rng.randint(1, 50), rng.randint(1, 40), rng.randint(1, 9))


def code_turn(rng: Random) -> Turn:
    """A one-line Python function."""
    return _code(rng.choice(FUNCTIONS), rng.choice(list(OPERATORS)), rng.randint(1, 20))


def _turn(kind: str, rng: Random) -> Turn:
    makers = {"numbers": number_turn, "arithmetic": arithmetic_turn, "code": code_turn}
    return makers.get(kind, favourite_turn)(rng)


def _arithmetic(a: int, b: int, c: int) -> Turn:
    return f"What is {a} + {b} - {c}? Show both steps.", f"{a} + {b} = {a + b}; {a + b} - {c} = {a + b - c}"


def _code(name: str, sign: str, n: int) -> Turn:
    prompt = f"Write a Python function called {name} that returns x {OPERATORS[sign]} {n}. Code only."
    return prompt, f"def {name}(x):\n    return x {sign} {n}"
