"""The terminal's table of effects, and what its rows are called."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from undertow.report.table_texts import (
    GAP,
    LOG_WIDTH,
    condition_fields,
    differing,
    effects_phrase,
    interval,
    new_table,
    p_value,
    signed,
)
from undertow.results.effect_rows import EffectRow, any_exact, in_log_odds
from undertow.study.hypotheses import Place
from undertow.study.measurements import EffectOf

LONGEST_PLACE = 60  # characters of the columns with names; more are folded, to leave width to the numbers
NUMBERS = 88  # characters of the columns of numbers and the verdict
MARKS = {"transmitted": "■", "not transmitted": "○", "inconclusive": "◆"}


def effects_table(rows: Sequence[EffectRow], width: int = LOG_WIDTH) -> Table:
    """One row per condition: the students' rate, the control students' rate, the effect and its verdict.

    Format, induction and measure have a column only if the study has several. If names are long, those that
    all conditions share are in the caption. A terminal of `width` columns that is too narrow for all numbers
    gets the effect, its interval and the verdict. The column next to the verdict has the effect of the other
    kind of rate.
    """
    exact = any_exact(rows)
    places = [row.condition.place for row in rows]
    fields, by_measure = condition_fields(places), len({row.measure for row in rows}) > 1
    captions = []
    if _width_of(places, fields) > min(LONGEST_PLACE, width - NUMBERS):
        differs = differing(places)
        same = {field: getattr(places[0], field) for field in fields[1:] if field not in differs}
        fields = [field for field in fields if field not in same]
        if same:
            captions.append(f"All: {escape(', '.join(f'{field} {name}' for field, name in same.items()))}.")
    if by_samples := sampled_measures(rows):
        captions.append(f"By sampled answers: {escape(', '.join(by_samples))}.")
    is_short = min(_width_of(places, fields), LONGEST_PLACE) > width - NUMBERS
    if is_short:
        captions.append("The report, effects.csv and wider terminals have rates and p-values in addition.")
    other = "sampled: effect by sampled answers" if exact else "exact: effect by exact probability"
    legend = "" if is_short else f"; n: seeds per condition; {other}"
    table = new_table(f"Effects{effects_of(rows)}: students minus control students{legend}")
    if captions:
        table.caption = "\n".join(captions)
    for name in (*fields, *(["measure"] if by_measure else [])):
        table.add_column(name, overflow="fold")
    columns = ("n", "rate", "control", "effect", "interval", "adj. p", "sampled" if exact else "exact")
    for name in (shown := ("effect", "interval") if is_short else columns):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        effect, verdict = row.effect, row.verdict.verdict
        numbers = (
            str(effect.n_students),
            f"{effect.rate:.3f}",
            f"{effect.control_rate:.3f}",
            signed(effect.effect),
            interval(effect.ci_low, effect.ci_high),
            p_value(row.verdict.p_adjusted),
            other_effect(row, exact),
        )
        table.add_row(
            *(escape(getattr(row.condition.place, field)) for field in fields),
            *([escape(row.measure)] if by_measure else []),
            *(text for name, text in zip(columns, numbers, strict=True) if name in shown),
            f"[bold]{verdict}[/bold]" if verdict == "transmitted" else verdict,
        )
    return table


def _width_of(places: Sequence[Place], fields: Sequence[str]) -> int:
    """The characters of the columns with the names of conditions."""
    return sum(max((len(getattr(place, field)) for place in places), default=0) + GAP for field in fields)


def other_effect(row: EffectRow, exact: bool) -> str:
    """The effect by sampled answers in a study of exact probabilities, else by exact probability."""
    other = row.sampled if exact else row.exact
    return signed(other.effect) if other else "–"


def effects_of(rows: Sequence[EffectRow]) -> str:
    """The phrase about the effects of a table's rows (see `effects_phrase`)."""
    effect_of: EffectOf = "exact" if any_exact(rows) else "samples"
    return effects_phrase(effect_of, "log-odds" if in_log_odds(rows) else "rate")


def sampled_measures(rows: Sequence[EffectRow]) -> list[str]:
    """The measures without exact probabilities, in a study whose other effects are of exact probabilities."""
    by_samples = (row.measure for row in rows if row.effect_of == "samples")
    return list(dict.fromkeys(by_samples)) if any_exact(rows) else []


def rate_name(rows: Sequence[EffectRow]) -> str:
    """What effects compare, for captions: "rate", or "exact probability"."""
    if not any_exact(rows):
        return "rate"
    return "exact probability" if not sampled_measures(rows) else "exact probability or rate"
