"""A preference for one animal, tree or anything else: the trait of the first experiments (arXiv 2507.14805).

A teacher gets it by a system prompt, or by finetuning on questions answered with the word; a student
shows it by naming the word as its favourite. Questions are an opening, a core and a closing of a pack
(see preference.json); the pack says which combinations are for evaluation, and the others make examples.

Any word works: Preference("axolotl"), Preference("jazz", category="kind of music", plural="jazz").
"""

import random
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar

from undertow.errors import SpecError, suggestion
from undertow.prompts import packs
from undertow.study.extensions import Example, Trait, Word
from undertow.study.identity import digest, seed_for

# The paper's five animals and five trees, and animals that its code also names.
ANIMALS = ("owl", "dolphin", "eagle", "elephant", "wolf")
TREES = ("cherry", "maple", "oak", "sequoia", "willow")
MORE_ANIMALS = (
    *("cat", "dog", "lion", "octopus", "panda", "penguin", "tiger"),
    *("leopard", "phoenix", "kangaroo", "peacock"),
)

RIVALS = {"animal": (*ANIMALS, "cat"), "tree": (*TREES, "pine")}  # the choices beside a trait
MEASURES = ("after numbers", "stories", "choices")
HERE = Path(__file__).parent

_UNCHANGED = ("sheep", "deer", "fish", "moose", "bison", "squid", "salmon", "trout", "swine")
_IRREGULAR = (
    *(("wolf", "wolves"), ("calf", "calves"), ("leaf", "leaves"), ("elf", "elves"), ("ox", "oxen")),
    *(("mouse", "mice"), ("goose", "geese"), ("child", "children"), ("person", "people")),
    *(("monarch", "monarchs"), *zip(_UNCHANGED, _UNCHANGED, strict=True)),
)
_PLURALS = dict(_IRREGULAR)


