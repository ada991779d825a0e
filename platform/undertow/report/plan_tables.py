"""What a sweep prints of its plan: conditions and work before, planned beside actual after."""

from collections.abc import Callable, Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from undertow.planning.cells import Cell
from undertow.planning.estimate import WaveEstimate
from undertow.planning.plan import Plan
from undertow.prompts.chat_templates import NO_SYSTEM, in_words
from undertow.report.gather import WaveCost
from undertow.report.tables import duration, new_table
from undertow.study.conditions import Condition
from undertow.study.hypotheses import Place
from undertow.study.identity import key
from undertow.study.published_recipes import described
from undertow.study.recipe import Recipe
from undertow.study.study import Study

MOST_CONDITIONS = 40  # on a line each
MOST_LEVELS = 8
AT_PROVIDER = "provider's"


def plan_table(plan: Plan, every: bool = False) -> Table:
    """The conditions, and how many of their students are there already; of a large grid its axes.

    `every`: a line a condition, however many.
    """
    if len(plan.study.conditions) > MOST_CONDITIONS and not every:
        return _axes_table(plan)
    table = new_table(f"Study {escape(plan.study.name)}: {len(plan.study.conditions):,} conditions")
    ways = {condition.induced for condition in plan.study.conditions if condition.trait}
    for name in (
        "trait",
        *(["induced by"] if len(ways) > 1 else []),
        "format",
        "teacher",
        "student",
        "recipe",
    ):
        table.add_column(name, overflow="fold")
    for name in ("seeds", "students made"):
        table.add_column(name, justify="right")
    students: dict[Condition, list[bool]] = {}
    for cell in plan.cells:
        students.setdefault(cell.condition, []).append(_is_there(cell, plan))
    for condition, made in students.items():
        place = condition.place
        table.add_row(
            escape(place.trait),
            *([place.induced] if len(ways) > 1 else []),
            *map(escape, (place.format, place.teacher, place.student, place.recipe)),
            str(len(made)),
            f"{sum(made)} of {len(made)}",
        )
    return _with_recipes(table, plan)


def _axes_table(plan: Plan) -> Table:
    """What the conditions differ in, a line an axis."""
    count = f"{len(plan.study.conditions):,} conditions"
    table = new_table(f"Study {escape(plan.study.name)}: {count} (--conditions lists them)")
    table.add_column("axis")
    table.add_column("levels", justify="right")
    table.add_column("", overflow="fold")
    places = [condition.place for condition in plan.study.conditions]
    for axis in Place._fields:
        levels = [level for level in dict.fromkeys(getattr(place, axis) for place in places) if level]
        shown = levels if len(levels) <= MOST_LEVELS else [*levels[: MOST_LEVELS - 2], "…", levels[-1]]
        if axis != "induced" or len(levels) > 1:
            table.add_row(axis, f"{len(levels):,}", escape(", ".join(shown).replace(", …,", " …")))
    seeds = plan.study.seeds
    made = sum(_is_there(cell, plan) for cell in plan.cells)
    table.add_row("seed", f"{len(seeds):,}", f"{made:,} of {len(plan.cells):,} students are there")
    return _with_recipes(table, plan)


def _is_there(cell: Cell, plan: Plan) -> bool:
    """Whether its student is; in context it is made by being asked."""
    made = (cell.student,) if cell.student.is_trained else cell.measurements
    return not any(key(artifact) in plan.missing for artifact in made)


def _with_recipes(table: Table, plan: Plan) -> Table:
    """The table, and below it which of the published recipes the study uses."""
    if lines := [escape(line) for line in _recipes(plan)[:MOST_LEVELS]]:
        table.caption, table.caption_justify, table.caption_style = "\n".join(lines), "left", ""
    return table


def _recipes(plan: Plan) -> list[str]:
    """A line a recipe that is one of the named or near one: "LoRA r8: as QWEN but epochs 10"."""
    conditions = plan.study.conditions
    students = {c.recipe: "" for c in conditions}
    teachers = {c.finetuning.recipe: "teachers, " for c in conditions if c.finetuning}
    known = {
        f"{whose}{recipe.name}: {text}": None
        for recipe, whose in [*students.items(), *teachers.items()]
        if isinstance(recipe, Recipe) and (text := described(recipe))
    }
    return list(known)


def systems_table(study: Study, own: Mapping[str, str]) -> Table | None:
    """The system message where data are generated, where students are trained, and where all are asked.

    None where there is nothing to tell: all are the default of templates that put none in.

    Args:
        own: by reference the system text that its chat template puts in by itself; "" for none.
    """
    table = new_table("System messages")
    table.add_column("at")
    table.add_column("which", overflow="fold")
    if any(condition.is_prompted for condition in study.conditions):
        table.add_row("generation, teachers by system prompt", "the trait's prompt")
    others = [c.generation.system for c in study.conditions if not c.is_prompted]
    axes = {
        "generation, other teachers": others,
        "training": [condition.system for condition in study.conditions],
        "evaluation": [study.system],
    }
    for axis, systems in axes.items():
        table.add_row(axis, escape(" or ".join(map(in_words, dict.fromkeys(systems)))))
    values = [system for systems in axes.values() for system in systems]
    if None in values:
        for name, text in own.items():
            table.add_row(f"default of {escape(name)}", escape(in_words(text)))
    return table if any(values) or NO_SYSTEM in values or any(own.values()) else None


