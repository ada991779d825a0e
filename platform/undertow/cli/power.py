"""The logic of jobs/power.py."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console

from undertow.cli.entry import option
from undertow.errors import UserError
from undertow.report.table_texts import new_table, percent, print_table, signed
from undertow.statistics import log_odds
from undertow.statistics.distribution_free import MODE_GAP
from undertow.statistics.pilot import Pilot, read_pilot
from undertow.statistics.power import (
    Claim,
    Design,
    claim_probability,
    coverage,
    max_seeds,
    min_detectable_effect,
    min_seeds,
    seeds_by_normal_theory,
    share_with_two_modes,
    simulated_studies,
    with_effect,
    without_effect,
)
from undertow.statistics.simulation import Bimodal, Law, Normal, VerdictRule
from undertow.study.measurements import MARGINS, EffectOf, EffectScale
from undertow.sweep.progress import print_line

EFFECTS: Mapping[EffectScale, float] = {"rate": 0.3, "log-odds": 1.0}  # if none is given
SPREADS: Mapping[EffectScale, tuple[float, float]] = {  # of students and of controls, if none is given
    "rate": (0.1, 0.05),
    "log-odds": (0.5, 0.25),
}
LARGEST: Mapping[EffectScale, float] = {"rate": 1.0, "log-odds": 10.0}  # effect that is planned for
STUDENTS = "students.csv"
# A 95 % interval of a standard deviation then reaches from .7 to 1.8 times it.
ENOUGH_FREEDOM = 10
LEAST_SHARE = 0.01  # of studies to which another rule than t applies, for a sentence about them


@dataclass(frozen=True)
class PowerArguments:
    """Estimates how many students per arm a study needs, or what a given number can show."""

    effect: Annotated[float | None, option("EFFECT", "0.3; in log-odds 1")] = None
    """Effect (rate or log-odds minus the control's) that should get the verdict "transmitted"."""
    sd: Annotated[
        float | None, option("SD", "the pilot's, else 0.1; with --took-off 0.03; in log-odds 0.5")
    ] = None
    """Standard deviation of the students' rates (or log-odds) over seeds; with --took-off, within a mode."""
    control_sd: Annotated[
        float | None, option("SD", "the pilot's, else 0.05; with --took-off 0.02; in log-odds 0.25")
    ] = None
    """Standard deviation of the control students' rates (or log-odds) over seeds."""
    correlation: Annotated[float | None, option("R", "the pilot's, else 0")] = None
    """Correlation of a student's rate with that of the control student of its seed. Paired designs only."""
    conditions: Annotated[int | None, option("N", "the pilot's, else 1")] = None
    """Number of conditions with a trait in the study, times its measures. p-values are adjusted for them."""
    power: float = 0.8
    """Required probability of the right verdict."""
    alpha: float = 0.05
    """Significance level of the adjusted tests."""
    margin: Annotated[float | None, option("MARGIN", "0.1; in log-odds 0.4")] = None
    """Margin of equivalence: effects within ± this value count as no effect."""
    adjustment: Literal["holm", "fdr_bh"] = "holm"
    """Adjustment of the p-values for several conditions."""
    paired: bool = True
    """Whether a student and a control student of equal seed are compared as a pair."""
    seeds: Annotated[int | None, option("N", "not shown")] = None
    """Show what this number of students per arm can detect."""
    took_off: Annotated[float | None, option("SHARE", "rates with one mode")] = None
    """Rates with two modes: the share of the seeds that takes off. The others stay at the control rate."""
    take: float = 0.9
    """Rate of the students that took off."""
    control_rate: float = 0.05
    """Rate of the control students, and of students that did not take off."""
    pilot: Annotated[Path | None, option("FOLDER|CSV", "none")] = None
    """Folder of a finished sweep, or its students.csv, to estimate spreads and correlation from."""
    effect_of: Annotated[EffectOf | None, option("{samples,exact}", "as the pilot's study, else samples")] = (
        None
    )
    """Rates that the study's effects compare (Study.effect_of): sampled rates, or exact probabilities."""
    effect_scale: Annotated[
        EffectScale | None, option("{rate,log-odds}", "as the pilot's study, else rate")
    ] = None
    """Unit of effects, margin and standard deviations (Study.effect_scale)."""


def main(arguments: PowerArguments, console: Console) -> int:
    """Prints the table of the answers and explains them. Returns 0."""
    pilot = None
    if arguments.pilot is not None:
        pilot = read(arguments.pilot, arguments.effect_of, arguments.effect_scale)
    design = design_of(arguments, pilot)
    rules: tuple[VerdictRule, ...] = (
        ("t", "rule", "shape-free") if isinstance(design.law, Bimodal) else ("t",)
    )
    designs = [replace(design, verdict_rule=rule) for rule in rules]
    theory = seeds_by_normal_theory(design, arguments.power)
    pairing = "paired" if design.paired else "unpaired"
    kind = ", exact probabilities" if _are_exact(arguments, pilot) else ""
    if _scale(arguments, pilot) == "log-odds":
        kind += ", log-odds"
    table = new_table(f"{percent(arguments.power)} power, {_tests(design)}, {pairing}{kind}")
    table.add_column("")
    for name in (*rules, *(["normal theory"] if theory else [])):
        table.add_column(name, no_wrap=True)
    for text, *cells in rows(arguments, designs):
        table.add_row(text, *cells, *([f"{theory:.1f}"] if theory and not table.rows else []))
    print_table(table, console)
    for sentence in sentences(arguments, designs, pilot):
        print_line(sentence, console)
    return 0


def read(path: Path, effect_of: EffectOf | None = None, effect_scale: EffectScale | None = None) -> Pilot:
    """The pilot in the file `path`, or in the students.csv of the folder `path`."""
    file = path / STUDENTS if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"--pilot {path}: there is no {STUDENTS}; give the folder of a finished sweep")
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError:
        raise UserError(f"--pilot {file}: not text in UTF-8; pass the {STUDENTS} of a sweep") from None
    return read_pilot(text, f"--pilot {file}", effect_of, effect_scale)


