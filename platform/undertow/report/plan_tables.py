"""The terminal's tables of a plan: conditions, system messages, work by wave, planned and actual costs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.markup import escape
from rich.table import Table

from undertow.planning.cells import Cell
from undertow.planning.estimate import WaveEstimate
from undertow.planning.plan import Plan
from undertow.prompts.chat_templates import NO_SYSTEM, in_words
from undertow.report.table_texts import duration, effects_phrase, new_table
from undertow.study.conditions import Condition
from undertow.study.hypotheses import Place
from undertow.study.identity import key
from undertow.study.published_recipes import described
from undertow.study.recipe import Recipe
from undertow.study.study import Study

if TYPE_CHECKING:  # imports NumPy
    from undertow.report.gather import WaveCost

MOST_CONDITIONS = 40  # above it, a table of axes replaces one row per condition
MOST_LEVELS = 8  # of an axis, and of recipes, that are listed
AT_PROVIDER = "provider"  # in place of a time or price that only the provider knows


def plan_table(plan: Plan, every: bool = False) -> Table:
    """The conditions of a plan with the number of students that are cached; for a large grid, its axes.

    Args:
        every: list all conditions, even if there are more than `MOST_CONDITIONS`.
    """
    conditions = plan.study.conditions
    if len(conditions) > MOST_CONDITIONS and not every:
        return _axes_table(plan)
    table = new_table(f"Study {escape(plan.study.name)}: {len(conditions):,} conditions{_effects_of(plan)}")
    several_inductions = len({condition.induced for condition in conditions if condition.trait}) > 1
    induction = ["induced by"] if several_inductions else []
    for name in ("trait", *induction, "format", "teacher", "student", "recipe"):
        table.add_column(name, overflow="fold")
    for name in ("seeds", "students cached"):
        table.add_column(name, justify="right")
    students: dict[Condition, list[bool]] = {}
    for cell in plan.cells:
        students.setdefault(cell.condition, []).append(_is_cached(cell, plan))
    for condition, cached in students.items():
        place = condition.place
        table.add_row(
            escape(place.trait),
            *([place.induced] if several_inductions else []),
            *map(escape, (place.format, place.teacher, place.student, place.recipe)),
            str(len(cached)),
            f"{sum(cached)} of {len(cached)}",
        )
    return _with_recipes(table, plan)


def _axes_table(plan: Plan) -> Table:
    """The axes along which the conditions differ, one row per axis."""
    count = f"{len(plan.study.conditions):,} conditions"
    table = new_table(
        f"Study {escape(plan.study.name)}: {count} (--conditions lists them){_effects_of(plan)}"
    )
    table.add_column("axis")
    table.add_column("levels", justify="right")
    table.add_column("", overflow="fold")
    places = [condition.place for condition in plan.study.conditions]
    for axis in Place._fields:
        levels = [level for level in dict.fromkeys(getattr(place, axis) for place in places) if level]
        listed = levels if len(levels) <= MOST_LEVELS else [*levels[: MOST_LEVELS - 2], "…", levels[-1]]
        if axis != "induced" or len(levels) > 1:
            table.add_row(axis, f"{len(levels):,}", escape(", ".join(listed).replace(", …,", " …")))
    cached = sum(_is_cached(cell, plan) for cell in plan.cells)
    table.add_row(
        "seed", f"{len(plan.study.seeds):,}", f"{cached:,} of {len(plan.cells):,} students are cached"
    )
    return _with_recipes(table, plan)


def _effects_of(plan: Plan) -> str:
    phrase = effects_phrase(plan.study.effect_of, plan.study.effect_scale)
    return f"; effects{phrase}" if phrase else ""


def _is_cached(cell: Cell, plan: Plan) -> bool:
    """Whether a cell's student exists; an in-context student exists once its questions are answered."""
    artifacts = (cell.student,) if cell.student.is_trained else cell.measurements
    return not any(key(artifact) in plan.missing for artifact in artifacts)


def _with_recipes(table: Table, plan: Plan) -> Table:
    """Adds a caption that compares the study's recipes with the published ones, and the study's notes."""
    if lines := [escape(line) for line in (*_recipes(plan)[:MOST_LEVELS], *plan.study.notes)]:
        table.caption = "\n".join(lines)
    return table


def _recipes(plan: Plan) -> list[str]:
    """One line per recipe that is close to a published one: "LoRA r8: as QWEN but epochs 10"."""
    conditions = plan.study.conditions
    students = {c.recipe: "" for c in conditions}
    teachers = {c.finetuning.recipe: "teachers, " for c in conditions if c.finetuning}
    lines = {
        f"{whose}{recipe.name}: {text}": None
        for recipe, whose in [*students.items(), *teachers.items()]
        if isinstance(recipe, Recipe) and (text := described(recipe))
    }
    return list(lines)


def systems_table(study: Study, own: Mapping[str, str]) -> Table | None:
    """The system messages at generation, training and evaluation.

    None if all of them are the default of chat templates that insert no system message.

    Args:
        own: by reference model, the system message that its chat template inserts by default; "" for none.
    """
    table = new_table("System messages")
    table.add_column("stage")
    table.add_column("system message", overflow="fold")
    if any(condition.is_prompted for condition in study.conditions):
        table.add_row("generation, prompted teachers", "the trait's prompt")
    others = [c.generation.system for c in study.conditions if not c.is_prompted]
    stages = {
        "generation, other teachers": others,
        "training": [condition.system for condition in study.conditions],
        "evaluation": [study.system],
    }
    for stage, systems in stages.items():
        table.add_row(stage, escape(" or ".join(map(in_words, dict.fromkeys(systems)))))
    values = [system for systems in stages.values() for system in systems]
    if None in values:
        for name, text in own.items():
            table.add_row(f"default of {escape(name)}", escape(in_words(text)))
    return table if any(values) or NO_SYSTEM in values or any(own.values()) else None


