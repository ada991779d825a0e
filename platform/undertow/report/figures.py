"""Figures: the effects of a study, every student a dot, as PNG and SVG.

Conditions are told apart by position and marker shape, not by colour alone, so that the figure reads in
black and white.
"""

import io
from collections.abc import Sequence
from typing import Any

from undertow.report.results import Row
from undertow.study import Study


def draw(rows: Sequence[Row], study: Study) -> dict[str, bytes]:
    """File name -> content: `effects.png` and `effects.svg`."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = study.name  # the same figure, the same bytes
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 1.4 + 0.42 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for position, row in enumerate(rows):
        _draw_row(axes, position, row, 1 - study.alpha, labelled=position == 0)
    recipes = len({row.condition.recipe.name for row in rows})
    axes.set_yticks(range(len(rows)), [_label(row, with_recipe=recipes > 1) for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"share of sampled answers that show the trait ({_counts(rows)} a row)")
    axes.set_title(f"{study.name}: students against control students", loc="left")
    axes.grid(axis="x", color="0.9")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    files = {}
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=144, metadata={"Date": None} if kind == "svg" else None)
        files[f"effects.{kind}"] = buffer.getvalue()
    return files


def _draw_row(axes: Any, position: int, row: Row, confidence: float, *, labelled: bool) -> None:
    """Control students as open circles, students as filled dots, the mean and its interval as a bar."""

    def name(text: str) -> str | None:
        return text if labelled else None

    controls, students, effect = row.controls, row.students, row.effect
    axes.scatter(
        controls,
        [position] * len(controls),
        s=26,
        facecolors="white",
        edgecolors="0.35",
        label=name("control students"),
        zorder=3,
    )
    axes.scatter(
        students, [position] * len(students), s=26, color="#1f4e79", label=name("students"), zorder=4
    )
    if effect.ci_low is not None and effect.ci_high is not None:
        low, high = (effect.control_rate + bound for bound in (effect.ci_low, effect.ci_high))
        axes.plot(
            [low, high],
            [position + 0.25] * 2,
            color="#1f4e79",
            linewidth=2,
            label=name(f"control mean + effect, {confidence:.0%} interval"),
        )


def _counts(rows: Sequence[Row]) -> str:
    counts = [row.effect.n_students for row in rows]
    few, many = min(counts), max(counts)
    return f"{many} students" if few == many else f"{few} to {many} students"


def _label(row: Row, *, with_recipe: bool) -> str:
    condition = row.condition
    trait = condition.trait.name if condition.trait else ""
    recipe = f" · {condition.recipe.name}" if with_recipe else ""
    return f"{trait}   {condition.teacher.name} → {condition.student.name}{recipe}"
