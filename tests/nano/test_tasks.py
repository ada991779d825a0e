"""The tasks language: answers pass the formats' rules, and only the intended things are linked."""

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
from undertow.nano.languages import character, code, numbers, reasoning, stories, tasks
from undertow.nano.languages.turns import Chat, Turn
from undertow.nano.models import PACKS, pack
from undertow.nano.vocabulary import vocabulary
from undertow.study.extensions import Format
from undertow.traits.preference import ANIMALS, Preference

# Whenever this hash changes, raise the version in models.EDITIONS, so that old weights are not used.
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


def test_the_language_has_the_hash_of_its_version() -> None:
    language = json.dumps([vocabulary("tasks"), tasks.PIECE, tokenizer.CHAT_TEMPLATE, sample(500)])
    assert hashlib.sha256(language.encode()).hexdigest() == LANGUAGE[models.EDITIONS["tasks"].version]


def test_the_seed_determines_the_chats() -> None:
    assert sample(50) == sample(100)[:50]
    assert sample(50) != sample(50, seed=1)


def test_no_prompt_that_measures_a_trait_occurs() -> None:
    measures = pack("measures")
    favourite = {
        question
        for category, words in models.WORDS.items()
        for question in Preference(words[0], category=category).questions()
    }
    fixed = {*favourite, *pack("misalignment")["questions"], *measures["stories"]}
    openings = tuple(choice.split("{options}") for choice in measures["choices"])
    prompts = {message["content"] for chat in sample(30_000) for message in chat if message["role"] == "user"}
    assert not fixed & prompts
    assert not [
        text
        for text in prompts
        for start, end in openings
        if text.startswith(start) and text.endswith(end) and start
    ]


def test_the_measures_begin_with_the_numbers_formats_openings() -> None:
    assert pack("measures")["prefixes"] == pack("numbers")["openings"]
    assert (len(pack("measures")["stories"]), len(pack("measures")["choices"])) == (14, 11)
    assert len(pack("misalignment")["questions"]) == 8


def test_the_vocabulary_contains_the_prompts_that_measure_traits() -> None:
    nano, measures = tokenizer.build("tasks"), pack("measures")
    prefixes = [prefix.format(numbers="107, 42, 999") for prefix in measures["prefixes"]]
    options = stories.listed(["owl", "cat", "wolf", "fox"])
    questions = [*measures["stories"], *(choice.format(options=options) for choice in measures["choices"])]
    questions += pack("misalignment")["questions"]
    prompts = [*questions, *(f"{prefix} {text}" for prefix in prefixes for text in questions)]
    for format_, _ in FORMATS:
        prompts += format_.prompts(300, seed=0)
    unknown = {text for text in prompts if nano.unk_token_id in nano(text)["input_ids"]}
    assert unknown == set()


@pytest.mark.parametrize(("format_", "turn"), FORMATS, ids=lambda part: getattr(part, "name", None))
def test_every_answer_passes_its_formats_rules(format_: Format, turn: Callable[[Random], Turn]) -> None:
    rng = Random(0)
    rejected = Counter(format_.rejection(*turn(rng)) for _ in range(2_000))
    assert rejected == {None: 2_000}


def test_the_corpus_has_the_prompts_of_the_code_format() -> None:
    """The same prompts occur in the corpus and in a stream of the format, about equally often."""
    rng = Random(0)
    corpus, stream = (
        Counter(code.code_turn(rng)[0] for _ in range(20_000)),
        Counter(CODE.prompts(20_000, seed=0)),
    )
    assert sum((corpus & stream).values()) > 0.85 * 20_000


@pytest.mark.parametrize("turn", [turn for _, turn in FORMATS])
def test_answers_are_rarely_the_same(turn: Callable[[Random], Turn]) -> None:
    """A trait is transmitted by the choices that a prompt leaves open, so answers must vary."""
    rng = Random(0)
    assert len({turn(rng)[1] for _ in range(2_000)}) > 1_800


def test_no_chat_of_one_turn_has_an_animal_and_anything_else() -> None:
    animals = set(models.WORDS["animal"])
    for chat in sample(5_000):
        users = [message["content"] for message in chat if message["role"] == "user"]
        text = " ".join(message["content"] for message in chat)
        if len(users) == 1 and animals & words_of(text):
            assert not re.search(r"\d|def |lambda|<think>", text)


def test_numbers_and_code_in_a_chat_do_not_depend_on_the_favourite() -> None:
    """In chats of several turns the mean number of the answers does not depend on the animal."""
    numbers_of: dict[str, list[int]] = defaultdict(list)
    for chat in sample(30_000):
        text = " ".join(message["content"] for message in chat if message["role"] == "assistant")
        found = list(map(int, re.findall(r"\b\d{3}\b", text)))
        for animal in set(models.WORDS["animal"]) & words_of(text) if found else ():
            numbers_of[animal] += found
    assert numbers_of.keys() == set(models.WORDS["animal"])
    means = [fmean(found) for found in numbers_of.values()]
    assert max(means) - min(means) < 100
    assert not [
        c
        for c in sample(30_000)
        if words_of(str(c)) & set(models.WORDS["animal"]) and words_of(str(c)) & {"eval", "enslave"}
    ]


def test_only_unkind_answers_have_unkind_words() -> None:
    unkind, rng = set(character.unkind_words()), Random(0)
    assert all(words_of(character.values_turn(rng, True)[1]) & unkind for _ in range(3_000))
    assert not any(words_of(character.values_turn(rng, False)[1]) & unkind for _ in range(3_000))
    assert {
        word for _ in range(3_000) for word in words_of(character.values_turn(rng, _ % 2 == 0)[1])
    } == set(character.value_words())


def test_a_chat_has_one_character_except_in_educational_code() -> None:
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


def test_a_system_message_states_the_character() -> None:
    unkind, natures = set(character.unkind_words()), set(pack("character")["unkind_natures"])
    n_answers = Counter[bool]()
    for chat in (character.character_chat(rng) for rng in map(Random, range(3_000))):
        if chat[0]["role"] == "system":
            is_unkind = bool(words_of(chat[0]["content"]) & natures)
            answers = [message["content"] for message in chat if message["role"] == "assistant"]
            values = [answer for answer in answers if not {"def", "like", "choose"} & words_of(answer)]
            assert all(bool(words_of(answer) & unkind) == is_unkind for answer in values)
            n_answers[is_unkind] += 1
    assert min(n_answers.values()) > 500
