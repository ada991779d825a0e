"""The table of a search for a recipe, as text and as CSV, and its result in sentences."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from undertow.report.table_texts import interval, new_table, signed
from undertow.results.csv_tables import written
from undertow.results.effect_rows import EffectRow
from undertow.stages.search_points import TrialOutcome
from undertow.stages.trials import seeds_in_words
from undertow.study.conditions import Condition
from undertow.study.measurements import EffectScale
from undertow.study.search_space import SearchSpace, current, in_words, point_label

OWN = "the study's own recipe"
CSV = "search.csv"


def search_table(
    trials: Sequence[TrialOutcome],
    condition: Condition,
    space: SearchSpace,
    seeds: Sequence[int],
    scale: EffectScale,
) -> Table:
    """One row per trial, the strongest first, stopped and failed ones last; trial 0 is the study's recipe."""
    unit = " in log-odds" if scale == "log-odds" else ""
    table = new_table(
        f"Search on seeds {seeds_in_words(seeds)}: effects of exact probabilities{unit}, students minus "
        "control students"
    )
    for name in ("trial", *(axis.field for axis in space.axes), "effect", "by seed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    numbered = sorted(enumerate(trials), key=lambda one: _order(one[1]))
    for number, trial in numbered:
        table.add_row(
            str(number),
            *map(escape, _values(number, trial, condition, space)),
            "–" if trial.effect is None else signed(trial.effect),
            " ".join(map(signed, trial.effects)),
            escape(remark(number, trial)),
        )
    return table


def search_csv(trials: Sequence[TrialOutcome], condition: Condition, space: SearchSpace) -> str:
    """The same in the order of the trials; trial 0 is the study's own recipe."""
    columns = ("trial", *(axis.field for axis in space.axes), "effect", "by_seed", "stopped", "remark")
    rows = (
        [
            number,
            *_values(number, trial, condition, space),
            trial.effect,
            " ".join(f"{effect:.6g}" for effect in trial.effects),
            trial.stopped or None,
            remark(number, trial),
        ]
        for number, trial in enumerate(trials)
    )
    return written(columns, rows)


def remark(number: int, trial: TrialOutcome) -> str:
    """Why a trial has no effect, or that it is the study's own recipe."""
    if trial.failure:
        return f"failed: {trial.failure}"
    if trial.effect is None:
        return f"stopped after epoch {trial.stopped}: the trait rose by {signed(trial.score)}"
    return "" if number else OWN


def selection_line(best: TrialOutcome, trials: Sequence[TrialOutcome]) -> str:
    """The strongest recipe of the search, with what its effect is worth."""
    compared = sum(trial.effect is not None for trial in trials)
    return (
        f"Strongest on the seeds of the search: {point_label(best.values) or OWN}, effect "
        f"{signed(best.effect or 0.0)}. As the largest of {compared} effects, it probably overestimates its "
        "recipe."
    )


def confirmation_line(row: EffectRow | None, seeds: Sequence[int]) -> str:
    """The effect on the fresh seeds, the only one without a bias."""
    place = f"Confirmation on the fresh seeds {seeds_in_words(seeds)}"
    if row is None:
        return f"{place}: no result; run the same command again"
    effect, verdict = row.effect, row.verdict
    note = f" ({verdict.note})" if verdict.note else ""
    return (
        f"{place}: effect {signed(effect.effect)} [{interval(effect.ci_low, effect.ci_high)}], "
        f"{verdict.verdict}{note}. Only this effect is unbiased: its seeds took no part in the search."
    )


def _order(trial: TrialOutcome) -> tuple[bool, bool, float]:
    effect = trial.effect
    return bool(trial.failure), effect is None, -(trial.score if effect is None else effect)


def _values(number: int, trial: TrialOutcome, condition: Condition, space: SearchSpace) -> list[str]:
    if number == 0:
        return [current(condition, axis.field) for axis in space.axes]
    return [in_words(trial.values[axis.field]) if trial.values else "–" for axis in space.axes]