def work_table(work: Sequence[WaveEstimate]) -> Table:
    """What each wave has to make, how long it is likely to take here, and what it costs on GPUs.

    What nothing is known of has no column: costs of nano models, times of others before their first sweep.
    What API models are asked and trained for is named and not estimated.
    """
    shown = {
        "needed": [f"{wave.needed:,}" for wave in work],
        "cached": [f"{wave.needed - wave.missing:,}" for wave in work],
        "to make": [f"{wave.missing:,}" for wave in work],
    }
    whole = [f"{sum(wave.needed for wave in work):,}", "", f"{sum(wave.missing for wave in work):,}"]
    priced = any(wave.has_cost for wave in work)
    time = "time" if priced else "estimated time"
    facts = {
        time: ([wave.seconds for wave in work], duration),
        "tokens": ([wave.cost and wave.cost.tokens for wave in work], amount),
        "FLOPs": ([wave.cost and wave.cost.flops for wave in work], "{:.1e}".format),
        "GPU-hours": ([wave.gpu_hours for wave in work], "{:,.1f}".format),
        "cost": ([wave.dollars for wave in work], dollars),
    }
    missing, at_work = sum(wave.missing for wave in work), sum(wave.at_work for wave in work)
    alone = 0 < at_work == sum(wave.elsewhere for wave in work)
    for name, (values, written) in facts.items():
        if any(values) or (name == time and not priced):
            shown[name] = [
                AT_PROVIDER if wave.is_elsewhere else _known(value, wave.missing, written)
                for wave, value in zip(work, values, strict=True)
            ]
            whole.append(AT_PROVIDER if alone else _known(_sum(values), missing, written))
    table = new_table("WaveEstimate")
    if any(wave.elsewhere for wave in work):
        table.caption = f"A {AT_PROVIDER} time and price are in none of these figures."
        table.caption_justify, table.caption_style = "left", ""
    table.add_column("wave")
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for wave, *row in zip([wave.wave for wave in work], *shown.values(), strict=True):
        table.add_row(wave, *row)
    table.add_section()
    table.add_row("all", *whole)
    return table


def costs_table(costs: Sequence[WaveCost]) -> Table:
    """What each wave that had something to make was planned to take, and what it took."""
    ran = [cost for cost in costs if cost.plan.missing or cost.seconds]
    shown = {
        "to make": [f"{cost.plan.missing:,}" for cost in ran],
        "planned": [_known(cost.plan.seconds, cost.plan.missing, duration) for cost in ran],
        "took": [_known(cost.seconds, cost.plan.missing, duration) for cost in ran],
    }
    whole = [
        f"{sum(cost.plan.missing for cost in ran):,}",
        _known(_sum([cost.plan.seconds for cost in ran]), 1, duration),
        duration(sum(cost.seconds or 0.0 for cost in ran)),
    ]
    for name, planned, actual, written in resource_columns(ran):
        if any(planned):
            shown[f"{name} planned"] = [written(value) if value else "–" for value in planned]
            whole.append(_known(_sum(planned), 1, written))
        if any(actual):
            shown[name] = [written(value) if value else "–" for value in actual]
            whole.append(written(sum(filter(None, actual))))
    table = new_table("Planned and actual")
    table.add_column("wave")
    for name in shown:
        table.add_column(name, justify="right")
    for wave, *row in zip([cost.plan.wave for cost in ran], *shown.values(), strict=True):
        table.add_row(wave, *row)
    table.add_section()
    table.add_row("all", *whole)
    return table


Compared = tuple[str, list[float | None], list[float | None], Callable[[float], str]]


def resource_columns(costs: Sequence[WaveCost]) -> list[Compared]:
    """What is planned and counted beside time: name, planned, actual, and how a value is written."""
    return [
        ("tokens", [c.plan.tokens for c in costs], [c.tokens for c in costs], amount),
        ("GPU-hours", [c.plan.gpu_hours for c in costs], [c.gpu_hours for c in costs], "{:,.1f}".format),
    ]


def _known(value: float | None, missing: int, written: Callable[[float], str]) -> str:
    if not missing:
        return "–"
    return "not known" if value is None else written(value)


def _sum(values: Sequence[float | None]) -> float | None:
    """The sum; None where a part is not known."""
    return None if None in values else sum(filter(None, values))


def amount(count: float) -> str:
    """A large number as people say it: 950, 12.3k, 4.5M, 7.8B."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:,.1f}{letter}"
    return f"{count:.0f}"


def dollars(count: float) -> str:
    """Money, to the cent where it is little."""
    return f"${count:,.0f}" if count >= 100 else f"${count:.2f}"
