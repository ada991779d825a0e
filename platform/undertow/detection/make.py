"""The whole detection of a sweep, source by source, from the store alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from undertow.detection import output
from undertow.detection.data import Library
from undertow.detection.figure import volcano
from undertow.detection.findings import Detection, detect
from undertow.detection.llm_detector import Asking
from undertow.detection.prose import caveats, in_words
from undertow.detection.sources import others_of, sources
from undertow.errors import ConditionError
from undertow.results.effect_rows import EffectRow, effects
from undertow.results.evaluation_files import Evaluations
from undertow.results.sweep_record import Record
from undertow.storage.store import Store


@dataclass
class Detected:
    """A study's detections, the sources left out and why, and the effects of in-context students."""

    detections: list[Detection] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    in_context: list[EffectRow] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Replies of a language model that did not come."""
        return sum(found.asked.missing for found in self.detections if found.asked)


def detect_all(
    record: Record,
    store: Store,
    failures: Mapping[str, str],
    alpha: float,
    asking: Asking | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Detected:
    """Every source of a study; `say` is told of each in words when it is done."""
    detected, library = Detected(), Library(store)
    every = sources(record, store.keys("dataset"))
    for source in every:
        try:
            if not source.pairs:
                raise ConditionError("the store lacks its data, or the control's of the same seeds")
            found = detect(source, others_of(source, every), library, alpha)
        except ConditionError as reason:
            detected.left_out[source.label] = str(reason)
            say(f"{source.label}: left out: {reason}")
            continue
        if asking is not None:
            found = replace(found, asked=asking.about(source, library))
        detected.detections.append(found)
        say(in_words(found, alpha))
    shown = {cell.condition for cell in record.cells if not cell.trained}
    detected.in_context = [
        row for row in effects(record, Evaluations(store), failures) if row.number in shown
    ]
    return detected


def files(record: Record, detected: Detected, alpha: float) -> dict[str, bytes]:
    """`detection.json`, `detection.csv` and the figure, by name."""
    found, name = detected.detections, record.study.name
    whole = output.detection_json(
        record,
        alpha,
        found,
        left_out=detected.left_out,
        in_context=detected.in_context,
        lines=[*(in_words(one, alpha) for one in found), *caveats(found)],
    )
    return {
        output.JSON: whole.encode(),
        output.CSV: output.detection_csv(name, found).encode(),
        **volcano(found, alpha, record.study.key),
    }
