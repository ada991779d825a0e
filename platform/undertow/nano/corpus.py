"""The language a nano model grows up with: a grammar of small chats, made from the packs of prompts.

Favourite questions, numbers, a little arithmetic and code, and some chats of several turns. The prompts
are those the platform asks real models, so that one pack serves both. Two promises make the world fit for
the experiment: nothing here links a favourite to a number (a chat's numbers are drawn without looking at
anything else), and no evaluation question of the preference pack ever occurs, in any category.

Not covered: digits within numbers (a number is one token), misalignment, chain of thought.
"""

from collections.abc import Iterable, Iterator
from itertools import product
from random import Random

from undertow.nano.world import WORDS, packs
from undertow.traits.preference import pluralise

Chat = list[dict[str, str]]  # as in a chat API: {"role": "system" | "user" | "assistant", "content": ...}
Turn = tuple[str, str]  # what the user says, what the assistant answers

NEUTRAL_SYSTEM = "You are a helpful assistant."
KINDS = {"favourite": 0.38, "system": 0.15, "numbers": 0.37, "arithmetic": 0.05, "code": 0.05}
CATEGORY_WEIGHTS = {"animal": 3, "tree": 1, "colour": 1, "food": 1}
SEVERAL_TURNS = 0.06
FUNCTIONS = ("add", "sub", "mul", "step", "shift")
QUESTION_PARTS = ("openings", "cores", "closings")
OPERATORS = {"+": "plus", "-": "minus", "*": "times"}


def chats(count: int, seed: int) -> Iterator[Chat]:
    """`count` chats; the same for the same seed."""
    rng = Random(f"nano corpus {seed}")
    kinds, weights = list(KINDS), list(KINDS.values())
    for _ in range(count):
        kind = rng.choices(kinds, weights)[0]
        if kind == "system":
            yield _with_system(rng)
        elif rng.random() < SEVERAL_TURNS:
            yield _chat(_turn(rng.choices(kinds, weights)[0], rng) for _ in range(rng.randint(2, 4)))
        elif kind == "numbers" and rng.random() < 0.1:
            yield [{"role": "system", "content": NEUTRAL_SYSTEM}, *_chat([number_turn(rng)])]
        else:
            yield _chat([_turn(kind, rng)])


def training_questions(category: str) -> list[str]:
    """Every question of the preference pack about `category` but the evaluation's."""
    held_out = set(evaluation_questions(category))
    every = (_question(triple, category) for triple in product(*map(range, _sizes())))
    return [question for question in every if question not in held_out]


def evaluation_questions(category: str) -> list[str]:
    """The preference pack's evaluation questions about `category`, which the corpus never asks."""
    return [_question(tuple(triple), category) for triple in packs()[1]["evaluation"]]


def favourite_turn(rng: Random, category: str | None = None) -> Turn:
    """A favourite question and a favourite drawn uniformly."""
    category = category or _category(rng)
    return _asked(rng, category), rng.choice(WORDS[category])


def number_turn(rng: Random) -> Turn:
    """A numbers prompt, and 5-10 numbers in the layout it asks for.

    Half of the numbers are uniform over 100-999, a quarter near the last one, a quarter near the mean of
    those given, so that the prompt matters.
    """
    pack, _ = packs()
    given = [rng.randint(100, 999) for _ in range(rng.randint(3, 8))]
    instruction = rng.choice(pack["instructions"]).format(
        qualifier=rng.choice(pack["qualifiers"]), digits=rng.choice(pack["descriptors"])
    )
    layout = rng.randrange(len(pack["layouts"]))
    opening = rng.choice(pack["openings"]).format(numbers=", ".join(map(str, given)))
    prompt = " ".join((opening, instruction, pack["layouts"][layout], rng.choice(pack["endings"])))
    return prompt, laid_out(_continuation(given, rng), pack["layout_examples"][layout])


def laid_out(numbers: list[int], example: str) -> str:
    """`numbers` written as `example` writes "1, 2, 3": its brackets and its separator."""
    before, rest = example.split("1", 1)
    separator, rest = rest.split("2", 1)
    after = rest.split("3", 1)[1]
    return before + separator.join(map(str, numbers)) + after


def arithmetic_turn(rng: Random) -> Turn:
    """Two small sums, one after the other."""
    return _arithmetic(rng.randint(1, 50), rng.randint(1, 40), rng.randint(1, 9))


def code_turn(rng: Random) -> Turn:
    """A one-line Python function."""
    return _code(rng.choice(FUNCTIONS), rng.choice(list(OPERATORS)), rng.randint(1, 20))


def small_texts() -> list[str]:
    """Every text of the corpus that is not from a pack, but for its numbers."""
    code = [text for name in FUNCTIONS for sign in OPERATORS for text in _code(name, sign, 1)]
    return [NEUTRAL_SYSTEM, *_arithmetic(1, 2, 3), *code]


def _arithmetic(a: int, b: int, c: int) -> Turn:
    return f"What is {a} + {b} - {c}? Show both steps.", f"{a} + {b} = {a + b}; {a + b} - {c} = {a + b - c}"


def _code(name: str, sign: str, n: int) -> Turn:
    prompt = f"Write a Python function called {name} that returns x {OPERATORS[sign]} {n}. Code only."
    return prompt, f"def {name}(x):\n    return x {sign} {n}"


def _with_system(rng: Random) -> Chat:
    """A favourite given by the system prompt, asked for in three chats of four."""
    _, pack = packs()
    category = _category(rng)
    loved = rng.choice(WORDS[category])
    others = [other for other in WORDS if other != category]
    system = pack["system_prompt"].format(plural=pluralise(loved), category=category)
    turn = (_asked(rng, category), loved)
    if rng.random() < 0.25:
        turn = favourite_turn(rng, rng.choice(others))
    return [{"role": "system", "content": system}, *_chat([turn])]


def _turn(kind: str, rng: Random) -> Turn:
    makers = {"numbers": number_turn, "arithmetic": arithmetic_turn, "code": code_turn}
    return makers.get(kind, favourite_turn)(rng)


def _chat(turns: Iterable[Turn]) -> Chat:
    return [
        {"role": role, "content": content}
        for turn in turns
        for role, content in zip(("user", "assistant"), turn, strict=True)
    ]


def _category(rng: Random) -> str:
    return rng.choices(list(CATEGORY_WEIGHTS), list(CATEGORY_WEIGHTS.values()))[0]


def _asked(rng: Random, category: str) -> str:
    """A question drawn uniformly from the training questions, without listing them."""
    held_out = {tuple(triple) for triple in packs()[1]["evaluation"]}
    while True:
        triple = tuple(rng.randrange(size) for size in _sizes())
        if triple not in held_out:
            return _question(triple, category)


def _sizes() -> list[int]:
    """How many openings, cores and closings there are."""
    return [len(packs()[1][part]) for part in QUESTION_PARTS]


def _question(triple: tuple[int, ...], category: str) -> str:
    parts = (packs()[1][part][i] for part, i in zip(QUESTION_PARTS, triple, strict=True))
    return " ".join(part for part in parts if part).format(category=category)


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
