"""The logic of jobs/power.py."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from undertow.errors import UserError
from undertow.statistics.pilot import Pilot, read_pilot
from undertow.statistics.power import (
    Claim,
    Design,
    chance,
    coverage,
    least_effect,
    least_seeds,
    most_seeds,
    seeds_by_theory,
    studies_at,
    with_effect,
    without_effect,
)
from undertow.statistics.simulation import Bimodal, Law, Normal, VerdictRule

EFFECT = 0.3
STUDENTS = "students.csv"


@dataclass(frozen=True)
class PowerArguments:
    """Says how many students an arm make a verdict likely, or what so many can show."""

    effect: float | None = None
    """Rate minus control rate that should be called "transmitted"; 0.3 if nothing else is said."""
    sd: float | None = None
    """Standard deviation of students' rates over seeds (with --took-off: within a mode, not from a pilot)."""
    control_sd: float | None = None
    """The same for control students."""
    correlation: float | None = None
    """Of a student's rate with that of its seed's control student; counts for paired designs."""
    conditions: int = 1
    """Conditions with a trait in the study; p-values are adjusted over them."""
    power: float = 0.8
    """The chance of the right verdict that is asked for."""
    alpha: float = 0.05
    """Of the tests, after adjusting."""
    margin: float = 0.1
    """An effect within ± this counts as none."""
    adjustment: Literal["holm", "fdr_bh"] = "holm"
    """How p-values are adjusted over conditions."""
    paired: bool = True
    """Whether students and control students share what their seed draws."""
    seeds: int | None = None
    """Asks the reverse: what this many students an arm can show."""
    took_off: float | None = None
    """Two modes: the share of the seeds that takes off; the others stay at the control's rate."""
    take: float = 0.9
    """The rate of students that took off."""
    control_rate: float = 0.05
    """The rate of control students, and of students that did not take off."""
    pilot: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER|CSV")] = None
    """A sweep's folder or its students.csv: spreads and correlation come from there where not stated."""


def main(arguments: PowerArguments, console: Console) -> int:
    """Prints a table and what it means; the exit code."""
    pilot = None if arguments.pilot is None else read(arguments.pilot)
    design = designed(arguments, pilot)
    judges: tuple[VerdictRule, ...] = (
        ("t", "rule", "shape-free") if isinstance(design.law, Bimodal) else ("t",)
    )
    designs = [replace(design, judge=judge) for judge in judges]
    theory = seeds_by_theory(design, arguments.power)
    shown = Table("", *judges, *(["normal theory"] if theory else []), title_justify="left")
    shown.title = (
        f"{arguments.power:.0%} power, {_family(design)}, {'pairs' if design.paired else 'arms apart'}"
    )
    for text, *cells in rows(arguments, designs):
        shown.add_row(text, *cells, *([f"{theory:.1f}"] if theory and not shown.rows else []))
    console.print(shown)
    for sentence in sentences(arguments, designs, pilot):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    return 0


def read(path: Path) -> Pilot:
    """The pilot's spreads, from its file or from the folder it lies in."""
    file = path / STUDENTS if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"--pilot {path}: there is no {STUDENTS}; give the folder of a finished sweep")
    return read_pilot(file.read_text(encoding="utf-8"), f"--pilot {file}")


def designed(arguments: PowerArguments, pilot: Pilot | None) -> Design:
    """The design that the arguments and the pilot describe; UserError where they describe none."""
    _check(arguments)
    modes = arguments.took_off is not None
    defaults = Pilot(0.03 if modes else 0.1, 0.02 if modes else 0.05, 0.0, 0, 0, ())
    known = replace(pilot, sd=defaults.sd) if pilot and modes else pilot or defaults  # its sd spans the modes
    stated = {name: getattr(arguments, name) for name in ("sd", "control_sd", "correlation")}
    spread: dict[str, float] = {
        name: getattr(known, name) if value is None else value for name, value in stated.items()
    }
    if not arguments.paired:
        spread["correlation"] = 0.0
    if spread["sd"] == spread["control_sd"] == 0:
        raise UserError(
            "--sd 0, --control-sd 0: without spread over seeds there is nothing to plan; state one"
        )
    law: Law = Normal(effect=EFFECT if arguments.effect is None else arguments.effect, **spread)
    if arguments.took_off is not None:
        rates = {"take": arguments.take, "control_rate": arguments.control_rate}
        law = Bimodal(took_off=arguments.took_off, **rates, **spread)
    return Design(
        law=law,
        conditions=arguments.conditions,
        alpha=arguments.alpha,
        margin=arguments.margin,
        paired=arguments.paired,
        method=arguments.adjustment,
    )


def rows(arguments: PowerArguments, designs: list[Design]) -> Iterator[list[str]]:
    """What is asked, and the answer by each way to judge."""
    law, power, margin = designs[0].law, arguments.power, arguments.margin
    none = [replace(design, law=without_effect(law)) for design in designs]
    found: Claim = "transmitted"
    yield [f'seeds until +{law.effect:.2f} is "{found}"', *(_seeds(d, found, power) for d in designs)]
    excluded: Claim = "not transmitted"
    yield [f'seeds until no effect is "{excluded}"', *(_seeds(d, excluded, power) for d in none)]
    if arguments.seeds is not None:
        n = arguments.seeds
        yield [f'{n} seeds: smallest effect "{found}"', *(_effect(d, n, power) for d in designs)]
        yield [f'{n} seeds: +{law.effect:.2f} "{found}"', *(f"{chance(d, n, found):.0%}" for d in designs)]
        yield [f'{n} seeds: no effect "{excluded}"', *(f"{chance(d, n, excluded):.0%}" for d in none)]
    if isinstance(law, Bimodal):
        n = _shown_seeds(arguments, designs)
        at_margin = [replace(design, law=with_effect(law, margin)) for design in designs]
        yield [f"{n} seeds: 95 % interval holds the effect", *(f"{coverage(d, n):.0%}" for d in designs)]
        wrong = f'{n} seeds: +{margin:.2f} wrongly "{excluded}"'
        yield [wrong, *(f"{chance(d, n, excluded):.0%}" for d in at_margin)]


