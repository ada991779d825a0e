"""What the theory jobs show: tables for the terminal, figures as PNG and SVG.

Arms and cases are told apart by position, marker and line style, so that the figures read in black and white.
"""

import io
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from undertow.theory.check import TheoremCheck
from undertow.theory.one_step import Steps
from undertow.theory.settings import OneStep
from undertow.theory.summary import NetworkArm

INK = "#1f4e79"
STYLES = (("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."), ("v", (0, (5, 1))), ("P", (0, (1, 3))))


def arms_table(title: str, arms: Sequence[NetworkArm]) -> Table:
    """One line an arm: accuracy with its interval, and the effect of the shared initialisation."""
    table = _table(title)
    table.add_column("networks")
    for name in ("n", "accuracy", "95 % interval", "minus other init.", "95 % interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for arm in arms:
        effect = arm.against_other
        table.add_row(
            arm.name,
            str(len(arm.accuracies)),
            f"{arm.mean:.3f}",
            _interval(arm.interval, ""),
            f"{effect.effect:+.3f}" if effect else "",
            _interval((effect.ci_low, effect.ci_high), "+") if effect else "",
            f"{effect.p_value:.2g}" if effect and effect.p_value is not None else "",
        )
    return table


def findings_table(title: str, found: Sequence[TheoremCheck]) -> Table:
    """One line an arm and loss: signs, slopes and the verdict."""
    table = _table(title)
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
    for f in found:
        seen = f.draws - f.unseen
        # From another initialisation the prediction is for another student.
        slopes = ("", "") if f.arm == "other" else (f"{f.slope:.6g}", f"{abs(f.worst_slope - 1):.1e}")
        table.add_row(names[f.arm], f.loss, str(seen), str(f.aligned), str(f.lowered), *slopes, f.verdict)
    return table


def arms_figure(
    name: str, title: str, cells: Sequence[tuple[str, Sequence[NetworkArm]]], chance: float
) -> dict[str, bytes]:
    """Every network a dot for one cell; for several, each arm's mean and interval over the cells."""
    figure = _figure(8.5, 4.0 if len(cells) > 1 else 1.5 + 0.45 * len(cells[0][1]))
    axes = figure.add_subplot()
    if len(cells) == 1:
        _dots(axes, cells[0][1])
        axes.axvline(chance, color="0.4", linestyle=":", label="chance")
    else:
        _lines(axes, cells)
        axes.axhline(chance, color="0.4", linestyle=":", label="chance")
    axes.set_title(title, loc="left")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return _files(figure, name)


def steps_figure(
    name: str, title: str, settings: OneStep, cases: Sequence[Steps], found: Sequence[TheoremCheck]
) -> dict[str, bytes]:
    """Left: the trait loss's fall against ε, measured and predicted. Right: both signs, draw by draw."""
    figure = _figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    for finding, steps, (marker, _) in zip(found, cases, STYLES, strict=False):
        if finding.arm != "same":
            continue
        fall, predicted = -steps.change.median(0).values, -steps.predicted.median(0).values
        left.loglog(
            settings.epsilons,
            fall.clamp(min=0).tolist(),
            marker,
            color=INK,
            label=f"measured, {finding.loss}",
        )
        left.loglog(settings.epsilons, predicted.tolist(), color="0.35", linewidth=1)
    left.set_xlabel("ε, the teacher's step")
    left.set_ylabel("fall of the trait loss (median draw)")
    left.plot([], [], color="0.35", linewidth=1, label="first order, predicted")
    left.legend(frameon=False)
    left.grid(color="0.9")
    labels = [f"{f.arm}, {f.loss}" for f in found]
    shares = [f.lowered / max(1, f.draws - f.unseen) for f in found]
    right.barh(labels, shares, color=["0.25" if f.arm == "same" else "0.85" for f in found], edgecolor="0.25")
    right.invert_yaxis()
    right.set_xlim(0, 1)
    right.axvline(0.5, color="0.4", linestyle=":")
    right.set_xlabel("share of draws whose trait loss fell")
    figure.suptitle(title, x=0.01, ha="left")
    return _files(figure, name)


def _dots(axes: Any, arms: Sequence[NetworkArm]) -> None:
    for place, arm in enumerate(arms):
        told = place == 0
        axes.scatter(
            arm.accuracies, [place] * len(arm.accuracies), s=22, facecolors="white", edgecolors="0.35",
            label="one network" if told else None, zorder=3,
        )  # fmt: skip
        if arm.interval:
            axes.plot(
                arm.interval,
                [place + 0.28] * 2,
                color=INK,
                linewidth=2,
                label="95 % interval of the mean" if told else None,
            )
    axes.set_yticks(range(len(arms)), [arm.name for arm in arms])
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"accuracy on test images (n = {len(arms[0].accuracies)} networks a row)")
    axes.grid(axis="x", color="0.9")


def _lines(axes: Any, cells: Sequence[tuple[str, Sequence[NetworkArm]]]) -> None:
    """Students on auxiliary logits and their teachers, cell by cell; other arms are in the table."""
    shown: dict[str, list[tuple[int, NetworkArm]]] = {}
    for place, (_, arms) in enumerate(cells):
        for arm in arms:
            if arm.role == "teacher" or arm.logits == "auxiliary":
                shown.setdefault(arm.name, []).append((place, arm))
    for number, (label, points) in enumerate(shown.items()):
        marker, line = STYLES[number % len(STYLES)]
        spans = [arm.interval or (arm.mean, arm.mean) for _, arm in points]
        below = [arm.mean - span[0] for (_, arm), span in zip(points, spans, strict=True)]
        above = [span[1] - arm.mean for (_, arm), span in zip(points, spans, strict=True)]
        axes.errorbar(
            [place for place, _ in points], [arm.mean for _, arm in points], (below, above),
            marker=marker, linestyle=line, color=INK, markerfacecolor="white", capsize=3, label=label,
        )  # fmt: skip
    axes.set_xticks(range(len(cells)), [label.replace(" ", "\n") for label, _ in cells])
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("accuracy on test images")
    axes.grid(axis="y", color="0.9")


def _figure(width: float, height: float) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "undertow"  # the same figure, the same bytes
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _files(figure: Any, name: str) -> dict[str, bytes]:
    files = {}
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=144, metadata={"Date": None} if kind == "svg" else None)
        files[f"{name}.{kind}"] = buffer.getvalue()
    return files


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _interval(bounds: tuple[float | None, float | None] | None, sign: str) -> str:
    if bounds is None or bounds[0] is None or bounds[1] is None:
        return "–"
    return f"{bounds[0]:{sign}.3f} … {bounds[1]:{sign}.3f}"
