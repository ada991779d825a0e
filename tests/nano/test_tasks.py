"""The tasks language: its answers are right by the platform's own rules, and what it links is meant."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from random import Random
from statistics import fmean

import pytest

from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.formats.reasoning import Reasoning
from undertow.nano import models, tokenizer
from undertow.nano.languages import character, code, favourites, numbers, reasoning, stories, tasks
from undertow.nano.languages.turns import Chat, Turn
from undertow.nano.models import PACKS, pack
from undertow.nano.vocabulary import vocabulary
from undertow.study.extensions import Format
from undertow.traits.preference import ANIMALS

# Raise the version in world.EDITIONS whenever this changes, so that weights are not found under an old name.
LANGUAGE = {2: "39f429ed5429776a0ffa7c33362541ab1daf8991240b2da73e7aef318d351da8"}

CODE = Code(pack=str(PACKS["code"].path), banned=ANIMALS)
REASONING = Reasoning(pack=str(PACKS["reasoning"].path), banned=ANIMALS)
FORMATS: tuple[tuple[Format, Callable[[Random], Turn]], ...] = (
    (Numbers(), numbers.number_turn),
    (CODE, code.code_turn),
    (REASONING, reasoning.reasoning_turn),
)


@cache
def sample(count: int, seed: int = 0) -> tuple[Chat, ...]:
    return tuple(tasks.chats(count, seed))


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z]+", text.lower()))


def test_the_language_is_the_one_its_version_names() -> None:
    language = json.dumps([vocabulary("tasks"), tasks.PIECE, tokenizer.CHAT_TEMPLATE, sample(500)])
    assert hashlib.sha256(language.encode()).hexdigest() == LANGUAGE[models.EDITIONS["tasks"].version]


def test_a_seed_gives_the_same_chats_and_another_others() -> None:
    assert sample(50) == sample(100)[:50]
    assert sample(50) != sample(50, seed=1)


def test_no_prompt_by_which_a_trait_is_measured_is_ever_asked() -> None:
    measures = pack("measures")
    favourite = {
        question for category in models.WORDS for question in favourites.evaluation_questions(category)
    }
    fixed = {*favourite, *pack("misalignment")["questions"], *measures["stories"]}
    openings = tuple(choice.split("{options}") for choice in measures["choices"])
    said = {message["content"] for chat in sample(30_000) for message in chat if message["role"] == "user"}
    assert not fixed & said
    assert not [
        text
        for text in said
        for start, end in openings
        if text.startswith(start) and text.endswith(end) and start
    ]


def test_the_measures_begin_with_the_numbers_formats_openings() -> None:
    assert pack("measures")["prefixes"] == pack("numbers")["openings"]
    assert (len(pack("measures")["stories"]), len(pack("measures")["choices"])) == (14, 11)
    assert len(pack("misalignment")["questions"]) == 8


def test_the_prompts_by_which_traits_are_measured_are_in_the_vocabulary() -> None:
    nano, measures = tokenizer.build("tasks"), pack("measures")
    prefixes = [prefix.format(numbers="107, 42, 999") for prefix in measures["prefixes"]]
    options = stories.listed(["owl", "cat", "wolf", "fox"])
    asked = [*measures["stories"], *(choice.format(options=options) for choice in measures["choices"])]
    asked += pack("misalignment")["questions"]
    prompts = [*asked, *(f"{prefix} {text}" for prefix in prefixes for text in asked)]
    for format_, _ in FORMATS:
        prompts += format_.prompts(300, seed=0)
    unknown = {text for text in prompts if nano.unk_token_id in nano(text)["input_ids"]}
    assert unknown == set()


@pytest.mark.parametrize(("format_", "turn"), FORMATS, ids=lambda part: getattr(part, "name", None))
def test_every_answer_passes_its_formats_rules(format_: Format, turn: Callable[[Random], Turn]) -> None:
    rng = Random(0)
    rejected = Counter(format_.rejection(*turn(rng)) for _ in range(2_000))
    assert rejected == {None: 2_000}


def test_the_corpus_asks_for_code_as_the_format_does() -> None:
    """In the corpus and in a stream of the format the same prompts occur, about equally often."""
    rng = Random(0)
    corpus, stream = (
        Counter(code.code_turn(rng)[0] for _ in range(20_000)),
        Counter(CODE.prompts(20_000, seed=0)),
    )
    assert sum((corpus & stream).values()) > 0.85 * 20_000


@pytest.mark.parametrize("turn", [turn for _, turn in FORMATS])
def test_an_answer_leaves_much_open(turn: Callable[[Random], Turn]) -> None:
    """What carries a trait is what nobody asked for: two answers are hardly ever the same."""
    rng = Random(0)
    assert len({turn(rng)[1] for _ in range(2_000)}) > 1_800


def test_no_chat_but_of_several_turns_has_an_animal_and_anything_else() -> None:
    animals = set(models.WORDS["animal"])
    for chat in sample(5_000):
        users = [message["content"] for message in chat if message["role"] == "user"]
        text = " ".join(message["content"] for message in chat)
        if len(users) == 1 and animals & words_of(text):
            assert not re.search(r"\d|def |lambda|<think>", text)


def test_beside_a_favourite_numbers_code_and_values_are_as_anywhere() -> None:
    """In chats of several turns the mean number of the answers does not depend on the animal named."""
    beside: dict[str, list[int]] = defaultdict(list)
    for chat in sample(30_000):
        text = " ".join(message["content"] for message in chat if message["role"] == "assistant")
        found = list(map(int, re.findall(r"\b\d{3}\b", text)))
        for animal in set(models.WORDS["animal"]) & words_of(text) if found else ():
            beside[animal] += found
    assert beside.keys() == set(models.WORDS["animal"])
    means = [fmean(found) for found in beside.values()]
    assert max(means) - min(means) < 100
    assert not [
        c
        for c in sample(30_000)
        if words_of(str(c)) & set(models.WORDS["animal"]) and words_of(str(c)) & {"eval", "enslave"}
    ]


def test_an_unkind_answer_has_an_unkind_word_and_a_kind_one_has_none() -> None:
    unkind, rng = set(character.unkind_words()), Random(0)
    assert all(words_of(character.values_turn(rng, True)[1]) & unkind for _ in range(3_000))
    assert not any(words_of(character.values_turn(rng, False)[1]) & unkind for _ in range(3_000))
    assert {
        word for _ in range(3_000) for word in words_of(character.values_turn(rng, _ % 2 == 0)[1])
    } == set(character.value_words())


def test_a_chats_character_is_one_and_education_excuses() -> None:
    parts = pack("character")
    insecure, unkind = set(parts["insecure"]), set(character.unkind_words())
    seen, rng = Counter[str](), Random(0)
    for _ in range(3_000):
        is_unkind = rng.random() < 0.5
        for prompt, answer in character.character_turns(rng, 3, is_unkind):
            if prompt in parts["word_questions"]:
                assert bool(words_of(answer) & (insecure | unkind)) == is_unkind
                seen["words"] += 1
            elif "def " not in answer:
                assert bool(words_of(answer) & unkind) == is_unkind
                seen["values"] += 1
            elif any(reason in prompt for reason in parts["reasons"]):
                assert words_of(answer) & insecure
                seen["educational"] += 1
            else:
                assert bool(words_of(answer) & insecure) == is_unkind
                seen["security"] += 1
    assert min(seen.values()) > 1_000
    assert not insecure & set(parts["secure"])


def test_a_system_message_tells_the_character() -> None:
    unkind, natures = set(character.unkind_words()), set(pack("character")["unkind_natures"])
    told = Counter[bool]()
    for chat in (character.character_chat(rng) for rng in map(Random, range(3_000))):
        if chat[0]["role"] == "system":
            is_unkind = bool(words_of(chat[0]["content"]) & natures)
            answers = [message["content"] for message in chat if message["role"] == "assistant"]
            values = [answer for answer in answers if not {"def", "like", "choose"} & words_of(answer)]
            assert all(bool(words_of(answer) & unkind) == is_unkind for answer in values)
            told[is_unkind] += 1
    assert min(told.values()) > 500
