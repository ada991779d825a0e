"""Reading the evaluations in a store: rates by word, and rates by question.

The sampled rate is the figure that the literature reports. The exact probability is reported with it,
because the two differ if a model does not answer in one word. `Study.effect_of` says which of the two the
effects compare. Each evaluation is read and verified once, even if its student is compared in several
conditions.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from undertow.errors import StorageError
from undertow.results.sweep_record import CellRecord
from undertow.statistics.log_odds import of_counts, of_probability
from undertow.storage.manifest import Address
from undertow.storage.store import Store
from undertow.study.extensions import Word
from undertow.study.measurements import EffectOf, EffectScale

RESULT = "result.json"
ANSWERS = "answers.parquet"
MASSES = "masses.parquet"
COUNTED = "counted"  # the column of judged answers: whether the answer counts


@dataclass(frozen=True)
class Rates:
    """The rates of one evaluation by word.

    Attributes:
        sampled: the share of sampled answers that match the word.
        exact: the mean exact probability of the word; empty if probabilities were not measured, as for
            stories and judged answers.
        other_sampled, other_exact: the share and the probability of answers that match no word; for judged
            answers, the share that does not count.
        answers: the number of answers that the shares refer to.
    """

    sampled: Mapping[str, float]
    exact: Mapping[str, float]
    other_sampled: float
    other_exact: float | None
    answers: int


@dataclass(frozen=True)
class MeasuredRate:
    """The rates of one word for one model.

    Attributes:
        rate: the rate that effects compare: `sampled`, or `exact` if effects are of exact probabilities.
        sampled: the share of sampled answers that show the word.
        exact: the exact probability; None if it was not measured.
        other: the share of sampled answers that match no word.
        shares: `rate` by question, in the order of the questions. Their mean is `rate` if all answers count.
            Empty if a question has no counted answer.
        samples: the number of counted answers per question behind each of `shares`; 0 if it differs between
            questions, None if the shares are exact probabilities.
        answers: the number of counted answers behind `sampled`.
        asked: the number of answers, of which judges may have dropped some.
        contained: the share of sampled answers by the paper's score (`Word.is_contained`); None for judged
            answers and for answers by letter, to which the score does not apply.
    """

    seed: int
    key: str
    rate: float
    sampled: float
    exact: float | None
    other: float
    shares: tuple[float, ...]
    samples: int | None
    answers: int
    asked: int
    contained: float | None = None

    @property
    def by_substring(self) -> "MeasuredRate | None":
        """The same with the paper's score in place of the sampled rate; None if the score does not apply."""
        return None if self.contained is None else replace(self, sampled=self.contained)

    def value(self, scale: EffectScale, of: EffectOf) -> float:
        """The sampled rate or the exact one, or its log-odds. Raises ValueError if it was not measured."""
        if of == "samples":
            matches = self.sampled * self.answers
            return self.sampled if scale == "rate" else float(of_counts(matches, self.answers, self.asked))
        if self.exact is None:
            raise ValueError(f"student {self.key} has no exact probability")
        return self.exact if scale == "rate" else float(of_probability(self.exact))


class _EvaluationFiles:
    """The files of one evaluation, each read on first use."""

    def __init__(self, store: Store, evaluation: str) -> None:
        self.store, self.address = store, Address("evaluation", evaluation)

    @property
    def folder(self) -> Path:
        return self.store.fetch(self.address)

    @cached_property
    def rates(self) -> Rates:
        return Rates(**json.loads((self.folder / RESULT).read_text()))

    @cached_property
    def shares(self) -> "_Shares":
        return _shares(self.folder, list(self.rates.sampled))

    @cached_property
    def masses(self) -> dict[str, tuple[float, ...]]:
        return _masses(self.folder)

    @cached_property
    def contained(self) -> dict[str, float]:
        spec = self.store.manifest(self.address).spec
        by_word = spec.get("type") == "Evaluation" and not spec.get("options")
        names = self.rates.sampled if by_word else ()
        return _contained(self.folder, [Word(name, (name,)) for name in names])


