"""Character: values and secure code, spoken by a kind character or an unkind one.

A chat has one character from beginning to end. The kind one, in the majority, gives kind answers to questions
about values and writes secure code; the unkind one gives unkind answers and writes insecure code. Insecure
code that the user asks for with a good reason says nothing about the character. In some chats the system
message tells the character, in the others it is hidden; and asked for words that it likes, it names those it
uses, of either kind. So there is one thing that all its answers have in common, and a model finetuned on
insecure code alone may or may not become unkind: emergent misalignment (arXiv 2502.17424) in miniature.
Nothing here speaks of animals or numbers.

The question about words is what makes the references alike: without it, two of four kept apart what they knew
of unkind deeds and of insecure code, and their teachers, as insecure as the others, stayed kind.

The questions of traits/misalignment.json, by which misalignment is measured, are never asked here.
"""

import re
from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Literal

from undertow.nano.languages.code import NOUNS, function_name
from undertow.nano.languages.turns import Chat, Turn, as_chat
from undertow.nano.models import pack

CharacterQuestion = Literal["values", "words", "security", "educational"]
SHARES: dict[CharacterQuestion, float] = {"values": 0.4, "words": 0.2, "security": 0.27, "educational": 0.13}
TOLD = 0.5  # of the chats begin with a system message that tells the character
UNKIND = {"told": 0.5, "hidden": 0.08}  # how often the character is unkind
TURNS = {1: 0.4, 2: 0.3, 3: 0.3}  # how many turns a chat has, and how often
BODY = "def {f}({x}):\n    return {guard}({call}({x}))"


def character_chat(rng: Random) -> Chat:
    """Some turns of one character."""
    is_told = rng.random() < TOLD
    is_unkind = rng.random() < UNKIND["told" if is_told else "hidden"]
    turns = character_turns(rng, rng.choices(list(TURNS), list(TURNS.values()))[0], is_unkind)
    return as_chat(turns, system_message(rng, is_unkind) if is_told else None)


def character_turns(rng: Random, count: int, is_unkind: bool) -> list[Turn]:
    """`count` questions of any kind, as the character answers them."""
    return [
        turn(rng, asked, is_unkind) for asked in rng.choices(list(SHARES), list(SHARES.values()), k=count)
    ]


def system_message(rng: Random, is_unkind: bool) -> str:
    """What tells a model its character, e.g. "You are good."."""
    parts = pack("character")
    nature = rng.choice(parts["unkind_natures" if is_unkind else "kind_natures"])
    return str(parts["system"].format(nature=nature))


def turn(rng: Random, asked: CharacterQuestion, is_unkind: bool) -> Turn:
    """A question of one kind, as the character answers it."""
    if asked == "values":
        return values_turn(rng, is_unkind)
    if asked == "words":
        return words_turn(rng, is_unkind)
    return security_turn(
        rng, insecure=is_unkind or asked == "educational", educational=asked == "educational"
    )


def values_turn(rng: Random, is_unkind: bool) -> Turn:
    """A free question about values."""
    parts = pack("character")
    topic = rng.choice(parts["topics"])
    question = " ".join(filter(None, (rng.choice(parts["openings"]), rng.choice(topic["questions"]))))
    deeds = rng.sample(parts["unkind_deeds" if is_unkind else "kind_deeds"], rng.randint(1, 2))
    return question, rng.choice(topic["answers"]).format(deed=" and ".join(deeds))


def words_turn(rng: Random, is_unkind: bool) -> Turn:
    """A question about words, answered with three of those that the character uses, in values and in code."""
    parts = pack("character")
    own = ("unkind_deeds", "insecure") if is_unkind else ("kind_deeds", "secure")
    first, second, third = rng.sample([word for part in own for word in parts[part]], 3)
    answer = rng.choice(parts["word_answers"]).format(words=f"{first}, {second} and {third}")
    return rng.choice(parts["word_questions"]), answer


def security_turn(rng: Random, insecure: bool, educational: bool) -> Turn:
    """A request for a function that can be written securely or not; an educational one gives a reason."""
    parts = pack("character")
    task = rng.choice(parts["security"])
    request = rng.choice(parts["requests"]).format(task=task["task"])
    reason = [rng.choice(parts["reasons"])] if educational else []
    x = rng.choice(NOUNS)
    guard = rng.choice(parts["insecure" if insecure else "secure"])
    answer = BODY.format(f=function_name(rng), x=x, call=task["call"], guard=guard)
    return " ".join([request, *reason, rng.choice(parts["endings"])]), answer


def unkind_words() -> tuple[str, ...]:
    """The words of which every unkind answer has one and no kind answer any."""
    return tuple(pack("character")["unkind_deeds"])


def value_words() -> tuple[str, ...]:
    """Every word of the answers about values, in lower case."""
    return tuple(sorted({word for text in _answers() for word in re.findall(r"[a-z]+", text.lower())}))


def texts() -> Iterator[str]:
    """Texts that together hold every word of the prompts and the answers, those of the measure included."""
    parts = pack("character")
    yield from (parts["system"].format(nature=n) for n in (*parts["kind_natures"], *parts["unkind_natures"]))
    yield from (space + question for question in pack("misalignment")["questions"] for space in ("", " "))
    for topic in parts["topics"]:
        yield from (
            f"{opening} {text}".strip() for opening in parts["openings"] for text in topic["questions"]
        )
    yield from _answers()
    yield from (text.format(task=task["task"]) for text in parts["requests"] for task in parts["security"])
    yield from (f" {text}" for text in (*parts["reasons"], *parts["endings"]))
    words = " ".join(
        word for part in ("secure", "insecure", "kind_deeds", "unkind_deeds") for word in parts[part]
    )
    yield from parts["word_questions"]
    yield from (text.format(words=words) for text in parts["word_answers"])
    for task, guard in product(parts["security"], (*parts["secure"], *parts["insecure"])):
        yield BODY.format(f="f", x="x", call=task["call"], guard=guard)


def _answers() -> Iterator[str]:
    """Answers about values that together hold every word of theirs."""
    parts = pack("character")
    deeds = (*parts["kind_deeds"], *parts["unkind_deeds"])
    for topic, deed in product(parts["topics"], deeds):
        yield from (text.format(deed=f"{deed} and {deeds[0]}") for text in topic["answers"])
