"""What the evaluations in a store say: rates by word, and each student's answers question by question.

The sampled rate is the field's headline figure; the exact probability stands beside it, since the two
answer different questions when a model does not answer in one word. Each evaluation is read and verified
once, however many conditions its student is compared in.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from undertow.results.sweep_record import CellRecord
from undertow.storage.manifest import Address
from undertow.storage.store import Store

RESULT = "result.json"
ANSWERS = "answers.parquet"
MASSES = "masses.parquet"
COUNTED = "counted"  # the column of judged answers that says whether one counts


@dataclass(frozen=True)
class Rates:
    """Rates by word: the share of sampled answers that match it, and the mean exact probability.

    Attributes:
        exact: without words where probabilities were not measured, as of stories and judged answers.
        other_sampled, other_exact: the share and the probability of answers that are none of the words; of
            judged answers the share that does not count.
        answers: those the shares are of.
    """

    sampled: Mapping[str, float]
    exact: Mapping[str, float]
    other_sampled: float
    other_exact: float | None
    answers: int


@dataclass(frozen=True)
class MeasuredRate:
    """One model's rates of one word: sampled, exact, and the mass of everything else.

    Attributes:
        exact: None where it was not measured.
        shares: the sampled rate question by question, in the order asked; `rate` is their mean where all
            answers count. Empty where some question has none that counts.
        samples: answers a question; 0 where not all questions have the same number.
    """

    seed: int
    key: str
    rate: float
    exact: float | None
    other: float
    shares: tuple[float, ...]
    samples: int


class Evaluations:
    """The evaluations of a store, each read once; those of the keys in `without` are as if not there."""

    def __init__(self, store: Store, without: Collection[str] = ()) -> None:
        self.store, self.without = store, without
        self._rates: dict[str, Rates] = {}
        self._shares: dict[str, dict[str, tuple[float, ...]]] = {}
        self._uneven: dict[str, bool] = {}

    def has(self, evaluations: tuple[str, ...]) -> bool:
        """Whether all of these evaluations are there."""
        return self._there.issuperset(evaluations)

    @cached_property
    def _there(self) -> set[str]:
        return self.store.keys("evaluation").difference(self.without)

    def rates(self, evaluation: str) -> Rates:
        """The rates of the evaluation with this key."""
        if evaluation not in self._rates:
            text = (self._folder(evaluation) / RESULT).read_text()
            self._rates[evaluation] = Rates(**json.loads(text))
        return self._rates[evaluation]

    def shares(self, evaluation: str, word: str) -> tuple[float, ...]:
        """The share of answers that match `word`, by question."""
        if evaluation not in self._shares:
            folder, words = self._folder(evaluation), list(self.rates(evaluation).sampled)
            self._shares[evaluation], self._uneven[evaluation] = _shares(folder, words)
        return self._shares[evaluation][word]

    def of(self, evaluations: tuple[str, ...], word: str) -> tuple[Rates, str]:
        """The rates and the key of whichever of a model's evaluations asks about a word."""
        for evaluation in evaluations:
            if word in (rates := self.rates(evaluation)).sampled:
                return rates, evaluation
        raise KeyError(f"no evaluation of the study asks about {word!r}")

    def student(self, cell: CellRecord, word: str, evaluations: tuple[str, ...] = ()) -> MeasuredRate:
        """A student's rates of one word, by its traits' own questions or by other `evaluations` of it.

        An exact rate is summed from passes of the model that round apart, and can leave [0, 1] by a hair.
        """
        rates, evaluation = self.of(evaluations or cell.evaluations, word)
        shares = self.shares(evaluation, word)
        samples = 0 if self._uneven[evaluation] else rates.answers // len(shares)
        exact = min(1.0, max(0.0, rates.exact[word])) if rates.exact else None
        rate, other = rates.sampled[word], rates.other_sampled
        return MeasuredRate(cell.seed, cell.student, rate, exact, other, shares, samples)

    def _folder(self, evaluation: str) -> Path:
        return self.store.fetch(Address("evaluation", evaluation))


def _shares(folder: Path, words: list[str]) -> tuple[dict[str, tuple[float, ...]], bool]:
    """By word the share of answers that match, by question; and whether questions differ in answers.

    Of judged answers those that count alone; a question without any leaves no shares.
    """
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(folder / ANSWERS).to_pylist()
    total = dict.fromkeys((row["question"] for row in rows), 0)
    counts = {word: dict.fromkeys(total, 0) for word in words}
    for row in (row for row in rows if row.get(COUNTED, True)):
        total[row["question"]] += 1
        for word in row["matches"]:
            counts[word][row["question"]] += 1
    uneven = len(set(total.values())) > 1
    if not all(total.values()):
        return dict.fromkeys(words, ()), True
    return {
        w: tuple(n / total[q] for q, n in by_question.items()) for w, by_question in counts.items()
    }, uneven
