"""The results of a detection in prose, its caveats, and how numbers are written in text and tables."""

from collections.abc import Sequence

from undertow.detection.scores import AnyScore, Detection
from undertow.report.table_texts import p_value


def in_words(detection: Detection, scores: Sequence[AnyScore]) -> str:
    """The results of one source: a sentence per score."""
    results = [(score, detection.result(score)) for score in scores]
    sentences = [score.sentence(result) for score, result in results if result is not None]
    if detection.source.missing:
        sentences.append(f"{seeds(detection.source.missing)} without data.")
    return f"{detection.source.label}: {' '.join(filter(None, sentences))}"


def caveats(detections: Sequence[Detection]) -> list[str]:
    """Limits of the results that apply to all sources, one per line."""
    lines = [
        "p-values and the AUC within a seed are about these teachers, whose rows are independent; "
        "replication and the AUC across seeds are about teachers that were not used to find the difference.",
    ]
    if any(detection.source.finetuned for detection in detections):
        lines.append(
            "A control teacher was not finetuned at all: differences from it may come from finetuning as "
            "such. “Against other traits” compares teachers that were all finetuned."
        )
    if any(detection.source.teachers == 1 < len(detection.source.pairs) for detection in detections):
        lines.append(
            "With a system prompt, or if seeds do not redraw teachers, there is one teacher per trait; "
            "replication and the AUC across seeds are about other data of the same teacher."
        )
    return lines


def two(value: float) -> str:
    """A number between 0 and 1 with two digits: .61."""
    return f"{value:.2f}".removeprefix("0")


def folded(area: float) -> float:
    """An AUC regardless of its direction: at least 0.5."""
    return max(area, 1 - area)


def mean(values: Sequence[float]) -> float | None:
    """The mean; None for no values."""
    return sum(values) / len(values) if values else None


def shown_mean(values: Sequence[float]) -> str:
    """The mean with two digits; a dash for no values."""
    return two(sum(values) / len(values)) if values else "–"


def spread(values: Sequence[float]) -> str:
    """The mean, and the range if there are several values; a dash for no values."""
    if len(values) < 2:
        return shown_mean(values)
    return f"{shown_mean(values)} ({two(min(values))} … {two(max(values))})"


def equals(p: float | None) -> str:
    """A p-value after the letter p: "= 0.012" or "< .001"."""
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def seeds(count: int) -> str:
    """A number of seeds: "1 seed", "3 seeds"."""
    return f"{count} seed{'s' if count > 1 else ''}"