def design_of(arguments: PowerArguments, pilot: Pilot | None) -> Design:
    """The design that the arguments and the pilot describe. Raises UserError for invalid values."""
    scale = _scale(arguments, pilot)
    _check(arguments, scale)
    bimodal = arguments.took_off is not None
    sd, control_sd = (0.03, 0.02) if bimodal else SPREADS[scale]
    defaults = Pilot(sd, control_sd, 0.0, 0, 0, ())
    estimates = pilot or defaults
    if bimodal:  # the sd of a pilot includes the distance between the modes
        estimates = replace(estimates, sd=defaults.sd)
    stated = {name: getattr(arguments, name) for name in ("sd", "control_sd", "correlation")}
    spread: dict[str, float] = {
        name: getattr(estimates, name) if value is None else value for name, value in stated.items()
    }
    if not arguments.paired:
        spread["correlation"] = 0.0
    if spread["sd"] == spread["control_sd"] == 0:
        raise UserError(
            "--sd 0, --control-sd 0: without a spread over seeds there is nothing to plan; give one above 0"
        )
    law: Law = Normal(effect=EFFECTS[scale] if arguments.effect is None else arguments.effect, **spread)
    if arguments.took_off is not None:
        rates = {"take": arguments.take, "control_rate": arguments.control_rate}
        law = Bimodal(took_off=arguments.took_off, **rates, **spread)
    return Design(
        law=law,
        conditions=_conditions(arguments, pilot),
        alpha=arguments.alpha,
        margin=MARGINS[scale] if arguments.margin is None else arguments.margin,
        paired=arguments.paired,
        method=arguments.adjustment,
        largest_effect=LARGEST[scale],
    )


def rows(arguments: PowerArguments, designs: list[Design]) -> Iterator[list[str]]:
    """The rows of the table: a question, and its answer under each verdict rule."""
    law, power, margin = designs[0].law, arguments.power, designs[0].margin
    null = [replace(design, law=without_effect(law)) for design in designs]
    transmitted: Claim = "transmitted"
    yield [
        f'seeds until +{law.effect:.2f} is "{transmitted}"',
        *(_seeds(d, transmitted, power) for d in designs),
    ]
    excluded: Claim = "not transmitted"
    yield [f'seeds until no effect is "{excluded}"', *(_seeds(d, excluded, power) for d in null)]
    if arguments.seeds is not None:
        n = arguments.seeds
        yield [f'{n} seeds: smallest effect "{transmitted}"', *(_effect(d, n, power) for d in designs)]
        yield [
            f'{n} seeds: +{law.effect:.2f} "{transmitted}"',
            *(percent(claim_probability(d, n, transmitted)) for d in designs),
        ]
        yield [
            f'{n} seeds: no effect "{excluded}"',
            *(percent(claim_probability(d, n, excluded)) for d in null),
        ]
    if isinstance(law, Bimodal):
        n = _shown_seeds(arguments, designs)
        at_margin = [replace(design, law=with_effect(law, margin)) for design in designs]
        yield [f"{n} seeds: 95 % interval contains the effect", *(percent(coverage(d, n)) for d in designs)]
        wrong = f'{n} seeds: +{margin:.2f} wrongly "{excluded}"'
        yield [wrong, *(percent(claim_probability(d, n, excluded)) for d in at_margin)]


