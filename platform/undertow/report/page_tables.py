"""The tables of the HTML report as text, ready for the page's template.

On a narrow screen, a sheet with `stacks` shows each row as a block of values with the names of their columns.
Sheets without it have few enough columns for a phone.
"""

from collections.abc import Sequence
from typing import NamedTuple

from undertow.formats import families
from undertow.formats.wrapped import rules_of
from undertow.report.figures import FigurePanel, condition_names
from undertow.report.gather import DataSource, JudgeCounts, ReportData, WaveCost
from undertow.report.plan_tables import WaveColumn, cost_columns, quantity_column
from undertow.report.preregistration import Preregistration
from undertow.report.prose import OUTCOMES
from undertow.report.table_texts import decimal, differing, duration, interval, p_value, percent, signed
from undertow.report.tables import MARKS, other_effect
from undertow.report.viewer_links import KEPT, Link, to_answers, to_completions
from undertow.results.dataset_card import CUT_OFF
from undertow.results.effect_rows import EffectRow, HypothesisOutcome, any_exact
from undertow.results.sweep_record import ExtensionRecord
from undertow.statistics.confusion import Confusion
from undertow.storage.manifest import Address
from undertow.study.hypotheses import Place
from undertow.study.identity import source_of
from undertow.study.names import short

OUTCOME_MARKS = {"held": "■", "failed": "○", "open": "◆"}
GENERAL_RULES = {  # rules of all formats
    CUT_OFF: "the completion reached the limit of tokens",
    "duplicate": "an earlier row has the same prompt and completion",
    "no second answer": "the second answer to its prompt was rejected, so that there is no pair to rank",
    "two equal answers": "the second answer to its prompt is the same",
}
JUDGED = "the judge (a language model or a rule) did not accept the row"


class Column(NamedTuple):
    """A column's header and its CSS class.

    `kind` is "number" (right-aligned), "strong" (right-aligned and bold), "keep" (no line breaks), "name"
    (line breaks only between its parts), "wide" or "code".
    """

    name: str
    kind: str = ""


def numbers(*names: str) -> list[Column]:
    """Columns of numbers."""
    return [Column(name, "number") for name in names]


class Sheet(NamedTuple):
    """A table of text; every row has one value per column."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str | Link]]
    stacks: bool = False


def hypotheses(outcomes: Sequence[HypothesisOutcome], registration: Preregistration) -> Sheet:
    """The study's hypotheses and their outcomes; whether each is pre-registered, unless all are."""
    post_hoc = not registration.all_preregistered
    columns = [Column("hypothesis"), Column("expected"), *([Column("registration")] if post_hoc else [])]
    rows = [
        (
            outcome.hypothesis.claim,
            outcome.hypothesis.expects,
            *([registration.hypothesis(outcome.hypothesis)] if post_hoc else []),
            f"{outcome.met} of {len(outcome.hypothesis.conditions)}",
            f"{OUTCOME_MARKS[outcome.outcome]}\u00a0{OUTCOMES[outcome.outcome]}",
        )
        for outcome in outcomes
    ]
    return Sheet([*columns, Column("conditions", "number"), Column("outcome", "keep")], rows, stacks=True)


def effects(rows: Sequence[EffectRow], registration: Preregistration) -> Sheet:
    """The effects, one row per condition; whether each is pre-registered, if that differs between them."""
    registered = [registration.condition(row.number) if row.is_primary else "post hoc" for row in rows]
    differs = len(set(registered)) > 1
    columns = [
        Column("condition", "name"),
        Column("effect", "strong"),
        Column("interval", "number"),
        Column("verdict"),
    ]
    return Sheet(
        [*columns, *([Column("registration")] if differs else [])],
        [
            (
                name,
                to_answers(signed(row.effect.effect), row.number, row.measure),
                interval(row.effect.ci_low, row.effect.ci_high),
                f"{MARKS[row.verdict.verdict]}\u00a0{row.verdict.verdict}",
                *([when] if differs else []),
            )
            for name, row, when in zip(condition_names(rows), rows, registered, strict=True)
        ],
        stacks=differs,
    )


def details(rows: Sequence[EffectRow]) -> Sheet:
    """The rates, p-values and intervals behind the effects, one row per condition.

    If effects are of exact probabilities, the sampled rates are shown with them.
    """
    exact = any_exact(rows)
    # The paper's score has a column if it gives another effect than whole words do.
    by_substring = any(
        row.contained and signed(row.contained.effect) != signed(row.sampled.effect) for row in rows
    )
    names = (
        "rate", "control", "adj. p", "equiv. p",
        *(("sampled rate", "sampled control", "sampled effect") if exact else ("exact effect",)),
        *(["substring effect"] if by_substring else []),
        "bootstrap", "other answers", "n",
    )  # fmt: skip
    return Sheet(
        [Column("condition", "name"), *numbers(*names)],
        [
            (
                name,
                f"{row.effect.rate:.3f}" if exact else _answers(row, row.effect.rate),
                f"{row.effect.control_rate:.3f}",
                p_value(row.verdict.p_adjusted),
                p_value(row.verdict.p_equivalence_adjusted),
                *((_answers(row, row.sampled.rate), f"{row.sampled.control_rate:.3f}") if exact else ()),
                other_effect(row, exact),
                *([signed(row.contained.effect) if row.contained else "–"] if by_substring else []),
                interval(*(row.bootstrap or (None, None))),
                percent(row.other),
                f"{row.effect.n_students} : {row.effect.n_controls}",
            )
            for name, row in zip(condition_names(rows), rows, strict=True)
        ],
        stacks=True,
    )