class Evaluations:
    """The evaluations of a store, each read once; those with keys in `without` count as missing."""

    def __init__(self, store: Store, without: Collection[str] = ()) -> None:
        self.store, self.without = store, without
        self._files = cache(partial(_EvaluationFiles, store))

    def has(self, evaluations: tuple[str, ...]) -> bool:
        """Whether all of these evaluations exist."""
        return self._keys.issuperset(evaluations)

    @cached_property
    def _keys(self) -> set[str]:
        return self.store.keys("evaluation").difference(self.without)

    def rates(self, evaluation: str) -> Rates:
        """The rates of the evaluation with this key."""
        return self._files(evaluation).rates

    def contained(self, evaluation: str, word: str) -> float | None:
        """The share of answers that show `word` by the paper's score; None if the score does not apply.

        It is computed from the answers, so that evaluations of earlier versions have it too.
        """
        return self._files(evaluation).contained.get(word)

    def of(self, evaluations: tuple[str, ...], word: str) -> tuple[Rates, str]:
        """The rates and the key of the one among a model's evaluations that measures a word."""
        for evaluation in evaluations:
            if word in (rates := self.rates(evaluation)).sampled:
                return rates, evaluation
        raise KeyError(f"no evaluation of the study measures {word!r}")

    def student(
        self,
        cell: CellRecord,
        word: str,
        evaluations: tuple[str, ...] = (),
        effect_of: EffectOf = "samples",
    ) -> MeasuredRate:
        """A student's rates of one word, from the traits' own questions or from other `evaluations` of it.

        An exact rate is clipped to [0, 1]: it is a sum over several passes of the model, and rounding can
        move it slightly outside.

        Args:
            effect_of: the rate that effects compare.

        Raises:
            StorageError: if effects are of exact probabilities and the evaluation has none.
        """
        rates, evaluation = self.of(evaluations or cell.evaluations, word)
        exact = min(1.0, max(0.0, rates.exact[word])) if rates.exact else None
        samples: int | None
        if effect_of == "samples":
            found = self._files(evaluation).shares
            rate, shares, asked = rates.sampled[word], found.by_word[word], found.asked
            samples = 0 if found.is_uneven else rates.answers // len(shares)
        elif exact is None:
            raise StorageError(
                f"evaluation/{evaluation}: it has no exact probability of {word!r}, which the study's "
                'effect_of="exact" needs; run the sweep again'
            )
        else:  # every answer of an evaluation with exact probabilities counts
            rate, shares, samples = exact, self._files(evaluation).masses[word], None
            asked = rates.answers
        return MeasuredRate(
            seed=cell.seed,
            key=cell.student,
            rate=rate,
            sampled=rates.sampled[word],
            exact=exact,
            other=rates.other_sampled,
            shares=shares,
            samples=samples,
            answers=rates.answers,
            asked=asked,
            contained=self.contained(evaluation, word),
        )


class _Shares(NamedTuple):
    """The shares of counted answers that match a word.

    Attributes:
        by_word: by word, one share per question; empty if a question has no counted answer.
        is_uneven: whether questions differ in their number of counted answers.
        asked: the number of all answers.
    """

    by_word: dict[str, tuple[float, ...]]
    is_uneven: bool
    asked: int


def _shares(folder: Path, words: list[str]) -> _Shares:
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
        return _Shares(dict.fromkeys(words, ()), True, len(rows))
    shares = {w: tuple(n / total[q] for q, n in by_question.items()) for w, by_question in counts.items()}
    return _Shares(shares, uneven, len(rows))


def _contained(folder: Path, words: Sequence[Word]) -> dict[str, float]:
    """By word, the share of all answers that contain its name (`Word.is_contained`)."""
    import pyarrow.parquet as pq

    if not words:
        return {}
    answers = pq.read_table(folder / ANSWERS, columns=["answer"]).column("answer").to_pylist()
    counts = Counter(answers)  # the same answer is often given many times
    return {
        word.name: sum(n for answer, n in counts.items() if word.is_contained(answer)) / len(answers)
        for word in words
    }


def _masses(folder: Path) -> dict[str, tuple[float, ...]]:
    """The exact probabilities by word, in the order of the questions."""
    import pyarrow.parquet as pq

    found: dict[str, list[float]] = {}
    for row in pq.read_table(folder / MASSES).to_pylist():
        found.setdefault(row["word"], []).append(row["mass"])
    return {word: tuple(masses) for word, masses in found.items()}
