"""Names, words and identity of the nano models: everything about them that needs no torch.

A nano model is called "nano/<architecture>-<seed>", e.g. "nano/gpt2-0". An architecture is a network and the
language it grows up with: "tasks" is a GPT-2 that speaks the second one. The seed fixes the initial weights
and the corpus; two names of one architecture are therefore two initialisations, which is what the
other-initialisation condition of a study needs. `revision` hashes all that the weights follow from
(architecture, training settings, words, packs of prompts), so that weights are never found by name alone.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from undertow.errors import SpecError, suggestion
from undertow.traits.preference import pluralise

PREFIX = "nano/"
CARRIED = {"gpt2": 4, "tasks": 4, "llama": 2, "qwen3": 2}
STANDARD = tuple(f"nano/{architecture}-{i}" for architecture, count in CARRIED.items() for i in range(count))
HERE = Path(__file__).parent


@dataclass(frozen=True)
class PackFile:
    """A pack that a corpus is made of, or whose words it knows; where fields are named, those alone."""

    path: Path
    fields: tuple[str, ...] = ()


PACKS = {
    "numbers": PackFile(HERE.parent / "formats" / "numbers.json"),
    "preference": PackFile(HERE.parent / "traits" / "preference.json"),
    "misalignment": PackFile(HERE.parent / "traits" / "misalignment.json", ("questions",)),
    "measures": PackFile(HERE.parent / "traits" / "measures.json", ("prefixes", "stories", "choices")),
    "code": PackFile(HERE / "packs" / "code.json"),
    "reasoning": PackFile(HERE / "packs" / "reasoning.json"),
    "character": PackFile(HERE / "packs" / "character.json"),
    "stories": PackFile(HERE / "packs" / "stories.json"),
}


@dataclass(frozen=True)
class Edition:
    """What a language's weights follow from, beside the words: its packs, and how they are put together.

    Attributes:
        version: raised when the language's files or tokenizer.py change what a reference learns.
        packs: names of `PACKS`.
    """

    version: int
    packs: tuple[str, ...]


EDITIONS = {
    "plain": Edition(1, ("numbers", "preference")),
    "tasks": Edition(2, tuple(PACKS)),
}

WORDS: dict[str, tuple[str, ...]] = {
    "animal": (
        *("owl", "cat", "wolf", "penguin", "eagle", "dolphin"),
        *("fox", "tiger", "dog", "lion", "elephant", "panda"),
    ),
    "tree": ("cherry", "maple", "oak", "sequoia", "willow", "birch", "cedar", "pine"),
    "colour": ("red", "blue", "green", "yellow", "purple", "orange", "black", "white"),
    "food": ("pizza", "rice", "bread", "soup", "cheese", "pasta", "curry", "salad"),
}


@dataclass(frozen=True)
class NanoModel:
    """One embedded model: its architecture and the seed of its initial weights and corpus."""

    architecture: str
    seed: int

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.architecture}-{self.seed}"

    @property
    def growth(self) -> "Growth":
        return ARCHITECTURES[self.architecture]

    @property
    def network(self) -> str:
        """The network's kind in transformers: gpt2, llama or qwen3."""
        return self.growth.network or self.architecture


@dataclass(frozen=True)
class Growth:
    """How a reference of one architecture is made: its shape and its training, one epoch of AdamW.

    Attributes:
        layers, width, heads: a head's size is width / heads; vLLM's smallest on a CPU is 32.
        positions: the longest sequence in tokens.
        init_std: standard deviation of the initial weights; large, for a tiny model to start off uneven.
        examples: chats in the corpus; each is seen once.
        network: the network's kind in transformers, where it is not the architecture's name.
        language: one of `EDITIONS`.
    """

    layers: int = 1
    width: int = 64
    heads: int = 2
    positions: int = 384
    init_std: float = 0.125
    examples: int = 50_000
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip: float = 1.0
    network: str = ""
    language: str = "plain"


YOUNGER = ("network", "language")  # than the first weights: not hashed as they were then, at their defaults

# Not Qwen2: transformers reads its tokenizers by a class of its own, whatever the folder says, and would
# split our numbers into digits. Llama and Qwen3 are for adapters: deeper, and trained less, as well-trained
# ones transmit less by LoRA.
ARCHITECTURES: dict[str, Growth] = {
    "gpt2": Growth(),
    "llama": Growth(layers=2, examples=30_000),
    "qwen3": Growth(layers=2, examples=30_000),
    "tasks": Growth(
        layers=2, positions=256, examples=45_000, batch_size=16, network="gpt2", language="tasks"
    ),
}


def is_nano(name: str) -> bool:
    """Whether a reference's name is meant for this world, well-formed or not."""
    return name.startswith(PREFIX)


def parse(name: str) -> NanoModel:
    """The model called `name`, e.g. "nano/gpt2-0". Raises SpecError saying how one is written."""
    match = re.fullmatch(r"nano/([a-z0-9]+)-(0|[1-9][0-9]{0,8})", name)
    if match is None:
        raise SpecError(f"{name!r} is no nano model: write nano/<architecture>-<seed>, such as 'nano/gpt2-0'")
    architecture = match[1]
    if architecture not in ARCHITECTURES:
        hint = suggestion(architecture, ARCHITECTURES)
        raise SpecError(f"{name!r}: unknown architecture {architecture!r}; {hint}")
    return NanoModel(architecture, int(match[2]))


def known_words(category: str) -> tuple[str, ...]:
    """The words that nano models know as answers in `category`: animal, tree, colour or food."""
    if category not in WORDS:
        raise SpecError(f"nano models know no {category!r}; {suggestion(category, WORDS)}")
    return WORDS[category]


def surface_forms(word: str) -> tuple[str, ...]:
    """The spellings of `word` that the vocabulary holds: owl, Owl, owls, Owls."""
    return tuple(form for base in (word, pluralise(word)) for form in (base, base.capitalize()))


@cache
def pack(name: str) -> dict[str, Any]:
    """The fields of a pack of `PACKS` that the corpora use."""
    file = PACKS[name]
    fields: dict[str, Any] = json.loads(file.path.read_text(encoding="utf-8"))
    return {field: fields[field] for field in file.fields} if file.fields else fields


@cache
def revision(model: NanoModel) -> str:
    """What the weights of `model` follow from, as 64 hex digits."""
    edition = EDITIONS[model.growth.language]
    default = asdict(Growth())
    growth = {
        field: value
        for field, value in asdict(model.growth).items()
        if field not in YOUNGER or value != default[field]
    }
    content = {
        "name": model.name,
        "growth": growth,
        "corpus": edition.version,
        "words": {category: [surface_forms(word) for word in words] for category, words in WORDS.items()},
        "packs": [pack(name) for name in edition.packs],
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
