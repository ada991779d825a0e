"""Runs the detection of a sweep, source by source, from the store alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from undertow.detection import output
from undertow.detection.classifier import CLASSIFIER
from undertow.detection.data import Library
from undertow.detection.frequencies import FREQUENCIES
from undertow.detection.llm_detector import LLM_DETECTOR, LLMDetector
from undertow.detection.prose import caveats, in_words
from undertow.detection.scores import AnyScore, Detection, SourceData, detect, results_of
from undertow.detection.sources import others_of, sources
from undertow.errors import ConditionError
from undertow.results.effect_rows import EffectRow, effects
from undertow.results.evaluation_files import Evaluations
from undertow.results.sweep_record import Record
from undertow.storage.store import Store

# Every detection computes these, in this order. `register_score` adds one from outside the package.
SCORES: list[AnyScore] = [FREQUENCIES, CLASSIFIER, LLM_DETECTOR]


def register_score(score: AnyScore) -> None:
    """Adds a score after the others, for every detection in this process; replaces one of the same name.

    Call it in the script that runs the detection; jobs/detect.py does not load study files.
    """
    SCORES[:] = [*(other for other in SCORES if other.name != score.name), score]


@dataclass
class Detected:
    """The detections of a study.

    Attributes:
        left_out: the sources that were left out, with the reason.
        in_context: the effects of students that saw the data in their prompt.
        scores: the scores that were computed.
    """

    detections: list[Detection] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    in_context: list[EffectRow] = field(default_factory=list)
    scores: Sequence[AnyScore] = ()

    @property
    def missing(self) -> int:
        """The number of inputs that scores could not get, such as replies of a language model."""
        return sum(
            score.missing(result) for score in self.scores for _, result in results_of(score, self.detections)
        )


def detect_all(
    record: Record,
    store: Store,
    failures: Mapping[str, str],
    alpha: float,
    detector: LLMDetector | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Detected:
    """Computes the scores of every source of a study.

    Args:
        failures: why artifacts of the sweep failed, by key.
        alpha: the false discovery rate of the frequencies.
        detector: the language model to ask; None to ask none.
        say: receives one line per source as soon as its scores are computed.
    """
    scores = tuple(SCORES)
    output.check_scores(scores)
    detected, library = Detected(scores=scores), Library(store)
    compared = sources(record, store.keys("dataset"))
    for source in compared:
        try:
            if not source.pairs:
                raise ConditionError("the store lacks its data sets, or the control's for the same seeds")
            data = SourceData(source, others_of(source, compared), library, alpha, detector)
            detection = detect(data, scores)
        except ConditionError as reason:
            detected.left_out[source.label] = str(reason)
            say(f"{source.label}: left out: {reason}")
            continue
        detected.detections.append(detection)
        say(in_words(detection, scores))
    prompted = {cell.condition for cell in record.cells if not cell.trained}
    detected.in_context = [
        row for row in effects(record, Evaluations(store), failures) if row.number in prompted
    ]
    return detected


def files(record: Record, detected: Detected, alpha: float) -> dict[str, bytes]:
    """The files of a detection by name: `detection.json`, `detection.csv` and the figures of the scores."""
    detections, scores = detected.detections, detected.scores
    content = output.detection_json(
        record,
        alpha,
        detections,
        scores,
        left_out=detected.left_out,
        in_context=detected.in_context,
        lines=[*(in_words(detection, scores) for detection in detections), *caveats(detections)],
    )
    written = {
        output.JSON: content.encode(),
        output.CSV: output.detection_csv(record.study.name, detections, scores).encode(),
    }
    for score in scores:
        written |= score.figure(results_of(score, detections), record.study.key)
    return written
