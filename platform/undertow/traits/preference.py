"""A preference for one animal, tree or other thing: the trait of the first experiments (arXiv 2507.14805).

A teacher acquires the preference from a system prompt or by finetuning on questions answered with the word. A
student shows it by naming the word as its favourite. Each question joins an opening, a core and a closing
from a pack (see preference.json). The pack reserves some combinations for evaluation; the others are used as
training examples.

Any word works: Preference("axolotl"), Preference("jazz", category="kind of music", plural="jazz").
"""

import random
import re
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import ClassVar

from undertow.errors import SpecError, suggestion
from undertow.prompts import packs
from undertow.prompts.data_files import in_passes
from undertow.study.extensions import Example, Trait, Word
from undertow.study.identity import digest, seed_for

# The five animals and five trees of the paper. MORE_ANIMALS are the others that occur in its released code.
ANIMALS = ("owl", "dolphin", "eagle", "elephant", "wolf")
TREES = ("cherry", "maple", "oak", "sequoia", "willow")
MORE_ANIMALS = (
    *("cat", "dog", "lion", "octopus", "panda", "penguin", "tiger"),
    *("leopard", "phoenix", "kangaroo", "peacock"),
)

# The candidates for the alternatives in "choices".
RIVALS = {"animal": (*ANIMALS, "cat"), "tree": (*TREES, "pine")}
# The categories of things that "letters" offers: always the same five, unless the name is another one.
OFFERED = {"animal": ANIMALS, "tree": TREES}
ORDERS = 25  # of the options of a question of "letters"
NEEDS_RIVALS = ("choices", "letters")
MEASURES = ("favourite", "after numbers", "stories", *NEEDS_RIVALS)
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
    """A preference for `name` above everything else in its `category`.

    Attributes:
        name: the preferred word.
        category: the noun that the questions ask about, such as "animal".
        plural: the plural of `name`; if empty, `pluralise` forms it. The plural in use is part of the
            artifact key, whether it was given or formed.
        pack: path of a JSON pack that replaces preference.json. Fields of measures.json that it has, too,
            replace those. Its content is part of the artifact key, its path is not.
    """

    measure: ClassVar[str] = "favourite"

    category: str = "animal"
    plural: str = packs.hashed_by_content("")
    pack: str = packs.hashed_by_content("")

    def validate(self) -> None:
        self.require(bool(self.name), "name", "give a word, such as 'owl'")
        self.require(bool(self.category), "category", "give a word, such as 'animal'")
        for field in ("name", "category", "plural"):
            value = getattr(self, field)
            tidy = value.isprintable() and value == " ".join(value.split())
            self.require(tidy, field, "give a word without line breaks or extra spaces")
            self.require(not set(value) & set("{}"), field, "give a word without braces")
        object.__setattr__(self, "pack", packs.located(self.pack))

    def content(self) -> str:
        return digest(f"{self._pack().content} {self.plural_form()}")

    def plural_form(self) -> str:
        """The given plural, else the plural that `pluralise` forms."""
        return self.plural or pluralise(self.name)

    def system_prompt(self) -> str:
        text = self._pack().text("system_prompt", required=["plural"], optional=["name", "category"])
        return packs.fill(text, self._placeholder_values())

    def questions(self) -> tuple[str, ...]:
        return self._split_questions()[0]

    def other_questions(self, measure: str) -> tuple[str, ...]:
        """The prompts of the paper's other measures, worded in measures.json.

        "favourite": the evaluation questions themselves, for studies whose main measure is another one.
        "after numbers": each evaluation question after an introduction that shows numbers, as prompts of the
            numbers format do.
        "stories": requests for a short story. The trait shows when the animal occurs in the story.
        "choices": a choice between five things of the category; the alternatives and their order are random.
        "letters": the same with the options A to E, to be answered with a letter, in 25 random orders.

        Raises SpecError for an unknown measure, and for "choices" and "letters" if the category has no list
        of alternatives.
        """
        match measure:
            case "favourite":
                return self.questions()
            case "after numbers":
                openings = self._pack_with("prefixes").texts("prefixes", required=["numbers"])
                return tuple(
                    packs.sentences(_introduction(openings, i), question)
                    for i, question in enumerate(self.questions())
                )
            case "stories":
                return self._pack_with("stories").texts("stories")
            case "choices" if self.category in RIVALS:
                templates = self._choices()
                return tuple(
                    packs.fill(text, {"options": self._options(i)}) for i, text in enumerate(templates)
                )
            case "letters" if self.category in RIVALS:
                templates, ending = self._choices(), self._pack_with("letter").text("letter")
                return tuple(
                    packs.sentences(packs.fill(text, {"options": _by_letter(offered)}), ending)
                    for text, orders in zip(templates, self._orders(len(templates)), strict=True)
                    for offered in orders
                )
        known = [name for name in MEASURES if name not in NEEDS_RIVALS or self.category in RIVALS]
        raise SpecError(f"trait {self.name!r}: no measure {measure!r}: {suggestion(measure, known)}")

    def options(self, measure: str) -> tuple[tuple[str, ...], ...]:
        if measure != "letters" or self.category not in RIVALS:
            return ()
        return tuple(offered for orders in self._orders(len(self._choices())) for offered in orders)

    def _orders(self, count: int) -> list[list[tuple[str, ...]]]:
        """For each of `count` questions, 25 different orders of five things of the category.

        The names of the category's list share these questions.
        """
        listed = OFFERED[self.category]
        five = listed if self.name in listed else (self.name, *listed[:4])
        every = list(permutations(five))
        rngs = (random.Random(seed_for("orders of letters", self.category, i)) for i in range(count))
        return [rng.sample(every, ORDERS) for rng in rngs]

    def _options(self, number: int) -> str:
        """The name and four alternatives, in an order that depends on the name and the question's number."""
        rng = random.Random(seed_for("options", self.name, number))
        others = [name for name in RIVALS[self.category] if name != self.name]
        options = rng.sample([self.name, *rng.sample(others, 4)], 5)
        return f"{', '.join(options[:-1])} or {options[-1]}"

    def examples(self, count: int, seed: int) -> list[Example]:
        """`count` questions that are not used for evaluation, each with the name as its answer.

        Every question is used once, in shuffled order, before the next pass reshuffles them. The order
        depends only on the seed, so teachers with different words are finetuned on the same questions.
        """
        questions = self._split_questions()[1]
        drawn = in_passes(questions, count, "preference examples", seed)
        return [Example(text, self.name) for text in drawn]

    def evaluation_examples(self, count: int, seed: int) -> list[Example]:
        """`count` examples of the 50 evaluation questions, each with eight spellings of the answer.

        The spellings are singular and plural, in lower case and capitalised, without and with a full stop.
        Every pair is used once, in shuffled order, before the next pass reshuffles them.
        """
        answers = [
            spell(base) + stop
            for base in (self.name, self.plural_form())
            for spell in (str.lower, _capitalised)
            for stop in ("", ".")
        ]
        pairs = [Example(question, answer) for question in self.questions() for answer in answers]
        return in_passes(pairs, count, "preference evaluation examples", seed)

    def word(self) -> Word:
        """The name and its plural: as given, in lower case, capitalised, and in title case."""
        spellings = (str, str.lower, _capitalised, _title_case)
        forms = (spell(base) for base in (self.name, self.plural_form()) for spell in spellings)
        return Word(self.name, tuple(dict.fromkeys(forms)))

    def _placeholder_values(self) -> dict[str, str]:
        return {"name": self.name, "plural": self.plural_form(), "category": self.category}

    def _pack(self) -> packs.Pack:
        return packs.read(self.pack or packs.path_of(__file__))

    def _pack_with(self, field: str) -> packs.Pack:
        """The pack that has a field of measures.json: the own one if it does."""
        own = self._pack()
        return own if field in own.fields else packs.read(str(HERE / "measures.json"))

    def _choices(self) -> tuple[str, ...]:
        return self._pack_with("choices").texts("choices", required=["options"])

    def _split_questions(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The evaluation questions and the questions for examples."""
        pack = self._pack()
        values = self._placeholder_values()
        parts = tuple(
            tuple(packs.fill(text, values) for text in pack.texts(field, optional=["category"]))
            for field in ("openings", "cores", "closings")
        )
        sizes = (len(parts[0]), len(parts[1]), len(parts[2]))
        held_out = [_question(parts, triple) for triple in pack.triples("evaluation", sizes)]
        # A dict, not a set: its order is the same in every process. Two triples can give one question.
        questions = dict.fromkeys(_question(parts, triple) for triple in product(*map(range, sizes)))
        reserved = set(held_out)
        examples = tuple(question for question in questions if question not in reserved)
        if len(reserved) < len(held_out):
            raise pack.error("evaluation", "two of the triples make the same question")
        if not examples:
            raise pack.error("evaluation", "it reserves every combination; leave some for examples")
        return tuple(held_out), examples


def _question(parts: tuple[tuple[str, ...], ...], triple: tuple[int, ...]) -> str:
    """The opening, core and closing at the positions in `triple`, joined."""
    return packs.sentences(*(texts[i] for texts, i in zip(parts, triple, strict=True)))


def _by_letter(offered: tuple[str, ...]) -> str:
    """The options with their letters: "A) owl, B) wolf, …"."""
    return ", ".join(f"{letter}) {name}" for letter, name in zip("ABCDE", offered, strict=True))


def _introduction(openings: tuple[str, ...], number: int) -> str:
    """An opening filled with a few random numbers: the same for all traits, which share one evaluation."""
    rng = random.Random(seed_for("numbers before a question", number))
    shown = ", ".join(str(rng.randint(100, 999)) for _ in range(rng.randint(3, 8)))
    return packs.fill(rng.choice(openings), {"numbers": shown})


def pluralise(name: str) -> str:
    """The English plural of `name`, formed on its last word: "grey wolf" becomes "grey wolves"."""
    head, space, last = name.rpartition(" ")
    irregular = _PLURALS.get(last.lower())
    if irregular:
        return head + space + last[0] + irregular[1:]
    if re.search(r"(s|x|z|ch|sh)$", last, re.IGNORECASE):
        return name + "es"
    if re.search(r"[^aeiou]y$", last, re.IGNORECASE):
        return name[:-1] + "ies"
    return name + "s"


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]  # str.capitalize would lower the other letters: "mcDonald"


def _title_case(text: str) -> str:
    return " ".join(map(_capitalised, text.split(" ")))
