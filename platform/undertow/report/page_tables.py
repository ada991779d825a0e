"""The tables of the page: what stands in each column, as text.

A sheet that `stacks` becomes one block a row where the page is narrow, each value beside its column's name;
the others have few enough columns for a phone.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from undertow.formats import families
from undertow.report.figures import FigurePanel, condition_name
from undertow.report.gather import DataSource, JudgeCounts, ReportData, WaveCost
from undertow.report.plan_tables import resource_columns
from undertow.report.preregistration import Preregistration
from undertow.report.tables import MARKS, duration, interval, p_value, signed
from undertow.results.effect_rows import EffectRow, HypothesisOutcome
from undertow.results.sweep_record import ExtensionRecord
from undertow.statistics.confusion import Confusion
from undertow.storage.manifest import Address
from undertow.study.hypotheses import Place
from undertow.study.names import short

OUTCOMES = {"held": "■\u00a0held", "failed": "○\u00a0failed", "open": "◆\u00a0open"}
GENERAL_RULES = {  # of every format
    "cut off": "the answer was not finished within the tokens allowed",
    "duplicate": "an earlier row has the same prompt and the same answer",
}
JUDGED = "whoever judged the rows (a language model or a rule) did not let it pass"


class Column(NamedTuple):
    """`kind`: "number" (to the right), "strong" (in bold, too), "keep" (one line), "name", "wide", "code"."""

    name: str
    kind: str = ""


class Sheet(NamedTuple):
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    stacks: bool = False


def hypotheses(findings: Sequence[HypothesisOutcome], asked: Preregistration) -> Sheet:
    """What was claimed and what became of it; when it was claimed, where that was not always beforehand."""
    late = not asked.all_beforehand
    columns = [Column("claim"), Column("expected"), *([Column("asked")] if late else [])]
    rows = [
        (
            finding.hypothesis.claim,
            finding.hypothesis.expects,
            *([asked.claim(finding.hypothesis)] if late else []),
            f"{finding.met} of {len(finding.hypothesis.conditions)}",
            OUTCOMES[finding.outcome],
        )
        for finding in findings
    ]
    return Sheet([*columns, Column("conditions", "number"), Column("outcome", "keep")], rows, stacks=True)


def effects(rows: Sequence[EffectRow], asked: Preregistration) -> Sheet:
    """The result, a line a condition; and whether it was asked about beforehand, where that differs."""
    when = [asked.condition(row.number) if row.is_primary else "afterwards" for row in rows]
    told = len(set(when)) > 1
    columns = [
        Column("condition", "name"),
        Column("effect", "strong"),
        Column("interval", "number"),
        Column("verdict"),
    ]
    return Sheet(
        [*columns, *([Column("asked")] if told else [])],
        [
            (
                condition_name(row, rows),
                signed(row.effect.effect),
                interval(row.effect.ci_low, row.effect.ci_high),
                f"{MARKS[row.verdict.verdict]}\u00a0{row.verdict.verdict}",
                *([moment] if told else []),
            )
            for row, moment in zip(rows, when, strict=True)
        ],
        stacks=told,
    )


def details(rows: Sequence[EffectRow]) -> Sheet:
    """The numbers behind the effects."""
    numbers = (
        "rate", "control", "adj. p", "p of “none”", "exact effect", "bootstrap", "other answers", "n",
    )  # fmt: skip
    return Sheet(
        [Column("condition", "name"), *(Column(name, "number") for name in numbers)],
        [
            (
                condition_name(row, rows),
                f"{row.effect.rate:.3f}",
                f"{row.effect.control_rate:.3f}",
                p_value(row.verdict.p_adjusted),
                p_value(row.verdict.p_equivalence_adjusted),
                signed(row.exact.effect) if row.exact else "–",
                interval(*(row.bootstrap or (None, None))),
                f"{row.other:.0%}",
                f"{row.effect.n_students} : {row.effect.n_controls}",
            )
            for row in rows
        ],
        stacks=True,
    )


def shared(rows: Sequence[EffectRow]) -> str:
    """What the names of conditions leave out because all share it."""
    places = [row.condition.place for row in rows]
    same = {
        f: getattr(places[0], f) for f in Place._fields[1:-1] if len({getattr(p, f) for p in places}) == 1
    }
    return ", ".join(f"{field} {name}" for field, name in same.items())


def notes(rows: Sequence[EffectRow]) -> list[str]:
    """What the reader must know about single rows, each once."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict.note:
            found.setdefault(row.verdict.note, []).append(condition_name(row, rows))
    return [f"{'; '.join(names)}: {note}." for note, names in found.items()]


def diagonals(matrices: Sequence[tuple[FigurePanel, Confusion]]) -> Sheet:
    columns = ("diagonal effect", "strong"), ("p by permutation", "number"), ("note", "")
    rows = [
        (
            f"{short(panel.teacher)} → {short(panel.student)}, {panel.format}, {panel.recipe}",
            "–" if found.effect is None else signed(found.effect),
            p_value(found.p_value),
            found.note,
        )
        for panel, found in matrices
    ]
    noted = any(row[-1] for row in rows)
    kept = len(columns) if noted else len(columns) - 1
    return Sheet(
        [Column("teacher → student"), *(Column(*column) for column in columns[:kept])],
        [row[: kept + 1] for row in rows],
        stacks=True,
    )


