"""Verification of judged answers: they are those of the evaluation, and the rate follows from the replies.

Replies are interpreted by the scale in the spec, as they were when the answers were judged. A judge of a
user's own class cannot be rebuilt from its spec; its answers are reported as unchecked.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from undertow.archive.spec_comparison import JsonSpec, key_of
from undertow.judging.ratings import GARBLED, SCALES, YES_NO, Labels, Probability, Score
from undertow.results.evaluation_files import ANSWERS, COUNTED, RESULT

TOLERANCE = 1e-9  # of rates, which are computed from the same numbers in the same order
RULES = {"RuleJudge": YES_NO}  # judges whose scale is not in their spec


def judged(folder: Path, spec: JsonSpec) -> Iterator[str]:
    """The differences found in the assessment in `folder`."""
    import pyarrow.parquet as pq

    name = f"evaluation/{folder.name}"
    rows = pq.read_table(folder / ANSWERS).to_pylist()
    answers = folder.parent / key_of(spec["evaluation"]) / ANSWERS
    if not answers.is_file():
        yield f"{name}: the judged answers, evaluation/{answers.parent.name}, are not in the archive"
        return
    given = [(r["question"], r["sample"], r["answer"]) for r in pq.read_table(answers).to_pylist()]
    if given != [(r["question"], r["sample"], r["answer"]) for r in rows]:
        yield f"{name}/{ANSWERS}: not the answers of evaluation/{answers.parent.name}"
    panel, outcome = spec["panel"], spec["outcome"]
    judges = [(judge["name"], _scale(judge)) for judge in (*panel["counted"], panel["shows"])]
    if unknown := [judge for judge, scale in judges if scale is None]:
        yield f"{name}: the judge {unknown[0]!r} is of a user-defined class; its answers are unchecked"
        return
    for row in rows:
        counted, shows = _reading(json.loads(row["replies"]), judges)
        if (row[COUNTED], row["matches"]) != (counted, [outcome] if shows else []):
            yield f"{name}/{ANSWERS}: answer {row['sample']} to {row['question']!r} is scored wrongly"
    result = json.loads((folder / RESULT).read_text())
    count = sum(row[COUNTED] for row in rows)
    shown = sum(bool(row["matches"]) for row in rows)
    yield from differing(
        f"{name}/{RESULT}",
        {
            "number of answers that count": (result["answers"], count),
            f"sampled rate of {outcome!r}": (result["sampled"][outcome], shown / max(1, count)),
            "share of answers that do not count": (result["other_sampled"], 1 - count / len(rows)),
        },
    )


def differing(place: str, computed: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """The numbers that differ from the computed ones; `computed` maps a name to both."""
    for name, (printed, rate) in computed.items():
        if not abs(printed - rate) <= TOLERANCE:  # also true for nan
            yield f"{place}: {name} is {printed:.6g}, its answers give {rate:.6g}"


def _reading(replies: Mapping[str, str | None], judges: list[tuple[str, Any]]) -> tuple[bool, bool]:
    """Whether an answer counts, and whether it shows the outcome, according to the replies."""
    *counting, (last, scale) = judges
    for judge, own_scale in counting:
        reply = replies.get(judge)
        if reply is None or own_scale.rejection(reply) is not None:
            return False, False
    reply = replies.get(last)
    reason = GARBLED if reply is None else scale.rejection(reply)
    return reason != GARBLED, reason is None


def _scale(judge: JsonSpec) -> Score | Labels | Probability | None:
    """The scale of a judge's replies; None for a user-defined class."""
    if judge["type"] in RULES:
        return RULES[judge["type"]]
    scale = judge.get("scale")
    if not scale or scale["type"] not in SCALES:
        return None
    fields = {name: value for name, value in scale.items() if name not in ("type", "version")}
    return SCALES[scale["type"]](**fields)
