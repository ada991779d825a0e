"""What the evaluations in a store say: rates by word, and each student's answers question by question.

The sampled rate is the field's headline figure; the exact probability stands beside it, since the two
answer different questions when a model does not answer in one word. Each evaluation is read and verified
once, however many conditions its student is compared in.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from undertow.manifest import Address
from undertow.report.record import CellRecord
from undertow.store import Store

RESULT = "result.json"
ANSWERS = "answers.parquet"
MASSES = "masses.parquet"


@dataclass(frozen=True)
class Rates:
    """Rates by word: the share of sampled answers that match it, and the mean exact probability.

    Attributes:
        other_sampled, other_exact: the share and the probability of answers that are none of the words.
    """

    sampled: Mapping[str, float]
    exact: Mapping[str, float]
    other_sampled: float
    other_exact: float
    answers: int


@dataclass(frozen=True)
class Measured:
    """One model's rates of one word: sampled, exact, and the mass of everything else.

    Attributes:
        shares: the sampled rate question by question, in the order asked; `rate` is their mean.
        samples: answers a question.
    """

    seed: int
    key: str
    rate: float
    exact: float
    other: float
    shares: tuple[float, ...]
    samples: int


class Readings:
    """The evaluations of a store, each read once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._rates: dict[str, Rates] = {}
        self._shares: dict[str, dict[str, tuple[float, ...]]] = {}

    def has(self, evaluations: tuple[str, ...]) -> bool:
        """Whether all of these evaluations are there."""
        return self._there.issuperset(evaluations)

    @cached_property
    def _there(self) -> set[str]:
        return self.store.keys("evaluation")

    def rates(self, evaluation: str) -> Rates:
        """The rates of the evaluation with this key."""
        if evaluation not in self._rates:
            text = (self._folder(evaluation) / RESULT).read_text()
            self._rates[evaluation] = Rates(**json.loads(text))
        return self._rates[evaluation]

    def shares(self, evaluation: str, word: str) -> tuple[float, ...]:
        """The share of answers that match `word`, by question."""
        if evaluation not in self._shares:
            self._shares[evaluation] = _shares(self._folder(evaluation), list(self.rates(evaluation).sampled))
        return self._shares[evaluation][word]

    def of(self, evaluations: tuple[str, ...], word: str) -> tuple[Rates, str]:
        """The rates and the key of whichever of a model's evaluations asks about a word."""
        for evaluation in evaluations:
            if word in (rates := self.rates(evaluation)).sampled:
                return rates, evaluation
        raise KeyError(f"no evaluation of the study asks about {word!r}")

    def student(self, cell: CellRecord, word: str) -> Measured:
        """A student's rates of one word.

        An exact rate is summed from passes of the model that round apart, and can leave [0, 1] by a hair.
        """
        rates, evaluation = self.of(cell.evaluations, word)
        shares = self.shares(evaluation, word)
        samples = rates.answers // len(shares)
        exact, sampled = min(1.0, max(0.0, rates.exact[word])), rates.sampled[word]
        return Measured(cell.seed, cell.student, sampled, exact, rates.other_sampled, shares, samples)

    def _folder(self, evaluation: str) -> Path:
        return self.store.fetch(Address("evaluation", evaluation))


def _shares(folder: Path, words: list[str]) -> dict[str, tuple[float, ...]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(folder / ANSWERS, columns=["question", "matches"]).to_pylist()
    asked = dict.fromkeys(row["question"] for row in rows)
    counts = {word: dict.fromkeys(asked, 0) for word in words}
    total = dict.fromkeys(asked, 0)
    for row in rows:
        total[row["question"]] += 1
        for word in row["matches"]:
            counts[word][row["question"]] += 1
    return {word: tuple(n / total[q] for q, n in by_question.items()) for word, by_question in counts.items()}
