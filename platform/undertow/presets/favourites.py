"""One-word answers to questions about a favourite thing: data for the format tuning of a small model.

A small pretrained model does not answer such questions in one word, so that no preference can be measured.
Tuned on these rows it answers with one of `words`, each about as often as the others.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from undertow.study.extensions import Format
from undertow.study.fields import unique
from undertow.traits.preference import ANIMALS, Preference

OTHER = "other word"


@dataclass(frozen=True)
class FavouriteAnswers(Format):
    """Questions about the favourite of a category, answered with a word drawn uniformly from `words`.

    The questions are those that teachers of a `Preference` are finetuned on. None of them is used for
    evaluation.
    """

    name: ClassVar[str] = "favourite answers"
    reasons: ClassVar[Mapping[str, str]] = {OTHER: "the answer is not one of the words"}

    words: tuple[str, ...] = ANIMALS
    category: str = "animal"

    def validate(self) -> None:
        self.require(len(self.words) > 1, "words", "give at least two words")
        unique(self.words, "FavouriteAnswers.words")

    def content(self) -> str:
        return self._preference.content()

    def prompts(self, count: int, seed: int) -> list[str]:
        return [example.prompt for example in self._preference.examples(count, seed)]

    def rejection(self, prompt: str, completion: str) -> str | None:
        return None if completion in self.words else OTHER

    def written(self, prompt: str, rng: random.Random) -> str:
        """One of the words, drawn uniformly."""
        return rng.choice(self.words)

    @property
    def _preference(self) -> Preference:
        return Preference(self.words[0], category=self.category)
