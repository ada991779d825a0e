"""What was found in words: a sentence or three a source, and what the figures do not say."""

from collections.abc import Sequence

from undertow.detection.findings import Detection, Unit
from undertow.detection.llm_detector import DetectorAnswers
from undertow.report.tables import p_value

NAMED = 3


def in_words(found: Detection, alpha: float) -> str:
    """The source's result, for a reader who sees no table."""
    parts = [_frequencies(found, alpha), _separation(found)]
    if found.asked is not None:
        parts.append(_asked(found.asked))
    if found.source.missing:
        parts.append(f"{_seeds(found.source.missing)} without data.")
    return f"{found.source.label}: {' '.join(part for part in parts if part)}"


def caveats(detections: Sequence[Detection]) -> list[str]:
    """What holds for all sources, and what to mind."""
    lines = [
        "p-values and the AUC within a seed speak of these teachers, whose rows are independent answers; "
        "“found again” and the AUC across seeds, of teachers that were not looked at before.",
    ]
    if any(found.source.finetuned for found in detections):
        lines.append(
            "A control teacher was not trained at all: what differs from it may come from training as such. "
            "“Against other traits” compares teachers that were all trained."
        )
    single = [
        found.source.label for found in detections if found.source.teachers == 1 < len(found.source.pairs)
    ]
    if single:
        lines.append(
            "By a system prompt there is one teacher a trait; seeds draw its prompts and rows anew, and what "
            "is found again is found in the same teacher."
        )
    return lines


def _frequencies(found: Detection, alpha: float) -> str:
    if not found.units:
        rows = f"{found.rows:,} and {found.control_rows:,} of the control"
        return f"too few rows ({rows}) to test any of the {found.noun}."
    text = (
        f"{found.found:,} of {len(found.units):,} {found.noun} stand in more or in fewer rows than in the "
        f"control's (false discovery rate {alpha:.0%})"
    )
    text += f": {', '.join(map(_named, _most_certain(found.units)))}." if found.found else "."
    halves = found.halves
    if halves is not None and halves.found:
        text += (
            f" Of {halves.found:,} found in {_seeds(halves.seeds)}, {halves.same_side:,} lean the same way "
        )
        text += f"in the other {halves.other_seeds}, {halves.again:,} of them significantly."
    return text


def _separation(found: Detection) -> str:
    against, baseline, among = found.against, found.baseline, found.among
    if against.across:
        text = (
            "A row of a teacher not seen before is told from the control's with an AUC of "
            f"{spread(against.across)} (p {_equals(against.p_value)})"
        )
    elif against.within:
        text = f"A row is told from the control's with an AUC of {spread(against.within)}"
    else:
        return ""
    null = baseline.across or baseline.within
    beside = [f"control against control {spread(null)}"] if null else []
    beside += [f"by length alone {two(folded(found.by_length))}"]
    if shown := among.across or among.within:
        beside.append(f"against other traits {spread(shown)}")
    return f"{text}; {', '.join(beside)}."


def _asked(asked: DetectorAnswers) -> str:
    problems = [
        f"{count} {what}"
        for count, what in (
            (asked.garbled, "garbled"),
            (asked.refused, "refused"),
            (asked.missing, "missing"),
        )
        if count
    ]
    tail = f" ({', '.join(problems)})" if problems else ""
    if asked.missing:
        tail += f"; run again to ask for what is missing ({asked.trouble})"
    if asked.share is None:
        return f"{asked.model} gave no answer{tail}."
    share = asked.share
    return (
        f"{asked.model}, shown {asked.rows} rows of each, was right in {share.right} of {share.answers} "
        f"({share.share:.0%}, {share.low:.0%} to {share.high:.0%}; "
        f"guessing: p {_equals(share.p_value)}){tail}."
    )


def two(value: float) -> str:
    """A figure between 0 and 1 with two digits: .61."""
    return f"{value:.2f}".removeprefix("0")


def folded(area: float) -> float:
    """An AUC of something that may be larger or smaller in the trait's rows."""
    return max(area, 1 - area)


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def spread(values: Sequence[float]) -> str:
    """The mean, and the range where there are several; a dash for none."""
    if not values:
        return "–"
    shown = two(sum(values) / len(values))
    return shown if len(values) == 1 else f"{shown} ({two(min(values))} … {two(max(values))})"


def _equals(p: float | None) -> str:
    shown = p_value(p)
    return shown if shown.startswith("<") else f"= {shown}"


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"


def _named(unit: Unit) -> str:
    return f"{unit.unit if unit.unit.isalnum() else repr(unit.unit)} × {unit.ratio:.2g}"


def _most_certain(units: Sequence[Unit]) -> list[Unit]:
    return [unit for unit in units if unit.found][:NAMED]