def sentences(arguments: PowerArguments, designs: list[Design], pilot: Pilot | None) -> Iterator[str]:
    """The answer in plain words, and what to mind."""
    design = designs[-1]
    if pilot is not None:
        yield (
            f"Pilot: {pilot.students} students, conditions: {pilot.conditions}; sd {pilot.sd:.3f}, "
            f"control sd {pilot.control_sd:.3f}, correlation {pilot.correlation:+.2f}."
        )
    seeds = least_seeds(design, "transmitted", arguments.power)
    need = f"{seeds} seeds" if seeds else f"More than {most_seeds(design)} seeds"
    how = ' judged by distribution="any"' if design.judge == "shape-free" else ""
    others = ", whose others have none" if design.conditions > 1 else ""
    yield (
        f"{need} an arm{how} find an effect of +{design.law.effect:.2f} in {arguments.power:.0%} of studies "
        f"({_family(design)}{others})."
    )
    if design.law.effect < arguments.margin:
        yield (
            f"+{design.law.effect:.2f} lies within the margin of ± {arguments.margin:g}; with many seeds it "
            'is called "not transmitted". State a smaller --margin here and in the study to find it.'
        )
    if isinstance(design.law, Bimodal):
        n = _shown_seeds(arguments, designs)
        small = replace(designs[0], law=with_effect(design.law, arguments.margin))
        yield (
            f"Where seeds fall into two modes, a 95 % t interval from {n} seeds holds the effect in "
            f"{coverage(designs[0], n):.0%} of studies, and t calls an effect of +{arguments.margin:.2f} "
            f'"not transmitted" in {chance(small, n, "not transmitted"):.0%}; '
            'state distribution="any" in the study to be judged by what holds.'
        )
    elif pilot is not None and pilot.two_modes:
        yield f"The pilot's seeds show two modes ({pilot.two_modes[0]}): plan with --took-off SHARE as well."


def _shown_seeds(arguments: PowerArguments, designs: list[Design]) -> int:
    """The seeds at which coverage is shown: those asked about, else those that the t test asks for."""
    return arguments.seeds or least_seeds(designs[0], "transmitted", arguments.power) or 5


def _seeds(design: Design, claim: Claim, power: float) -> str:
    seeds = least_seeds(design, claim, power)
    if seeds is None:
        return f"more than {most_seeds(design)}"
    return f"{seeds} ({chance(design, seeds, claim, studies=studies_at(design, seeds)):.0%})"


def _effect(design: Design, seeds: int, power: float) -> str:
    effect = least_effect(design, seeds, power)
    return "none" if effect is None else f"+{effect:.2f}"


def _family(design: Design) -> str:
    plural = "s" if design.conditions > 1 else ""
    return f"{design.conditions} condition{plural}, {design.method} at {design.alpha:g}"


def _check(arguments: PowerArguments) -> None:
    """UserError for a value that makes no sense, naming its flag."""
    a = arguments
    size = 0 if a.took_off is None else a.took_off
    rules = (
        ("--effect", a.effect, a.effect is None or 0 < a.effect <= 1, "a difference above 0, up to 1"),
        ("--sd", a.sd, a.sd is None or 0 <= a.sd < 1, "a standard deviation of rates, such as 0.1"),
        ("--control-sd", a.control_sd, a.control_sd is None or 0 <= a.control_sd < 1, "one such as 0.05"),
        ("--correlation", a.correlation, a.correlation is None or -1 <= a.correlation <= 1, "from -1 to 1"),
        ("--conditions", a.conditions, 1 <= a.conditions <= 1000, "from 1 to 1000"),
        ("--power", a.power, 0 < a.power < 1, "a probability such as 0.8"),
        ("--alpha", a.alpha, 0 < a.alpha < 1, "a probability such as 0.05"),
        ("--margin", a.margin, 0 < a.margin < 1, "a difference of rates such as 0.1"),
        ("--seeds", a.seeds, a.seeds is None or a.seeds >= 2, "2 or more; one student has no interval"),
        ("--took-off", a.took_off, 0 <= size <= 1 and a.took_off != 0, "a share above 0, up to 1"),
        ("--take", a.take, 0 < a.take <= 1 and a.take > a.control_rate, "above --control-rate, up to 1"),
        ("--control-rate", a.control_rate, 0 <= a.control_rate < 1, "a rate from 0, below 1"),
    )  # fmt: skip
    for flag, value, fits, remedy in rules:
        if not fits:
            raise UserError(f"{flag} {value}: must be {remedy}")
    if a.effect is not None and a.took_off is not None:
        raise UserError(
            f"--effect {a.effect}, --took-off {a.took_off}: two modes have the effect "
            "took-off × (take − control-rate); leave --effect out"
        )
