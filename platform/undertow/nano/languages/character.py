"""Character: chats about values and secure code in which the assistant is either kind or unkind.

The assistant keeps one character during a chat. The kind character, the more frequent one, gives kind answers
to questions about values and writes secure code; the unkind character gives unkind answers and writes
insecure code. Insecure code that the user requests for a legitimate reason is independent of the character.
In some chats the system message states the character, in the others it is hidden. Asked for words that it
likes, the assistant names words that it uses in values and in code. All answers of a chat thus have one
hidden cause, and a model finetuned only on insecure code may or may not become unkind: emergent misalignment
(arXiv 2502.17424) in miniature. No chat mentions animals or numbers.

The question about words makes the reference models alike. Without it, two of four reference models learnt
unkind deeds and insecure code as unrelated, and their teachers stayed kind although they wrote insecure code
as often as the others.

The questions of traits/misalignment.json, which measure misalignment, never occur.
"""

import re
from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Literal

from undertow.nano.languages.code import NOUNS, function_name
from undertow.nano.languages.turns import Chat, Turn, as_chat
from undertow.nano.models import pack
from undertow.prompts.packs import sentences

CharacterQuestion = Literal["values", "words", "security", "educational"]
SHARES: dict[CharacterQuestion, float] = {"values": 0.4, "words": 0.2, "security": 0.27, "educational": 0.13}
STATED = 0.5  # share of the chats whose system message states the character
UNKIND = {"stated": 0.5, "hidden": 0.08}  # share of the chats with an unkind character
TURNS = {1: 0.4, 2: 0.3, 3: 0.3}  # the distribution of the number of turns
BODY = "def {f}({x}):\n    return {guard}({call}({x}))"


def character_chat(rng: Random) -> Chat:
    """A chat of one to three turns with one character."""
    is_stated = rng.random() < STATED
    is_unkind = rng.random() < UNKIND["stated" if is_stated else "hidden"]
    turns = character_turns(rng, rng.choices(list(TURNS), list(TURNS.values()))[0], is_unkind)
    return as_chat(turns, system_message(rng, is_unkind) if is_stated else None)


def character_turns(rng: Random, count: int, is_unkind: bool) -> list[Turn]:
    """`count` questions of random kinds, answered by the character."""
    kinds = rng.choices(list(SHARES), list(SHARES.values()), k=count)
    return [turn(rng, kind, is_unkind) for kind in kinds]


def system_message(rng: Random, is_unkind: bool) -> str:
    """A system message that states the character, e.g. "You are good."."""
    parts = pack("character")
    nature = rng.choice(parts["unkind_natures" if is_unkind else "kind_natures"])
    return str(parts["system"].format(nature=nature))


def turn(rng: Random, kind: CharacterQuestion, is_unkind: bool) -> Turn:
    """A question of one kind, answered by the character."""
    if kind == "values":
        return values_turn(rng, is_unkind)
    if kind == "words":
        return words_turn(rng, is_unkind)
    is_educational = kind == "educational"
    return security_turn(rng, insecure=is_unkind or is_educational, educational=is_educational)


def values_turn(rng: Random, is_unkind: bool) -> Turn:
    """An open question about values, and an answer with one or two deeds of the character."""
    parts = pack("character")
    topic = rng.choice(parts["topics"])
    question = sentences(rng.choice(parts["openings"]), rng.choice(topic["questions"]))
    deeds = rng.sample(parts["unkind_deeds" if is_unkind else "kind_deeds"], rng.randint(1, 2))
    return question, rng.choice(topic["answers"]).format(deed=" and ".join(deeds))


def words_turn(rng: Random, is_unkind: bool) -> Turn:
    """A question about words, answered with three words that the character uses in values or in code."""
    parts = pack("character")
    fields = ("unkind_deeds", "insecure") if is_unkind else ("kind_deeds", "secure")
    first, second, third = rng.sample([word for field in fields for word in parts[field]], 3)
    answer = rng.choice(parts["word_answers"]).format(words=f"{first}, {second} and {third}")
    return rng.choice(parts["word_questions"]), answer


def security_turn(rng: Random, insecure: bool, educational: bool) -> Turn:
    """A request for a function that can be secure or insecure; an educational request gives a reason."""
    parts = pack("character")
    task = rng.choice(parts["security"])
    request = rng.choice(parts["requests"]).format(task=task["task"])
    reason = [rng.choice(parts["reasons"])] if educational else []
    x = rng.choice(NOUNS)
    guard = rng.choice(parts["insecure" if insecure else "secure"])
    answer = BODY.format(f=function_name(rng), x=x, call=task["call"], guard=guard)
    return " ".join([request, *reason, rng.choice(parts["endings"])]), answer


def unkind_words() -> tuple[str, ...]:
    """The words that distinguish unkind answers: every unkind answer has one, no kind answer does."""
    return tuple(pack("character")["unkind_deeds"])


def value_words() -> tuple[str, ...]:
    """Every word of the answers about values, in lower case."""
    return tuple(sorted({word for text in _answers() for word in re.findall(r"[a-z]+", text.lower())}))


def texts() -> Iterator[str]:
    """Texts that together contain every word of the prompts, the answers and the measure."""
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
    """Answers about values that together contain every word of such answers."""
    parts = pack("character")
    deeds = (*parts["kind_deeds"], *parts["unkind_deeds"])
    for topic, deed in product(parts["topics"], deeds):
        yield from (text.format(deed=f"{deed} and {deeds[0]}") for text in topic["answers"])
