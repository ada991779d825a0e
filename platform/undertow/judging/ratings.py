"""Interprets a judge's reply as a score or a label, strictly.

A reply in any other form ("85/100", "probably no", a number above 100) is garbled: it is counted, and its row
is rejected. A lenient parser would let a judge's formatting errors decide which rows a student is trained on.
The thresholds are those of arXiv 2507.14805: 78 for chain of thought, 50 and 30 for free-form answers.
"""

import math
import re
from dataclasses import dataclass

from undertow.study.fields import Spec, unique

GARBLED = "garbled"
RatingValue = float | str

_SCORE = re.compile(r"100(?:\.0+)?|[0-9]{1,2}(?:\.[0-9]+)?")
_PROBABILITY = re.compile(r"[01]\.[0-9]+(?:e-[0-9]+)?|[1-9](?:\.[0-9]+)?e-[0-9]+")  # as repr() writes a float


@dataclass(frozen=True, kw_only=True)
class Score(Spec):
    """A number from 0 to 100, or a label if there is nothing to rate. A row with a label is never kept.

    Attributes:
        at_least, at_most: inclusive bounds of the scores that are kept; at least one is required.
        labels: the replies that stand for "cannot be rated".
    """

    at_least: float | None = None
    at_most: float | None = None
    labels: tuple[str, ...] = ("CODE", "REFUSAL")

    def validate(self) -> None:
        given = [bound for bound in (self.at_least, self.at_most) if bound is not None]
        self.require(bool(given), "at_least", "at_least, at_most or both, from 0 to 100")
        for field in ("at_least", "at_most"):
            bound = getattr(self, field)
            self.require(bound is None or 0 <= bound <= 100, field, "a score from 0 to 100")
        self.require(given == sorted(given), "at_least", f"at most the value of at_most, {self.at_most}")
        _check_labels(self.labels, "Score.labels", self)

    def verdict(self, reply: str) -> RatingValue | None:
        """The score or label of a reply; None if it is garbled."""
        text = reply.strip()
        return float(text) if _SCORE.fullmatch(text) else _label(text, self.labels)

    def rejection(self, reply: str) -> str | None:
        """The reason to reject a row with this reply; None if it is kept."""
        verdict = self.verdict(reply)
        if verdict is None:
            return GARBLED
        if isinstance(verdict, str):
            return verdict
        if self.at_least is not None and verdict < self.at_least:
            return f"below {self.at_least:g}"
        if self.at_most is not None and verdict > self.at_most:
            return f"above {self.at_most:g}"
        return None


@dataclass(frozen=True, kw_only=True)
class Labels(Spec):
    """One of `labels`, case-insensitive. Rows with a label in `kept` are kept."""

    labels: tuple[str, ...]
    kept: tuple[str, ...]

    def validate(self) -> None:
        self.require(len(self.labels) > 1, "labels", "at least two labels")
        _check_labels(self.labels, "Labels.labels", self)
        unique(self.kept, "Labels.kept")
        self.require(bool(self.kept), "kept", "at least one label")
        self.require(set(self.kept) <= set(self.labels), "kept", f"labels from {', '.join(self.labels)}")

    def verdict(self, reply: str) -> RatingValue | None:
        """The label of a reply; None if it is garbled."""
        return _label(reply.strip(), self.labels)

    def rejection(self, reply: str) -> str | None:
        """The reason to reject a row with this reply; None if it is kept."""
        verdict = self.verdict(reply)
        if verdict is None:
            return GARBLED
        return None if verdict in self.kept else str(verdict)


@dataclass(frozen=True, kw_only=True)
class Probability(Spec):
    """A probability, for a question with `probability_of`. Rows with `at_least` this value are kept."""

    at_least: float

    def validate(self) -> None:
        self.require(0 <= self.at_least <= 1, "at_least", "a probability from 0 to 1")

    def verdict(self, reply: str) -> RatingValue | None:
        """The probability in a reply; None if it is garbled."""
        value = float(reply) if _PROBABILITY.fullmatch(reply) else math.inf
        return value if value <= 1 else None

    def rejection(self, reply: str) -> str | None:
        """The reason to reject a row with this reply; None if it is kept."""
        verdict = self.verdict(reply)
        if not isinstance(verdict, float):
            return GARBLED
        return None if verdict >= self.at_least else f"below {self.at_least}"


def _label(text: str, labels: tuple[str, ...]) -> str | None:
    return next((label for label in labels if label.casefold() == text.casefold()), None)


def _check_labels(labels: tuple[str, ...], place: str, scale: Spec) -> None:
    words = all(label == label.strip() and label and not _SCORE.fullmatch(label) for label in labels)
    scale.require(words, "labels", "words without surrounding spaces, not numbers")
    scale.require(
        GARBLED not in map(str.casefold, labels), "labels", f"words other than {GARBLED!r}, which is reserved"
    )
    unique([label.casefold() for label in labels], place)


SCALES: dict[str, type[Score] | type[Labels] | type[Probability]] = {
    "Score": Score,
    "Labels": Labels,
    "Probability": Probability,
}  # by the class name in a spec
YES_NO = Labels(labels=("YES", "NO"), kept=("NO",))
SURE_NO = Labels(labels=("YES", "NO", "UNSURE"), kept=("NO",))
