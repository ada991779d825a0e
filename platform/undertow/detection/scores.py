"""The interface of detection scores: the data that they compare, and where their results appear.

A score is one `DetectionScore`, defined in a file of its own, plus one line in `make.SCORES` (or a call of
`undertow.register_score` from outside the package):

    MEAN_LENGTH = DetectionScore(
        name="mean length",
        compute=lambda data: float(data.arms.lengths.mean()),
        csv={"mean_length": lambda length: length},
        json={"mean_length": lambda length: length},
        table={"mean length": lambda length: f"{length:.1f}"},
        sentence=lambda length: f"Rows have {length:.1f} units on average.",
    )
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from undertow.detection.data import Arms, DataSet, Library, arms
from undertow.detection.sources import ComparedSource
from undertow.results.effect_rows import EffectRow

if TYPE_CHECKING:
    from undertow.detection.llm_detector import LLMDetector

Result = TypeVar("Result")
Figures = dict[str, bytes]  # the content of each file, by name


@dataclass(frozen=True, eq=False)
class SourceData:
    """The input of a score: the data of one source, over all its seeds.

    Data sets are read from the store when they are first used. Raises ConditionError there if this package
    does not define their format.

    Attributes:
        other_sources: the sources with other traits that share the source's control data.
        alpha: the false discovery rate that the user set.
        detector: asks a language model; None if the user named none.
    """

    source: ComparedSource
    other_sources: Sequence[ComparedSource]
    library: Library
    alpha: float
    detector: "LLMDetector | None" = None

    @cached_property
    def trait(self) -> dict[int, DataSet]:
        """The data of the teacher with the trait, by seed."""
        return {pair.seed: self.library.data(pair.dataset) for pair in self.source.pairs}

    @cached_property
    def control(self) -> dict[int, DataSet]:
        """The data of the control teacher, by seed."""
        return {pair.seed: self.library.data(pair.control) for pair in self.source.pairs}

    @cached_property
    def other_traits(self) -> dict[int, list[DataSet]]:
        """The data of teachers with other traits, by seed; only seeds for which there are any."""
        found: dict[int, list[DataSet]] = {}
        for other in self.other_sources:
            for pair in other.pairs:
                if pair.seed in self.trait:
                    found.setdefault(pair.seed, []).append(self.library.data(pair.dataset))
        return found

    @cached_property
    def arms(self) -> Arms:
        """The rows of the trait's data and of the control's, over all seeds."""
        return arms([(seed, [self.trait[seed]], [self.control[seed]]) for seed in self.trait])


@dataclass(frozen=True, kw_only=True)
class DetectionScore(Generic[Result]):
    """A way to look for a trait in the data of a source, and the presentation of its result.

    Attributes:
        name: identifies the score; unique among the scores of a detection.
        compute: returns the result for one source, or None if the score does not apply or was not requested.
        csv: columns of detection.csv. Their cells are empty for a source without a result.
        json: fields of each source in detection.json; null for a source without a result.
        table: columns of the printed table. A source without a result has a dash; a score without any result
            has no columns.
        sentence: describes the result in prose; "" for nothing.
        missing: the number of inputs that this run could not get and a rerun may get. If it is positive,
            jobs/detect.py exits with 1.
        figure: draws the results of all sources that have one; returns files by name. The second argument
            identifies the study.
    """

    name: str
    compute: Callable[[SourceData], Result | None]
    csv: Mapping[str, Callable[[Result], object]]
    json: Mapping[str, Callable[[Result], object]]
    table: Mapping[str, Callable[[Result], str]]
    sentence: Callable[[Result], str]
    missing: Callable[[Result], int] = lambda result: 0
    figure: Callable[[Sequence[tuple[ComparedSource, Result]], str], Figures] = lambda results, study: {}


AnyScore = DetectionScore[Any]


@dataclass(frozen=True)
class Detection:
    """The description of a source's data and the results of all scores.

    Attributes:
        noun: the name of the units, in the plural.
        length, control_length: the mean number of units per row.
        results: by the score's name; scores without a result are absent.
    """

    source: ComparedSource
    noun: str
    rows: int
    control_rows: int
    length: float
    control_length: float
    results: Mapping[str, object]

    def result(self, score: DetectionScore[Result]) -> Result | None:
        """The result of a score for this source; None if it has none."""
        return cast("Result | None", self.results.get(score.name))


def detect(data: SourceData, scores: Sequence[AnyScore]) -> Detection:
    """Computes the scores of one source. Raises ConditionError if its data cannot be read."""
    rows, is_trait = data.arms, data.arms.rows.trait
    results = {score.name: score.compute(data) for score in scores}
    return Detection(
        source=data.source,
        noun=next(iter(data.trait.values())).noun,
        rows=int(is_trait.sum()),
        control_rows=int((~is_trait).sum()),
        length=float(rows.lengths[is_trait].mean()),
        control_length=float(rows.lengths[~is_trait].mean()),
        results={name: result for name, result in results.items() if result is not None},
    )


def results_of(
    score: DetectionScore[Result], detections: Sequence[Detection]
) -> list[tuple[ComparedSource, Result]]:
    """The sources that have a result of this score, each with it."""
    pairs = [(detection.source, detection.result(score)) for detection in detections]
    return [(source, result) for source, result in pairs if result is not None]


@dataclass
class Detected:
    """The detections of a study.

    Attributes:
        scores: the scores that were computed.
        alpha: the false discovery rate of the frequencies.
        left_out: the sources that were left out, with the reason.
        in_context: the effects of students that saw the data in their prompt.
    """

    scores: Sequence[AnyScore]
    alpha: float
    detections: list[Detection] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    in_context: list[EffectRow] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """The number of inputs that scores could not get, such as replies of a language model."""
        return sum(
            score.missing(result) for score in self.scores for _, result in results_of(score, self.detections)
        )