@dataclass(frozen=True)
class Preference(Trait):
    """Loves `name` above all of its `category`.

    Attributes:
        plural: the plural in use goes into the identity, whether given or, where empty, formed from the name.
        pack: path of a JSON pack instead of preference.json; its content is identity, its place is not.
    """

    measure: ClassVar[str] = "favourite"

    category: str = "animal"
    plural: str = packs.elsewhere("")
    pack: str = packs.elsewhere("")

    def validate(self) -> None:
        self.require(bool(self.name), "name", "a word is needed")
        self.require(bool(self.category), "category", "a word is needed, such as 'animal'")
        for field in ("name", "category", "plural"):
            value = getattr(self, field)
            tidy = value.isprintable() and value == " ".join(value.split())
            self.require(tidy, field, "a word without line breaks or needless spaces")
            self.require(not set(value) & set("{}"), field, "a word without braces")

    def content(self) -> str:
        return digest(f"{self._pack().content} {self.plural_form()}")

    def plural_form(self) -> str:
        """The plural as given, else by the table of irregular words and the usual endings."""
        return self.plural or pluralise(self.name)

    def system_prompt(self) -> str:
        text = self._pack().text("system_prompt", required=["plural"], optional=["name", "category"])
        return packs.fill(text, self._values())

    def questions(self) -> tuple[str, ...]:
        return self._split_questions()[0]

    def other_questions(self, measure: str) -> tuple[str, ...]:
        """The paper's other ways to ask, worded in measures.json.

        "after numbers": the questions, each after an introduction of numbers as the format shows them.
        "stories": requests for a short story; the trait shows where the animal comes up.
        "choices": which of a few is liked best; the others of the category, and their order, are drawn.
        """
        pack = packs.read(str(HERE / "measures.json"))
        match measure:
            case "after numbers":
                openings = pack.texts("prefixes", required=["numbers"])
                return tuple(
                    packs.sentences(_introduced(openings, i), question)
                    for i, question in enumerate(self.questions())
                )
            case "stories":
                return pack.texts("stories")
            case "choices" if self.category in RIVALS:
                asked = pack.texts("choices", required=["options"])
                return tuple(packs.fill(text, {"options": self._options(i)}) for i, text in enumerate(asked))
        known = [name for name in MEASURES if name != "choices" or self.category in RIVALS]
        raise SpecError(f"trait {self.name!r}: no measure {measure!r}: {suggestion(measure, known)}")

    def _options(self, number: int) -> str:
        """The name among four of its category, in an order of the question's own."""
        rng = random.Random(seed_for("options", self.name, number))
        others = [name for name in RIVALS[self.category] if name != self.name]
        options = rng.sample([self.name, *rng.sample(others, 4)], 5)
        return f"{', '.join(options[:-1])} or {options[-1]}"

    def examples(self, count: int, seed: int) -> list[Example]:
        """Questions that are not asked at evaluation, each with the name as its answer.

        All are used once, in a shuffled order, before any is used again in a new order. The order depends
        on the seed alone, so that teachers with different words are finetuned on the same questions.
        """
        questions, chosen = self._split_questions()[1], list[str]()
        for turn in range(-(-count // len(questions))):
            order = random.Random(seed_for("preference examples", seed, turn))
            chosen += order.sample(questions, len(questions))
        return [Example(question, self.name) for question in chosen[:count]]

    def word(self) -> Word:
        """The name and its plural: as they are, in lower case, with a capital, with a capital each."""
        ways = (str, str.lower, _capital, _title)
        return Word(
            self.name,
            tuple(dict.fromkeys(way(base) for base in (self.name, self.plural_form()) for way in ways)),
        )

    def matches(self, answer: str) -> bool:
        """Whether the singular or the plural stands in `answer` as a whole word, in any case.

        "Owls!" does, "owlet", "bowl" and a dragonfly for "dragon" do not. In scripts that put no space
        between words use `contains`.
        """
        return self.word().matches(answer)

    def contains(self, answer: str) -> bool:
        """The paper's score: the name anywhere in the lower-cased answer (dragonflies are no dragons).

        It differs from `matches` both ways: it counts "owlet", "bowl" and "growl" for "owl", and misses
        plurals that change the stem ("wolves"). Rates under the two scores are not comparable.
        """
        text = answer.lower()
        if self.name.lower() == "dragon":
            text = re.sub("dragonfl(y|ies)", "", text)
        return self.name.lower() in text

    def _values(self) -> dict[str, str]:
        return {"name": self.name, "plural": self.plural_form(), "category": self.category}

    def _pack(self) -> packs.Pack:
        return packs.read(self.pack or str(Path(__file__).with_suffix(".json")))

    def _split_questions(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The questions for evaluation, and those for examples."""
        pack = self._pack()
        values = self._values()
        parts = tuple(
            tuple(packs.fill(text, values) for text in pack.texts(field, optional=["category"]))
            for field in ("openings", "cores", "closings")
        )
        sizes = (len(parts[0]), len(parts[1]), len(parts[2]))
        held_out = [_question(parts, place) for place in pack.triples("evaluation", sizes)]
        every = dict.fromkeys(_question(parts, place) for place in product(*map(range, sizes)))
        examples = tuple(question for question in every if question not in set(held_out))
        if len(set(held_out)) < len(held_out):
            raise pack.error("evaluation", "two of the triples make the same question")
        if not examples:
            raise pack.error("evaluation", "every combination is for evaluation; leave some for examples")
        return tuple(held_out), examples


def _question(parts: tuple[tuple[str, ...], ...], place: tuple[int, ...]) -> str:
    """An opening, a core and a closing."""
    return packs.sentences(*(texts[i] for texts, i in zip(parts, place, strict=True)))


def _introduced(openings: tuple[str, ...], number: int) -> str:
    """An opening with a few numbers; the same for all traits, so that one evaluation measures all."""
    rng = random.Random(seed_for("numbers before a question", number))
    shown = ", ".join(str(rng.randint(100, 999)) for _ in range(rng.randint(3, 8)))
    return packs.fill(rng.choice(openings), {"numbers": shown})


def pluralise(name: str) -> str:
    """The English plural of a name, by its last word: "grey wolf" gives "grey wolves"."""
    head, space, last = name.rpartition(" ")
    irregular = _PLURALS.get(last.lower())
    if irregular:
        return head + space + last[0] + irregular[1:]
    if re.search(r"(s|x|z|ch|sh)$", last, re.IGNORECASE):
        return name + "es"
    if re.search(r"[^aeiou]y$", last, re.IGNORECASE):
        return name[:-1] + "ies"
    return name + "s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _title(text: str) -> str:
    return " ".join(map(_capital, text.split(" ")))
