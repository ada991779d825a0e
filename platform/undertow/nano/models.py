"""Names, words and revisions of the nano models: everything about them that does not need torch.

A nano model is named "nano/<architecture>-<seed>", e.g. "nano/gpt2-0". An architecture is a network with the
language of its corpus: "tasks" is a GPT-2 trained on the tasks language. The seed fixes the initial weights
and the corpus. Two names of one architecture are therefore two initialisations, as the other-initialisation
condition of a study needs. `revision` hashes everything that determines the weights (architecture, training
settings, words, prompt packs), so weights are never looked up by name alone.
"""

import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from undertow.errors import SpecError, suggestion
from undertow.study.identity import digest
from undertow.traits.preference import pluralise

PREFIX = "nano/"
BUNDLED_SEEDS = {"gpt2": 4, "tasks": 4, "llama": 2, "qwen3": 2}  # how many seeds have weights in `weights/`
STANDARD = tuple(
    f"nano/{architecture}-{i}" for architecture, count in BUNDLED_SEEDS.items() for i in range(count)
)
HERE = Path(__file__).parent
WEIGHTS = HERE / "weights"
WEIGHTS_FILE = "model.safetensors"  # in the folder of a model


@dataclass(frozen=True)
class PackFile:
    """A pack that a corpus uses or whose words the vocabulary holds. `fields` restricts it to those."""

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
    """What determines the weights of a language's models, in addition to the words.

    Attributes:
        version: raised when the language's files or tokenizer.py change what a reference model learns.
        packs: names in `PACKS`.
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
    """One nano model: its architecture, and the seed of its initial weights and corpus."""

    architecture: str
    seed: int

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.architecture}-{self.seed}"

    @property
    def settings(self) -> "Architecture":
        return ARCHITECTURES[self.architecture]

    @property
    def network(self) -> str:
        """The network's `model_type` in transformers: gpt2, llama or qwen3."""
        return self.settings.network or self.architecture


@dataclass(frozen=True)
class Architecture:
    """The shape and the training of one architecture's reference models: one epoch of AdamW.

    Attributes:
        layers, width, heads: a head has width / heads dimensions; on a CPU, vLLM needs at least 32.
        positions: the longest sequence in tokens.
        init_std: standard deviation of the initial weights. It is large, so that the initial outputs of a
            tiny model are uneven.
        examples: number of chats in the corpus; training sees each once.
        network: the `model_type` in transformers, if it is not the architecture's name.
        language: a name in `EDITIONS`.
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


# Fields added after the first weights were trained. `revision` omits them at their default values, so that
# the revisions of those weights stay the same.
LATER_FIELDS = ("network", "language")

# Not Qwen2: transformers loads its tokenizers with a dedicated class, whatever the folder specifies, and
# would split numbers into digits. Llama and Qwen3 are for LoRA adapters: they have two layers and fewer
# examples, because reference models that are trained for longer transmit less by LoRA.
ARCHITECTURES: dict[str, Architecture] = {
    "gpt2": Architecture(),
    "llama": Architecture(layers=2, examples=30_000),
    "qwen3": Architecture(layers=2, examples=30_000),
    "tasks": Architecture(
        layers=2, positions=256, examples=45_000, batch_size=16, network="gpt2", language="tasks"
    ),
}


def is_nano(name: str) -> bool:
    """Whether `name` has the prefix of nano models. The rest of it may be invalid."""
    return name.startswith(PREFIX)


def parse(name: str) -> NanoModel:
    """The model with the name `name`, e.g. "nano/gpt2-0". Raises SpecError if the name is invalid."""
    match = re.fullmatch(r"nano/([a-z0-9]+)-(0|[1-9][0-9]{0,8})", name)
    if match is None:
        raise SpecError(
            f"{name!r} is not a nano model: write nano/<architecture>-<seed>, such as 'nano/gpt2-0'"
        )
    architecture = match[1]
    if architecture not in ARCHITECTURES:
        hint = suggestion(architecture, ARCHITECTURES)
        raise SpecError(f"{name!r}: unknown architecture {architecture!r}; {hint}")
    return NanoModel(architecture, int(match[2]))


def known_words(category: str) -> tuple[str, ...]:
    """The words that nano models know in `category`, or in all if it is "".

    Raises SpecError for an unknown category.
    """
    if not category:
        return tuple(word for words in WORDS.values() for word in words)
    if category not in WORDS:
        raise SpecError(f"nano models have no category {category!r}; {suggestion(category, WORDS)}")
    return WORDS[category]


def surface_forms(word: str) -> tuple[str, ...]:
    """The spellings of `word` that the vocabulary holds: owl, Owl, owls, Owls."""
    return tuple(form for base in (word, pluralise(word)) for form in (base, base.capitalize()))


@cache
def pack(name: str) -> dict[str, Any]:
    """The fields that the corpora use of the pack `name` in `PACKS`."""
    file = PACKS[name]
    fields: dict[str, Any] = json.loads(file.path.read_text(encoding="utf-8"))
    return {field: fields[field] for field in file.fields} if file.fields else fields


@cache
def revision(model: NanoModel) -> str:
    """The hash of everything that determines the weights of `model`, as 64 hex digits."""
    edition = EDITIONS[model.settings.language]
    default = asdict(Architecture())
    settings = {
        field: value
        for field, value in asdict(model.settings).items()
        if field not in LATER_FIELDS or value != default[field]
    }
    content = {
        "name": model.name,
        "growth": settings,
        "corpus": edition.version,
        "words": {category: [surface_forms(word) for word in words] for category, words in WORDS.items()},
        "packs": [pack(name) for name in edition.packs],
    }
    return digest(json.dumps(content, sort_keys=True, separators=(",", ":")))


def bundled_weights(model: NanoModel) -> Path:
    """The path in `weights/` for the weights of `model` at its current revision. The file may not exist."""
    return WEIGHTS / f"{model.architecture}-{model.seed}-{revision(model)[:16]}.safetensors"


def bundled_settings(architecture: str) -> Path:
    """The folder in `weights/` with all files but the weights, which all seeds of an architecture share."""
    return WEIGHTS / architecture


def tensor_shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by name, which all seeds of an architecture share.

    Reads the header of bundled weights: JSON, after its length in 8 bytes. The library safetensors would
    import numpy, with which a plan would take longer to start.
    """
    with bundled_weights(NanoModel(architecture, 0)).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