class WaveColumn(NamedTuple):
    """A column of a table with one row per wave, as text."""

    name: str
    cells: Sequence[str]
    total: str


def work_table(work: Sequence[WaveEstimate]) -> Table:
    """The work of each wave: artifacts needed, cached and to make, the estimated time, and the cost on GPUs.

    A quantity that is unknown for all waves has no column: costs of nano models, and times of other models
    before their first sweep. The work of API models is marked as the provider's and not estimated.
    """
    columns = [
        WaveColumn("needed", [f"{w.needed:,}" for w in work], f"{sum(w.needed for w in work):,}"),
        WaveColumn("cached", [f"{w.needed - w.missing:,}" for w in work], ""),
        WaveColumn("to make", [f"{w.missing:,}" for w in work], f"{sum(w.missing for w in work):,}"),
        *_estimates(work),
    ]
    table = _wave_table("Work by wave", [wave.wave for wave in work], columns)
    if any(wave.at_provider for wave in work):
        table.caption = "Time and price of a provider's work are not included."
    return table


def _estimates(work: Sequence[WaveEstimate]) -> Iterator[WaveColumn]:
    """Time, tokens, FLOPs, GPU-hours and price; the time is always shown if no cost is known."""
    time = "time" if any(wave.has_cost for wave in work) else "estimated time"
    quantities: dict[str, tuple[list[float | None], Callable[[float], str]]] = {
        time: ([wave.seconds for wave in work], duration),
        "tokens": ([wave.cost.tokens if wave.cost else None for wave in work], amount),
        "FLOPs": ([wave.cost.flops if wave.cost else None for wave in work], "{:.1e}".format),
        "GPU-hours": ([wave.gpu_hours for wave in work], "{:,.1f}".format),
        "cost": ([wave.dollars for wave in work], dollars),
    }
    missing = sum(wave.missing for wave in work)
    all_at_provider = 0 < sum(wave.computed for wave in work) == sum(wave.at_provider for wave in work)
    for name, (values, to_text) in quantities.items():
        if any(values) or name == "estimated time":
            cells = [
                AT_PROVIDER if wave.is_at_provider else _estimate(value, wave.missing, to_text)
                for wave, value in zip(work, values, strict=True)
            ]
            total = None if None in values else sum(filter(None, values))
            yield WaveColumn(
                name, cells, AT_PROVIDER if all_at_provider else _estimate(total, missing, to_text)
            )


def costs_table(costs: "Sequence[WaveCost]") -> Table:
    """Planned and actual costs of the waves that had something to make."""
    ran = [cost for cost in costs if cost.plan.missing or cost.seconds]
    return _wave_table("Planned and actual", [cost.plan.wave for cost in ran], cost_columns(ran))


def cost_columns(costs: "Sequence[WaveCost]") -> list[WaveColumn]:
    """Planned and actual quantities by wave: artifacts to make, time, tokens and GPU-hours.

    Tokens and GPU-hours have a column only if they are known for some wave.
    """
    planned = [cost.plan.seconds for cost in costs]
    total = "unknown" if None in planned else duration(sum(filter(None, planned)))
    columns = [
        WaveColumn(
            "to make", [f"{c.plan.missing:,}" for c in costs], f"{sum(c.plan.missing for c in costs):,}"
        ),
        WaveColumn("planned", [_estimate(c.plan.seconds, c.plan.missing, duration) for c in costs], total),
        quantity_column("actual", [cost.seconds for cost in costs], duration),
    ]
    quantities: list[tuple[str, list[float | None], Callable[[float], str]]] = [
        ("tokens, planned", [cost.plan.tokens for cost in costs], amount),
        ("tokens", [cost.tokens for cost in costs], amount),
        ("GPU-hours, planned", [cost.plan.gpu_hours for cost in costs], "{:,.1f}".format),
        ("GPU-hours", [cost.gpu_hours for cost in costs], "{:,.1f}".format),
    ]
    return columns + [quantity_column(*quantity) for quantity in quantities if any(quantity[1])]


def quantity_column(name: str, values: Sequence[float | None], to_text: Callable[[float], str]) -> WaveColumn:
    """A column of quantities and their sum; a dash for a wave without a value."""
    known = [value for value in values if value]
    cells = [to_text(value) if value else "–" for value in values]
    return WaveColumn(name, cells, to_text(sum(known)) if known else "–")


def _estimate(value: float | None, missing: int, to_text: Callable[[float], str]) -> str:
    """An estimated quantity as text; a dash if nothing has to be made."""
    if not missing:
        return "–"
    return "unknown" if value is None else to_text(value)


def _wave_table(title: str, waves: Sequence[str], columns: Sequence[WaveColumn]) -> Table:
    """A table with one row per wave and a row of totals."""
    table = new_table(title)
    table.add_column("wave")
    for column in columns:
        table.add_column(column.name.replace(", ", ",\n"), justify="right", no_wrap=True)
    for wave, *cells in zip(waves, *(column.cells for column in columns), strict=True):
        table.add_row(wave, *cells)
    table.add_section()
    table.add_row("all", *(column.total for column in columns))
    return table


def amount(count: float) -> str:
    """A count with at most one decimal and a unit: "950", "12.3k", "4.5M", "7.8B"."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:,.1f}{letter}"
    return f"{count:.0f}"


def dollars(count: float) -> str:
    """An amount of money; with cents below $100."""
    return f"${count:,.0f}" if count >= 100 else f"${count:.2f}"
