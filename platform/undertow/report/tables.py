"""The terminal's table of effects, and the text form of numbers in all tables."""

from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from undertow.results.effect_rows import EffectRow, any_exact, in_log_odds
from undertow.study.hypotheses import Place
from undertow.study.measurements import EffectOf, EffectScale

LONGEST_PLACE = 48  # characters of a condition's names; longer ones are folded, to leave width to the numbers
MARKS = {"transmitted": "■", "not transmitted": "○", "inconclusive": "◆"}


def effects_table(rows: Sequence[EffectRow]) -> Table:
    """One row per condition: the students' rate, the control students' rate, the effect and its verdict.

    Format, induction and measure have a column only if the study has several. If names are long, those that
    all conditions share are in the caption. The column next to the verdict has the effect of the other kind
    of rate.
    """
    exact = any_exact(rows)
    other = "sampled: effect by sampled answers" if exact else "exact: effect by exact probability"
    table = new_table(
        f"Effects{effects_of(rows)}: students minus control students; n: seeds per condition; {other}"
    )
    places = [row.condition.place for row in rows]
    fields, by_measure = condition_fields(places), len({row.measure for row in rows}) > 1
    width = sum(max((len(getattr(place, field)) for place in places), default=0) for field in fields)
    captions = []
    if width > LONGEST_PLACE:
        same = {field: getattr(places[0], field) for field in fields[1:] if _is_same(places, field)}
        fields = [field for field in fields if field not in same]
        captions += (
            [f"All: {escape(', '.join(f'{field} {name}' for field, name in same.items()))}."] if same else []
        )
    if by_samples := sampled_measures(rows):
        captions.append(f"By sampled answers: {escape(', '.join(by_samples))}.")
    if captions:
        table.caption, table.caption_justify, table.caption_style = "\n".join(captions), "left", ""
    for name in (*fields, *(["measure"] if by_measure else [])):
        table.add_column(name, no_wrap=width <= LONGEST_PLACE, overflow="fold")
    for name in ("n", "rate", "control", "effect", "interval", "adj. p", "sampled" if exact else "exact"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        effect, verdict = row.effect, row.verdict.verdict
        table.add_row(
            *(escape(getattr(row.condition.place, field)) for field in fields),
            *([escape(row.measure)] if by_measure else []),
            str(effect.n_students),
            f"{effect.rate:.3f}",
            f"{effect.control_rate:.3f}",
            signed(effect.effect),
            interval(effect.ci_low, effect.ci_high),
            p_value(row.verdict.p_adjusted),
            other_effect(row, exact),
            f"[bold]{verdict}[/bold]" if verdict == "transmitted" else verdict,
        )
    return table


def _is_same(places: Sequence[Place], field: str) -> bool:
    return len({getattr(place, field) for place in places}) == 1


def other_effect(row: EffectRow, exact: bool) -> str:
    """The effect by sampled answers in a study of exact probabilities, else by exact probability."""
    other = row.sampled if exact else row.exact
    return signed(other.effect) if other else "–"


def effects_of(rows: Sequence[EffectRow]) -> str:
    """What effects are of, and their unit, after the word "effects"; "" for differences of sampled rates."""
    effect_of: EffectOf = "exact" if any_exact(rows) else "samples"
    return effects_phrase(effect_of, "log-odds" if in_log_odds(rows) else "rate")


def effects_phrase(effect_of: EffectOf, scale: EffectScale) -> str:
    """The same by the settings of a study."""
    of = " of exact probabilities" if effect_of == "exact" else ""
    return of + (" in log-odds" if scale == "log-odds" else "")


def sampled_measures(rows: Sequence[EffectRow]) -> list[str]:
    """The measures without exact probabilities, in a study whose other effects are of exact probabilities."""
    by_samples = (row.measure for row in rows if row.effect_of == "samples")
    return list(dict.fromkeys(by_samples)) if any_exact(rows) else []


def rate_name(rows: Sequence[EffectRow]) -> str:
    """What effects compare, for captions: "rate", or "exact probability"."""
    if not any_exact(rows):
        return "rate"
    return "exact probability" if not sampled_measures(rows) else "exact probability or rate"


def condition_fields(places: Sequence[Place]) -> list[str]:
    """The fields of a place that identify a condition; format and induction only if there are several."""
    several = {field: len({getattr(place, field) for place in places}) > 1 for field in ("format", "induced")}
    return [field for field in Place._fields if several.get(field, True)]


def new_table(title: str) -> Table:
    """An empty table with a left-aligned title and a single rule below the header."""
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def signed(value: float, digits: int = 3) -> str:
    """An effect with its sign; without one if it rounds to zero."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def interval(low: float | None, high: float | None) -> str:
    """An interval of an effect, or a dash if a bound is missing."""
    return "–" if low is None or high is None else f"{signed(low)} … {signed(high)}"


def p_value(p: float | None) -> str:
    """A p-value with three decimals; "< .001" below that, and a dash for None."""
    return "–" if p is None else "< .001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Seconds in at most two units: "42 s", "3 min 10 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