def sentences(arguments: PowerArguments, designs: list[Design], pilot: Pilot | None) -> Iterator[str]:
    """The answer in sentences, with caveats."""
    design = designs[-1]
    if pilot is not None:
        yield (
            f"Pilot: {pilot.students} students, conditions: {pilot.conditions}; sd {pilot.sd:.3f}, "
            f"control sd {pilot.control_sd:.3f}, correlation {signed(pilot.correlation, 2)}."
        )
        if arguments.conditions is None and pilot.tests > pilot.conditions:
            yield (
                f"The pilot has several measures, so that its p-values are adjusted over {pilot.tests} rows; "
                "each counts as a condition here."
            )
        if (freedom := pilot.students - pilot.conditions) < ENOUGH_FREEDOM:
            yield (
                f"These estimates are imprecise: they rest on {freedom} degrees of freedom (students minus "
                "conditions). Plan for a larger spread, or for more seeds, than they say."
            )
    if _are_exact(arguments, pilot):
        yield (
            "Effects are of exact probabilities (Study.effect_of): a student's rate has no sampling noise. "
            "The number of samples per question does not matter, and the spread is that between seeds alone."
        )
    if _scale(arguments, pilot) == "log-odds":
        factor = math.exp(design.law.effect)
        after = [f"{p:g} becomes {p * factor / (1 - p + p * factor):.3g}" for p in (0.02, 0.1, 0.5)]
        yield (
            f"Effects are differences of log-odds (Study.effect_scale): +{design.law.effect:.2f} multiplies "
            f"the odds by {factor:.3g}, so that a rate of {', one of '.join(after)}."
        )
    seeds = min_seeds(design, "transmitted", arguments.power)
    rule = ' with distribution="any"' if design.verdict_rule == "shape-free" else ""
    others = "; the other conditions have no effect" if design.conditions > 1 else ""
    what = f"an effect of +{design.law.effect:.2f} in at least {percent(arguments.power)} of studies"
    if seeds:
        yield f"{seeds} seeds per arm{rule} detect {what} ({_tests(design)}{others})."
    else:
        most = max_seeds(design)
        yield f"Up to {most} seeds per arm{rule} do not detect {what} ({_tests(design)}{others})."
    yield from _chance_modes(design, seeds or max_seeds(design), _scale(arguments, pilot))
    if design.law.effect < design.margin:
        yield (
            f"+{design.law.effect:.2f} lies within the margin of ± {design.margin:g}; with many seeds, "
            'its verdict is "not transmitted". Give a smaller --margin, here and in the study, to detect it.'
        )
    if isinstance(design.law, Bimodal):
        n = _shown_seeds(arguments, designs)
        at_margin = replace(designs[0], law=with_effect(design.law, design.margin))
        wrong = claim_probability(at_margin, n, "not transmitted")
        yield (
            f"If seeds fall into two modes, a 95 % t interval from {n} seeds contains the effect in "
            f"{percent(coverage(designs[0], n))} of studies, and the t rule calls an effect of "
            f'+{design.margin:.2f} "not transmitted" in {percent(wrong)}; '
            'set distribution="any" in the study for a rule that remains valid.'
        )
    elif pilot is not None and pilot.two_modes and pilot.effect_scale == "log-odds":
        yield (
            f"The pilot's seeds show two modes ({pilot.two_modes[0]}): log-odds then have no valid test; "
            "plan with --effect-scale rate --took-off SHARE."
        )
    elif pilot is not None and pilot.two_modes:
        yield f"The pilot's seeds show two modes ({pilot.two_modes[0]}): also plan with --took-off SHARE."


def _chance_modes(design: Design, seeds: int, scale: EffectScale) -> Iterator[str]:
    """What the t rule leaves out: seeds with one mode that look as if they had two."""
    if not isinstance(design.law, Normal):
        return
    gap = MODE_GAP if scale == "rate" else log_odds.MODE_GAP
    share = share_with_two_modes(design, seeds, gap)
    if share < LEAST_SHARE:
        return
    of = "rates" if scale == "rate" else "log-odds"
    text = (
        f"In {percent(share)} of studies with {seeds} seeds, the {of} of some condition's students have a "
        f"gap of {gap:g} or more by chance, which counts as two modes. "
    )
    if scale == "rate":
        least = 6 if design.paired else 4
        text += (
            "All verdicts of such a study rest on intervals without an assumption about the distribution: "
            f'"transmitted" then needs at least {least} seeds, and more with several conditions. The '
            "probability above is too high by up to this share; plan more seeds."
        )
    else:
        text += "Such a study has no tests: the probability above is too high by up to this share."
    yield text