def _answers(row: EffectRow, rate: float) -> Link:
    """A rate of sampled answers, as a link to these answers."""
    return to_answers(f"{rate:.3f}", row.number, row.measure)


def shared(rows: Sequence[EffectRow]) -> str:
    """The fields that all conditions share and that their names therefore omit: "format numbers, …"."""
    places = [row.condition.place for row in rows]
    differs = differing(places)
    same = {field: getattr(places[0], field) for field in Place._fields[1:-1] if field not in differs}
    return ", ".join(f"{field} {name}" for field, name in same.items())


def notes(rows: Sequence[EffectRow]) -> list[str]:
    """The notes of the verdicts, each with the conditions that it is about."""
    conditions: dict[str, list[str]] = {}
    for name, row in zip(condition_names(rows), rows, strict=True):
        if row.verdict.note:
            conditions.setdefault(row.verdict.note, []).append(name)
    return [f"{'; '.join(names)}: {note}." for note, names in conditions.items()]


def diagonals(matrices: Sequence[tuple[FigurePanel, Confusion]]) -> Sheet:
    """The diagonal effect of each trait matrix; with a column of notes if there are any."""
    columns = ("diagonal effect", "strong"), ("permutation p", "number"), ("note", "")
    rows = [
        (
            f"{short(panel.teacher)} → {short(panel.student)}, {panel.format}, {panel.recipe}",
            "–" if confusion.effect is None else signed(confusion.effect),
            p_value(confusion.p_value),
            confusion.note,
        )
        for panel, confusion in matrices
    ]
    has_notes = any(row[-1] for row in rows)
    kept = len(columns) if has_notes else len(columns) - 1
    return Sheet(
        [Column("teacher → student", "name"), *(Column(*column) for column in columns[:kept])],
        [row[: kept + 1] for row in rows],
        stacks=True,
    )


def funnels(data: ReportData) -> Sheet:
    """Completions, kept completions and training rows, one row per source.

    If rows were rewritten, their completions are the rewritten ones, and a column has the share of them that
    passes the format's rules.
    """
    several_formats = "format" in differing(list(data.sources))
    is_rewritten = any(funnel.valid is not None for funnel in data.funnels.values())
    names = ["data sets", "completions", "kept", "rows used"]
    if is_rewritten:
        names.append("valid after rewriting")
    rows: list[Sequence[str | Link]] = []
    for number, (source, funnel) in enumerate(data.funnels.items()):
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in funnel.rejected.most_common())
        format_ = f", {source.format}" if several_formats else ""
        valid = "–" if funnel.valid is None else percent(funnel.valid / funnel.completions, 1)
        rows.append(
            (
                f"{source.induced_trait}, {short(source.teacher)}{format_}",
                f"{funnel.datasets}",
                to_completions(f"{funnel.completions:,}", number),
                to_completions(
                    f"{funnel.kept:,} ({percent(funnel.kept / funnel.completions)})", number, KEPT
                ),
                f"{funnel.rows:,}" + (f" ({funnel.mixed_in:,} of other data)" if funnel.mixed_in else ""),
                *([valid] if is_rewritten else []),
                reasons or "none",
            )
        )
    columns = [Column("trait, teacher", "name"), *numbers(*names)]
    return Sheet([*columns, Column("rejected by rule", "wide")], rows, stacks=True)


def choices(data: ReportData) -> Sheet:
    """Scores and token masks of sources whose rows, tokens or answers were chosen, as means of data sets."""
    rows: list[Sequence[str | Link]] = []
    shown = [("score", "mean score of rows"), ("score of kept", "of kept rows")]
    if any("score of rejected" in funnel.choices for funnel in data.funnels.values()):
        shown.append(("score of rejected", "of rejected answers"))
    for source, funnel in data.funnels.items():
        mean = {name: value / funnel.datasets for name, value in funnel.choices.items()}
        if not mean:
            continue
        scores = [decimal(mean[name], 2) if name in mean else "–" for name, _ in shown]
        dose = ["–", "–"]
        if "tokens" in mean:
            covered = mean["tokens in the loss"]
            dose = [
                f"{covered:,.0f} ({percent(covered / mean['tokens'])})",
                f"{mean['rows in the loss']:,.0f}",
            ]
        rows.append((source_name(source), *scores, *dose))
    columns = numbers(*(name for _, name in shown), "tokens in the loss", "rows in the loss")
    return Sheet([Column("data", "name"), *columns], rows, stacks=True)


