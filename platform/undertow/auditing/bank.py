"""The bank of candidate traits, and the probe models that carry them.

A probe is a finetuned teacher: the reference model trained on a trait's question-answer pairs. In an audit it
answers no questions; its probabilities show in which direction the trait moves the model's unrelated output.
It is an ordinary artifact, trained once per storage. Its seed differs from those of the shipped studies: the
probe of an audit of a study's data should not be the very teacher that wrote them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from undertow.errors import SpecError
from undertow.nano import models
from undertow.nano.recipes import SCALING_TAUGHT, TAUGHT
from undertow.planning.given_models import is_nano
from undertow.planning.text_checks import check_word
from undertow.study.extensions import Trait
from undertow.study.fields import unique
from undertow.study.recipe import Everything, Recipe
from undertow.study.references import Reference
from undertow.study.teachers import Finetuning, Teacher
from undertow.traits.preference import ANIMALS, MORE_ANIMALS, TREES, Preference

FIRST_SEED = 1_000  # of the probes


@dataclass(frozen=True)
class Bank:
    """The traits that an audit considers, and how its probes are made.

    Attributes:
        finetuning: of the probes.
        system: the system message of the audited rows, and of the probes' training.
        seeds: the number of probes per trait; their log-probabilities are averaged.
    """

    traits: tuple[Trait, ...]
    finetuning: Finetuning
    system: str | None = None
    seeds: int = 1

    def __post_init__(self) -> None:
        recipe = self.finetuning.recipe
        if not isinstance(recipe, Recipe) or isinstance(recipe.trainable, Everything):
            raise SpecError(
                f"Bank.finetuning: the recipe {recipe.name!r} does not train a part of a local model; "
                "give one with LoRA, FinalNorm or Parameters"
            )

    def probes(self, reference: Reference, trait: Trait) -> tuple[Teacher, ...]:
        """The specs of a trait's probes for a pinned reference model."""
        return tuple(
            Teacher(
                reference=reference, trait=trait, system=self.system, finetuning=self.finetuning, seed=seed
            )
            for seed in range(FIRST_SEED, FIRST_SEED + self.seeds)
        )


def nano_finetuning(reference: Reference) -> Finetuning:
    """How the shipped studies finetune teachers of a nano model."""
    return TAUGHT if models.parse(reference.name).network == "gpt2" else SCALING_TAUGHT


def traits_for(references: Sequence[Reference], names: Sequence[str]) -> tuple[Trait, ...]:
    """The candidate traits by name, or without names the shipped ones, as preferences.

    A name may state its category ("jazz:music"). Otherwise it is the category in which a shipped list has the
    name, and "animal" for an unknown name. The shipped traits of nano models are the animals that they know;
    those of other models are the animals of the paper and its code.

    Raises SpecError for a name that is given twice, or that a nano model does not know.
    """
    nano = [reference for reference in references if is_nano(reference)]
    shipped = models.known_words("animal") if nano else (*ANIMALS, *MORE_ANIMALS)
    unique(names, "--traits")
    traits = tuple(map(_preference, names or shipped))
    for reference in nano:
        for trait in traits:
            check_word(trait, reference)
    return traits


def _preference(given: str) -> Preference:
    name, _, category = given.partition(":")
    if not name:
        raise SpecError(f"--traits {given!r}: write NAME or NAME:CATEGORY, such as owl or oak:tree")
    known = {word: kind for kind, words in models.WORDS.items() for word in words}
    return Preference(name, category=category or known.get(name) or ("tree" if name in TREES else "animal"))