def _are_exact(arguments: PowerArguments, pilot: Pilot | None) -> bool:
    """Whether the planned effects are of exact probabilities."""
    return (pilot.effect_of if pilot else arguments.effect_of) == "exact"


def _conditions(arguments: PowerArguments, pilot: Pilot | None) -> int:
    """The planned number of conditions, each as many times as it is measured."""
    return arguments.conditions or (pilot.tests if pilot else 1)


def _scale(arguments: PowerArguments, pilot: Pilot | None) -> EffectScale:
    """The unit of the planned effects."""
    return pilot.effect_scale if pilot else arguments.effect_scale or "rate"


def _shown_seeds(arguments: PowerArguments, designs: list[Design]) -> int:
    """The number of seeds for which coverage is shown: --seeds, else the number that the t rule needs."""
    return arguments.seeds or min_seeds(designs[0], "transmitted", arguments.power) or 5


def _seeds(design: Design, claim: Claim, power: float) -> str:
    """The smallest number of seeds with the required power, and its power in parentheses."""
    seeds = min_seeds(design, claim, power)
    if seeds is None:
        return f"more than {max_seeds(design)}"
    probability = claim_probability(design, seeds, claim, studies=simulated_studies(design, seeds))
    return f"{seeds} ({percent(probability)})"


def _effect(design: Design, seeds: int, power: float) -> str:
    effect = min_detectable_effect(design, seeds, power)
    return "none" if effect is None else f"+{effect:.2f}"


def _tests(design: Design) -> str:
    plural = "s" if design.conditions > 1 else ""
    return f"{design.conditions} condition{plural}, {design.method} at {design.alpha:g}"


def _check(arguments: PowerArguments, scale: EffectScale) -> None:
    """Raises UserError, with the flag, for an invalid value."""
    a = arguments
    size = 0 if a.took_off is None else a.took_off
    most, (sd, control_sd), margin = LARGEST[scale], SPREADS[scale], MARGINS[scale]
    of = "of rates" if scale == "rate" else "of log-odds"
    above_zero = f"a difference above 0, up to {most:g}"

    def below(value: float | None) -> bool:
        return value is None or 0 <= value < most

    rules = (
        ("--effect", a.effect, a.effect is None or 0 < a.effect <= most, above_zero),
        ("--sd", a.sd, below(a.sd), f"a standard deviation {of}, such as {sd:g}"),
        ("--control-sd", a.control_sd, below(a.control_sd), f"one such as {control_sd:g}"),
        ("--correlation", a.correlation, a.correlation is None or -1 <= a.correlation <= 1, "from -1 to 1"),
        ("--conditions", a.conditions, a.conditions is None or 1 <= a.conditions <= 1000, "from 1 to 1000"),
        ("--power", a.power, 0 < a.power < 1, "a probability such as 0.8"),
        ("--alpha", a.alpha, 0 < a.alpha < 1, "a probability such as 0.05"),
        ("--margin", a.margin, below(a.margin) and a.margin != 0, f"a difference {of} such as {margin:g}"),
        ("--seeds", a.seeds, a.seeds is None or a.seeds >= 2, "2 or more; one student has no interval"),
        ("--took-off", a.took_off, 0 <= size <= 1 and a.took_off != 0, "a share above 0, up to 1"),
        ("--take", a.take, 0 < a.take <= 1 and a.take > a.control_rate, "above --control-rate, up to 1"),
        ("--control-rate", a.control_rate, 0 <= a.control_rate < 1, "a rate from 0, below 1"),
    )  # fmt: skip
    for flag, value, fits, remedy in rules:
        if not fits:
            raise UserError(f"{flag} {value}: must be {remedy}")
    if a.took_off is not None and scale == "log-odds":
        raise UserError(
            f"--took-off {a.took_off}, --effect-scale log-odds: seeds with two modes have no valid test in "
            "log-odds; plan with --effect-scale rate"
        )
    if a.effect is not None and a.took_off is not None:
        raise UserError(
            f"--effect {a.effect}, --took-off {a.took_off}: two modes have the effect "
            "took-off × (take − control-rate); leave --effect out"
        )