def rules(data: ReportData) -> Sheet:
    """The meanings of the rules that rejected completions, as far as the installed formats document them."""
    by_format = {kind.__name__: kind.reasons for kind in families().values()}
    meanings: dict[str, str] = {}
    for source, manifests in data.sources.items():
        format_ = rules_of(source_of(manifests[0].spec)["format"])
        of_format = by_format.get(format_["type"], {})
        for reason in data.funnels[source].rejected:
            judged = JUDGED if reason.startswith("judge ") else ""
            if meaning := of_format.get(reason) or GENERAL_RULES.get(reason) or judged:
                meanings.setdefault(reason, meaning)
    rows = [(to_completions(rule, None, rule), meaning) for rule, meaning in sorted(meanings.items())]
    return Sheet([Column("rule"), Column("rejects a completion if")], rows)


def naming(data: ReportData) -> str:
    """The sources with rows that name the trait of their teacher: "blue, gpt2-0: 170 of 200"; "" if none."""
    return "; ".join(
        f"{source_name(source)}: {sample.naming:,} of {sample.read:,}"
        for source, sample in data.samples.items()
        if sample.naming
    )


def source_name(source: DataSource) -> str:
    return f"{source.induced_trait}, {short(source.teacher)}, {source.format}"


def judges(counts: Sequence[JudgeCounts]) -> Sheet:
    """The number of items that each judge received, kept, and did not rate; and its tokens."""
    columns = numbers("judged", "kept", "garbled", "refused", "tokens in", "tokens out")
    return Sheet(
        [Column("judge"), Column("of"), *columns],
        [(one.judge, one.of, *(f"{count:,}" for count in one[2:])) for one in counts],
        stacks=True,
    )


def base_rates(data: ReportData) -> Sheet:
    """Rates of teachers, then of reference models, in the order of the study's words.

    The trait of a teacher is named if it is not the word, such as that of a judged trait.
    """
    order = list(dict.fromkeys(condition.word for condition in data.record.conditions))
    rates = sorted(data.base_rates(), key=lambda rate: order.index(rate.word) if rate.word in order else 0)
    rates.sort(key=lambda rate: (rate.model.startswith("reference"), rate.model))
    rows = []
    for rate in rates:
        kind, _, reference = rate.model.partition(" ")
        trait = f", {rate.trait}" if kind == "teacher" and rate.trait != rate.word else ""
        exact = "–" if rate.exact is None else f"{rate.exact:.3f}"
        rows.append((f"{kind} {short(reference)}{trait}", rate.word, f"{rate.sampled:.3f}", exact))
    return Sheet([Column("model", "name"), Column("word"), *numbers("sampled rate", "exact rate")], rows)


def extension(kind: ExtensionRecord, data: ReportData) -> Sheet:
    """The facts of the artifacts of a kind that an extension registered, one row per artifact."""
    rows = []
    for key, name in kind.artifacts:
        manifest = data.manifests.get(Address(kind.kind, key))
        facts = manifest.facts if manifest else {}
        rows.append((name, *(_fact(facts.get(fact)) for fact in kind.facts)))
    return Sheet([Column("artifact", "name"), *numbers(*kind.facts)], rows)


def _fact(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)


def costs(waves: Sequence[WaveCost]) -> Sheet:
    """Planned and actual costs, one row per wave and one of totals."""
    needed = [cost.plan.needed for cost in waves]
    to_make, planned, actual, *quantities = cost_columns(waves)
    columns = [
        WaveColumn("artifacts", [f"{count:,}" for count in needed], f"{sum(needed):,}"),
        to_make,
        planned,
        actual._replace(name="this sweep"),
        quantity_column("all sweeps", [cost.all_sweeps for cost in waves], duration),
        *quantities,
    ]
    rows = [
        *zip([cost.plan.wave for cost in waves], *(column.cells for column in columns), strict=True),
        ("all", *(column.total for column in columns)),
    ]
    return Sheet([Column("wave"), *numbers(*(column.name for column in columns))], rows, stacks=True)


def references(data: ReportData) -> Sheet:
    """The reference models with their revisions and the hashes of their chat templates."""
    columns = [Column("reference model", "name"), Column("revision", "code"), Column("chat template", "code")]
    return Sheet(columns, [(r.name, r.revision, r.chat_template[:16]) for r in data.record.references])


def students(data: ReportData) -> Sheet:
    """The artifact keys of all students and of their data sets."""
    conditions = data.record.conditions
    columns = [
        Column("condition", "name"),
        Column("seed", "number"),
        Column("student", "code"),
        Column("data set", "code"),
    ]
    return Sheet(
        columns,
        [(conditions[c.condition].label, f"{c.seed}", c.student, c.dataset) for c in data.record.cells],
        stacks=True,
    )