def funnels(gathered: ReportData) -> Sheet:
    """From completions to rows, a line a teacher."""
    several = len({source.format for source in gathered.sources}) > 1
    names = ("sets", "completions", "kept", "rows used")
    rows = []
    for source, funnel in gathered.funnels.items():
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in funnel.rejected.most_common())
        rows.append(
            (
                f"{source.trait}, {short(source.teacher)}{f', {source.format}' if several else ''}",
                f"{funnel.datasets}",
                f"{funnel.completions:,}",
                f"{funnel.kept:,} ({funnel.kept / funnel.completions:.0%})",
                f"{funnel.rows:,}",
                reasons or "none",
            )
        )
    columns = [Column("trait, teacher", "name"), *(Column(name, "number") for name in names)]
    return Sheet([*columns, Column("taken away by rule", "wide")], rows, stacks=True)


def rules(gathered: ReportData) -> Sheet:
    """What the rules that took something away ask for, as far as the formats at hand say it."""
    known = {kind.__name__: getattr(kind, "reasons", {}) for kind in families().values()}
    meanings: dict[str, str] = {}
    for source, manifests in gathered.sources.items():
        own = known.get(manifests[0].spec["completions"]["format"]["type"], {})
        for reason in gathered.funnels[source].rejected:
            judged = JUDGED if reason.startswith("judge ") else ""
            if meaning := own.get(reason) or GENERAL_RULES.get(reason) or judged:
                meanings.setdefault(reason, meaning)
    return Sheet([Column("rule"), Column("takes an answer away where")], sorted(meanings.items()))


def source_name(source: DataSource) -> str:
    return f"{source.trait}, {short(source.teacher)}, {source.format}"


def judges(found: Sequence[JudgeCounts]) -> Sheet:
    """What each judge was shown, and what it did with it."""
    names = ("shown", "kept", "garbled", "refused", "tokens in", "tokens out")
    return Sheet(
        [Column("judge"), Column("of"), *(Column(name, "number") for name in names)],
        [(one.judge, one.of, *(f"{count:,}" for count in one[2:])) for one in found],
        stacks=True,
    )


def base_rates(gathered: ReportData) -> Sheet:
    """Teachers' rates of their trait, and references' of every word, in the order of the traits."""
    order = list(dict.fromkeys(condition.word for condition in gathered.record.conditions))
    found = sorted(gathered.levels(), key=lambda level: order.index(level.word) if level.word in order else 0)
    found.sort(key=lambda level: (level.model.startswith("reference"), level.model))
    columns = [Column("model"), Column("word asked for"), Column("sampled rate", "number")]
    return Sheet(
        [*columns, Column("exact", "number")],
        [(_model(level.model), level.word, f"{level.sampled:.3f}", _rate(level.exact)) for level in found],
    )


def extension(kind: ExtensionRecord, gathered: ReportData) -> Sheet:
    """The facts of the artifacts of a kind that an extension registered, one row per artifact."""
    rows = []
    for key, name in kind.artifacts:
        manifest = gathered.manifests.get(Address(kind.kind, key))
        facts = manifest.facts if manifest else {}
        rows.append((name, *(_fact(facts.get(fact)) for fact in kind.facts)))
    return Sheet([Column("artifact"), *(Column(fact, "number") for fact in kind.facts)], rows)


def _fact(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)


def _rate(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.3f}"


def _model(name: str) -> str:
    kind, _, reference = name.partition(" ")
    return f"{kind} {short(reference)}"


def costs(found: Sequence[WaveCost]) -> Sheet:
    """Planned and actual, a line a wave, and all of them; tokens and GPU-hours where they are known."""
    columns: dict[str, list[str]] = {
        "artifacts": [f"{cost.plan.needed:,}" for cost in found],
        "to make": [f"{cost.plan.missing:,}" for cost in found],
        "planned": [_planned(cost) for cost in found],
        "this sweep": [_duration(cost.seconds) for cost in found],
        "all its sweeps": [_duration(cost.ever) for cost in found],
    }
    planned = [cost.plan.seconds for cost in found]
    whole = [
        f"{sum(cost.plan.needed for cost in found):,}",
        f"{sum(cost.plan.missing for cost in found):,}",
        "not known" if None in planned else duration(sum(filter(None, planned))),
        _total(cost.seconds for cost in found),
        _total(cost.ever for cost in found),
    ]
    for name, expected, counted, written in resource_columns(found):
        for title, values in ((f"{name}, planned", expected), (name, counted)):
            if any(values):
                columns[title] = [written(value) if value else "–" for value in values]
                whole.append(written(sum(filter(None, values))))
    rows = [*zip([cost.plan.wave for cost in found], *columns.values(), strict=True), ("all", *whole)]
    return Sheet([Column("wave"), *(Column(name, "number") for name in columns)], rows, stacks=True)


def _planned(cost: WaveCost) -> str:
    if not cost.plan.missing:
        return "–"
    return "not known" if cost.plan.seconds is None else duration(cost.plan.seconds)


def _duration(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)


def _total(seconds: Iterable[float | None]) -> str:
    known = [one for one in seconds if one is not None]
    return duration(sum(known)) if known else "–"


def references(gathered: ReportData) -> Sheet:
    columns = [Column("reference"), Column("revision", "code"), Column("chat template", "code")]
    return Sheet(columns, [(r.name, r.revision, r.chat_template[:16]) for r in gathered.record.references])


def students(gathered: ReportData) -> Sheet:
    """The key of every student and of its data."""
    conditions = gathered.record.conditions
    columns = [
        Column("condition", "name"),
        Column("seed", "number"),
        Column("student", "code"),
        Column("data", "code"),
    ]
    return Sheet(
        columns,
        [(conditions[c.condition].label, f"{c.seed}", c.student, c.dataset) for c in gathered.record.cells],
        stacks=True,
    )
