"""Figures of training and data: trait probability by epoch, the filter funnel, frequencies of numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from undertow.report import figure_style, text_layout
from undertow.report.figure_style import BLUE, HATCHES, INK
from undertow.report.figures import MOST_PANELS, axis_end, by_panel, panel_title
from undertow.report.gather import LARGEST_NUMBER, DataSource, FilterFunnel, ReportData
from undertow.report.table_texts import differing, percent
from undertow.report.text_layout import wrapped
from undertow.study.names import short

MOST_SOURCES = 24
BIN = 25  # numbers per bar


def training_figure(data: ReportData) -> dict[str, bytes]:
    """The figure `training`: the trait's exact probability by epoch, one line per student; grey: controls."""
    kept = by_panel(data.primary)
    curves = {row.number: data.curves(row) for _, rows in kept for row in rows}
    if not any(students for students, _ in curves.values()):
        return {}
    traits = [row.condition.place.induced_trait for _, rows in kept for row in rows]
    lines = figure_style.lines_of(list(dict.fromkeys(traits)))
    most = axis_end(
        p for pair in curves.values() for curve in (*pair[0], *pair[1]) for p in curve.probabilities
    )
    titles = [panel_title(panel, kept) for panel, _ in kept]
    height = text_layout.figure_height(titles, 2, 115) + 0.5  # half an inch for the legend
    with figure_style.figure(height, f"training {data.record.study.key}") as drawn:
        grid = figure_style.grid(drawn, len(kept), 2, sharey=True, sharex=True)
        for axes, (_, rows), title in zip(grid, kept, titles, strict=True):
            for row in rows:
                line = lines[row.condition.place.induced_trait]
                students, controls = curves[row.number]
                for curve in controls:
                    axes.plot(curve.epochs, curve.probabilities, color="0.7", linestyle=line, linewidth=0.7)
                for curve in students:
                    axes.plot(curve.epochs, curve.probabilities, color=BLUE, linestyle=line, linewidth=1.0)
            axes.set_title(title)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_ylim(-0.03 * most, 1.03 * most)
            axes.grid(color="0.93")
        drawn.supxlabel("epoch (0: before training)", fontsize=9)
        drawn.supylabel("probability of the trait's word", fontsize=9)
        figure_style.legend(drawn, _legend(lines), "upper")
        return figure_style.save(drawn, "training")


def funnel_figure(data: ReportData) -> dict[str, bytes]:
    """The figure `funnel`: the shares of each teacher's completions that are kept and rejected, by rule."""
    funnels = list(data.funnels.items())[:MOST_SOURCES]
    if not funnels:
        return {}
    rejected = sum((funnel.rejected for _, funnel in funnels), Counter[str]())
    # Two hatches are for the kept share and for all further reasons together.
    reasons = [reason for reason, _ in rejected.most_common(len(HATCHES) - 2)]
    labels = [source_label(source, data) for source, _ in funnels]
    lines = len(funnels) * max(22.0, text_layout.tallest(labels) + 3)
    with figure_style.figure(1.1 + lines / 72, f"funnel {data.record.study.key}") as drawn:
        axes = drawn.subplots()
        for position, (_, funnel) in enumerate(funnels):
            _draw_funnel(axes, position, funnel, reasons)
        axes.set_yticks(range(len(funnels)), labels)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of completions")
        labelled = reasons if len(reasons) == len(rejected) else [*reasons, "other rules"]
        figure_style.legend(drawn, _patches(labelled), "lower", 2)
        return figure_style.save(drawn, "funnel")


def numbers_figure(data: ReportData) -> dict[str, bytes]:
    """The figure `numbers`: frequencies of numbers in the data of each teacher and of its control teacher."""
    samples = data.samples
    pairs = [
        (source, control)
        for source in samples
        if source in data.controls
        and (control := data.controls[source]) in samples
        and samples[source].numbers
        and samples[control].numbers
    ][:MOST_PANELS]
    if not pairs:
        return {}
    titles = [source_label(source, data) for source, _ in pairs]
    height = text_layout.figure_height(titles, 2, 82) + 0.6
    with figure_style.figure(height, f"numbers {data.record.study.key}") as drawn:
        grid = figure_style.grid(drawn, len(pairs), 2, sharex=True, sharey=True)
        for axes, (source, control), title in zip(grid, pairs, titles, strict=True):
            edges = range(0, LARGEST_NUMBER + BIN + 1, BIN)
            axes.stairs(_shares(samples[source].numbers), edges, fill=True, color="#9db8d2")
            axes.stairs(_shares(samples[control].numbers), edges, color=INK, linewidth=0.9)
            axes.set_title(title)
        drawn.supxlabel(f"number (bins of {BIN})", fontsize=9)
        drawn.supylabel("share of all numbers", fontsize=9)
        figure_style.legend(drawn, _histogram_legend(), "upper", 2)
        return figure_style.save(drawn, "numbers")


def source_label(source: DataSource, data: ReportData) -> str:
    """A source's name by the fields in which the study's sources differ."""
    differs = differing(list(data.sources))
    teacher = short(source.teacher) if "teacher" in differs else ""
    return wrapped(source.induced_trait, source.format if "format" in differs else "", teacher)


def _legend(lines: Mapping[str, Any]) -> list[Any]:
    from matplotlib.lines import Line2D

    return [*figure_style.line_handles(lines), Line2D([], [], color="0.7", label="control students")]


def _draw_funnel(axes: Any, position: int, funnel: FilterFunnel, reasons: Sequence[str]) -> None:
    """Draws one bar: the kept share, the share of each reason, and the share of all other reasons."""
    kept = funnel.kept / funnel.completions
    axes.barh(position, kept, color=BLUE, height=0.7)
    inside = kept > 0.15  # a narrower bar has no room for white text
    axes.text(0.01, position, percent(kept), va="center", color="white" if inside else INK, fontsize=8)
    left = kept
    parts = [(funnel.rejected[reason], i) for i, reason in enumerate(reasons)]
    rest = sum(count for reason, count in funnel.rejected.items() if reason not in reasons)
    for count, i in [*parts, (rest, len(reasons))]:
        share = count / funnel.completions
        axes.barh(position, share, left=left, height=0.7, **_look(i))
        left += share


def _look(number: int) -> dict[str, Any]:
    hatch = HATCHES[(number + 1) % len(HATCHES)]
    return {"facecolor": "white", "edgecolor": "0.35", "hatch": hatch, "linewidth": 0.5}


def _patches(reasons: Sequence[str]) -> list[Any]:
    from matplotlib.patches import Patch

    kept = Patch(color=BLUE, label="kept")
    return [kept, *(Patch(label=wrapped(reason), **_look(i)) for i, reason in enumerate(reasons))]


def _shares(counts: Counter[int]) -> list[float]:
    bins = [0] * (LARGEST_NUMBER // BIN + 1)
    for number, count in counts.items():
        bins[number // BIN] += count
    return [count / sum(bins) for count in bins]


def _histogram_legend() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Patch(color="#9db8d2", label="teacher with the trait"),
        Line2D([], [], color=INK, linewidth=0.9, label="control teacher"),
    ]
