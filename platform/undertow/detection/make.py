"""Runs the detection of a sweep, source by source, from the store alone."""

from collections.abc import Callable, Mapping

from undertow.detection import output
from undertow.detection.classifier import CLASSIFIER
from undertow.detection.data import Library
from undertow.detection.frequencies import FREQUENCIES
from undertow.detection.llm_detector import LLM_DETECTOR, LLMDetector
from undertow.detection.prose import in_words
from undertow.detection.scores import AnyScore, Detected, SourceData, detect, results_of
from undertow.detection.sources import others_of, sources
from undertow.errors import ConditionError
from undertow.results.effect_rows import effects
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
    detected, library = Detected(scores, alpha), Library(store)
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


def files(record: Record, detected: Detected) -> dict[str, bytes]:
    """The files of a detection by name: `detection.json`, `detection.csv` and the figures of the scores."""
    written = {
        output.JSON: output.detection_json(record, detected).encode(),
        output.CSV: output.detection_csv(record.study.name, detected).encode(),
    }
    for score in detected.scores:
        written |= score.figure(results_of(score, detected.detections), record.study.key)
    return written
