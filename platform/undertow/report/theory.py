"""Tables for the terminal, figures and CSV tables of the theory jobs: the MLP experiment and Theorem 1."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from undertow.report import figure_style, text_layout
from undertow.report.figure_style import BLUE, GREY, INK, LINES
from undertow.report.table_texts import decimal, interval, new_table, p_value, signed
from undertow.report.text_layout import wrapped
from undertow.results.csv_tables import written
from undertow.theory.check import TheoremCheck
from undertow.theory.mlp import NetworkAccuracy
from undertow.theory.one_step import Steps
from undertow.theory.settings import OneStep
from undertow.theory.summary import NetworkArm

MARKERS = ("o", "s", "^", "D", "v", "P")
TITLE_CHARACTERS = int(text_layout.WIDTH / text_layout.LETTER)
NETWORK_COLUMNS = ("cell", "network", "other", "role", "logits", "distance", "accuracy")
ARM_COLUMNS = (
    "cell", "role", "logits", "distance", "networks", "accuracy", "ci_low", "ci_high", "p_chance",
    "effect", "effect_low", "effect_high", "p_effect",
)  # fmt: skip


def arms_table(title: str, arms: Sequence[NetworkArm]) -> Table:
    """One row per arm: the accuracy with its interval, and the difference from the other initialisation."""
    table = new_table(title)
    table.add_column("networks")
    for name in ("n", "accuracy", "95 % interval", "minus other init.", "95 % interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for arm in arms:
        effect = arm.against_other
        table.add_row(
            arm.name,
            str(len(arm.accuracies)),
            f"{arm.mean:.3f}",
            " … ".join(decimal(bound, 3) for bound in arm.interval) if arm.interval else "–",
            signed(effect.effect) if effect else "",
            interval(effect.ci_low, effect.ci_high) if effect else "",
            p_value(effect.p_value) if effect else "",
        )
    return table


def findings_table(title: str, checks: Sequence[TheoremCheck]) -> Table:
    """One row per arm and loss: the signs, the slopes and the verdict."""
    table = new_table(title)
    names = {
        "same": "same initialisation",
        "other": "other initialisation",
        "permuted": "same, outputs permuted",
    }
    for name in ("student", "loss"):
        table.add_column(name)
    for name in ("draws", "d·v > 0", "loss fell", "slope / predicted", "worst error"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Theorem 1")
    for check in checks:
        judged = check.draws - check.unseen
        # The theorem predicts no slope for a student from another initialisation.
        predicted = check.arm != "other"
        slopes = (f"{check.slope:.6g}", f"{abs(check.worst_slope - 1):.1e}") if predicted else ("", "")
        counts = (str(judged), str(check.aligned), str(check.lowered))
        table.add_row(names[check.arm], check.loss, *counts, *slopes, check.verdict)
    return table


def experiment_files(
    title: str,
    labels: Sequence[str],
    networks: Sequence[Sequence[NetworkAccuracy]],
    arms: Sequence[Sequence[NetworkArm]],
    chances: Sequence[float],
) -> dict[str, bytes]:
    """The files of an experiment by name: `mlp.csv` (arms), `networks.csv` and the figure `mlp`.

    Args:
        labels: the name of each point of the grid, whose networks and arms have the same index.
        chances: the accuracy of guessing at each point.
    """
    cells = list(zip(labels, arms, strict=True))
    rows = (
        [label, n.network, n.other, n.role, n.logits, n.distance, n.accuracy]
        for label, of_point in zip(labels, networks, strict=True)
        for n in of_point
    )
    return {
        "mlp.csv": written(ARM_COLUMNS, (_arm(label, arm) for label, own in cells for arm in own)).encode(),
        "networks.csv": written(NETWORK_COLUMNS, rows).encode(),
        **arms_figure(title, cells, chances),
    }


def _arm(label: str, arm: NetworkArm) -> list[object]:
    effect = arm.against_other
    return [
        label, arm.role, arm.logits, arm.distance, len(arm.accuracies), arm.mean,
        *(arm.interval or (None, None)), arm.against_chance.p_value,
        *((effect.effect, effect.ci_low, effect.ci_high, effect.p_value) if effect else (None,) * 4),
    ]  # fmt: skip


def arms_figure(
    title: str, cells: Sequence[tuple[str, Sequence[NetworkArm]]], chances: Sequence[float]
) -> dict[str, bytes]:
    """The accuracies of an experiment: one dot per network for one cell; mean and interval for several cells.

    Args:
        cells: the label and the arms of each point of the grid.
        chances: the accuracy of guessing at each point.
    """
    if len(cells) == 1:
        labels = [wrapped(arm.name) for arm in cells[0][1]]
        height = 1.5 + sum(text_layout.tallest([label]) + 8 for label in labels) / 72
    else:
        labels = [label.replace(" ", "\n") for label, _ in cells]
        height = 4.0 + text_layout.widest(labels) / 72  # room for labels that are rotated
    with figure_style.figure(height, f"mlp {title}") as drawn:
        axes = drawn.subplots()
        if len(cells) == 1:
            _draw_networks(axes, cells[0][1], labels)
            axes.axvline(chances[0], color=GREY, linestyle=":", label="chance")
        else:
            _draw_cells(axes, [arms for _, arms in cells], labels)
            for number, chance in enumerate(sorted(set(chances))):
                axes.axhline(chance, color=GREY, linestyle=":", label=None if number else "chance")
        drawn.suptitle(wrapped(title, characters=TITLE_CHARACTERS), fontsize=9, x=0.01, ha="left")
        figure_style.legend(drawn, axes.get_legend_handles_labels()[0], "lower")
        return figure_style.save(drawn, "mlp")


def steps_figure(
    title: str, settings: OneStep, cases: Sequence[Steps], checks: Sequence[TheoremCheck]
) -> dict[str, bytes]:
    """Above: measured and predicted fall of the trait loss by ε. Below: the share of draws that fell."""
    with figure_style.figure(4.4 + 0.25 * len(checks), f"one_step {title}") as drawn:
        fall, shares = drawn.subplots(2, 1, height_ratios=(3, 0.6 + 0.25 * len(checks)))
        for check, steps, marker in zip(checks, cases, MARKERS, strict=False):
            if check.arm != "same":
                continue
            measured, predicted = -steps.change.median(0).values, -steps.predicted.median(0).values
            label = f"measured, {check.loss}"
            fall.loglog(settings.epsilons, measured.clamp(min=0).tolist(), marker, color=BLUE, label=label)
            fall.loglog(settings.epsilons, predicted.tolist(), color=GREY, linewidth=1)
        fall.plot([], [], color=GREY, linewidth=1, label="predicted (first order)")
        for axis in (fall.xaxis, fall.yaxis):
            axis.set_major_formatter("{x:.0e}")  # the default is mathtext, which the style turns off
            axis.set_minor_formatter("")
        fall.set_xlabel("ε, the teacher's step")
        fall.set_ylabel("fall of the trait loss\n(median over draws)")
        fall.grid(color="0.93")
        shares.barh(
            [f"{check.arm}, {check.loss}" for check in checks],
            [check.lowered / max(1, check.draws - check.unseen) for check in checks],
            color=[BLUE if check.arm == "same" else "0.85" for check in checks],
            edgecolor="0.35",
            height=0.7,
        )
        shares.invert_yaxis()
        shares.set_xlim(0, 1)
        shares.axvline(0.5, color=GREY, linestyle=":")
        shares.set_xlabel("share of draws whose trait loss fell")
        drawn.suptitle(wrapped(title, characters=TITLE_CHARACTERS), fontsize=9, x=0.01, ha="left")
        figure_style.legend(drawn, fall.get_legend_handles_labels()[0], "lower")
        return figure_style.save(drawn, "one_step")


def _draw_networks(axes: Any, arms: Sequence[NetworkArm], labels: Sequence[str]) -> None:
    """Draws one row per arm: its networks, and below them the interval of their mean."""
    for row, arm in enumerate(arms):
        is_first = row == 0  # one entry per kind in the legend
        axes.scatter(
            arm.accuracies, [row] * len(arm.accuracies), s=20, facecolors="white", edgecolors="0.35",
            linewidths=0.7, label="network" if is_first else None, zorder=3,
        )  # fmt: skip
        if arm.interval:
            label = "95 % interval of the mean" if is_first else None
            axes.plot(arm.interval, [row + 0.28] * 2, color=BLUE, linewidth=2, label=label)
    axes.set_yticks(range(len(arms)), labels)
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"accuracy on test images ({len(arms[0].accuracies)} networks per row)")
    axes.grid(axis="x", color="0.92")


def _draw_cells(axes: Any, cells: Sequence[Sequence[NetworkArm]], labels: Sequence[str]) -> None:
    """Draws means and intervals of teachers and students on auxiliary logits; the table has all arms."""
    by_arm: dict[str, list[tuple[int, NetworkArm]]] = {}
    for position, arms in enumerate(cells):
        for arm in arms:
            if arm.role == "teacher" or arm.logits == "auxiliary":
                by_arm.setdefault(arm.name, []).append((position, arm))
    for number, (name, points) in enumerate(by_arm.items()):
        bounds = [arm.interval or (arm.mean, arm.mean) for _, arm in points]
        below = [arm.mean - low for (_, arm), (low, _) in zip(points, bounds, strict=True)]
        above = [high - arm.mean for (_, arm), (_, high) in zip(points, bounds, strict=True)]
        axes.errorbar(
            [position for position, _ in points], [arm.mean for _, arm in points], (below, above),
            marker=MARKERS[number % len(MARKERS)], linestyle=LINES[number % len(LINES)], color=INK,
            markerfacecolor="white", markersize=5, linewidth=1, capsize=3, label=name,
        )  # fmt: skip
    is_narrow = text_layout.widest(labels) > (text_layout.WIDTH - 60) / len(cells)
    axes.set_xticks(range(len(cells)), labels, rotation=90 if is_narrow else 0)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("accuracy on test images")
    axes.grid(axis="y", color="0.92")
