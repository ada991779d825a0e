"""A study's result in words: what was found, what had been asked beforehand, and what the numbers assume."""

from collections.abc import Mapping, Sequence

from undertow.report.preregistration import When
from undertow.report.tables import signed
from undertow.results.effect_rows import EffectRow, HypothesisOutcome
from undertow.results.sweep_record import Record
from undertow.statistics.verdicts import Ruling

RULINGS: tuple[Ruling, ...] = ("transmitted", "not transmitted", "inconclusive")
OUTCOMES = {"held": "Held", "failed": "Failed", "open": "Open"}


def verdict_lines(record: Record, rows: Sequence[EffectRow], failures: Mapping[str, str]) -> list[str]:
    """The result in a few sentences, the most important first."""
    if not rows:
        return ["No condition has a student and a control student to compare."]
    every, rows = rows, [row for row in rows if row.is_primary]
    lines = [_count("", rows)]
    same = [row for row in rows if row.condition.same_initialisation]
    other = [row for row in rows if not row.condition.same_initialisation]
    if same and other:
        lines = [_count("Same initialisation: ", same), _count("Other initialisation: ", other)]
    for measure in record.study.measures[1:]:
        if its := [row for row in every if row.measure == measure]:
            lines.append(_count(f"By {measure}: ", its))
    missing = len(record.compared) - len(rows)
    if missing:
        lines.append(f"{_conditions(missing)} without a result: see what failed.")
    if failures:
        lines.append(f"{len(failures)} steps failed; what depends on them is left out.")
    return lines


def reading_note(record: Record) -> str:
    """What a reader must know to read the verdicts, in a few sentences."""
    margin = f"± {record.study.margin:g}"
    return (
        "Students learned from the data of a teacher with a trait, control students from those of the same "
        "model without it. An effect is how much more often students name the trait than control students "
        "do: +1 is always against never. “Transmitted” is an effect above zero that chance does not explain; "
        f"“not transmitted” one that tests hold within {margin}, which was set beforehand as what counts as "
        "none; “inconclusive” what these students cannot tell."
    )


def hypothesis_line(found: HypothesisOutcome, when: When) -> str:
    """A hypothesis, what became of it, and whether it was one beforehand."""
    asked = len(found.hypothesis.conditions)
    tail = "" if found.outcome != "failed" else "; at least one shows the opposite"
    late = {"beforehand": "", "afterwards": "; claimed afterwards", "in part": "; claimed in part afterwards"}
    counted = f"{found.met} of {asked} conditions {found.hypothesis.expects}{tail}{late[when]}"
    return f"{OUTCOMES[found.outcome]}: {found.hypothesis.claim} ({counted})"


def method_notes(record: Record, rows: Sequence[EffectRow]) -> list[str]:
    """How the numbers came about and what they assume, for a reader who knows no jargon."""
    study = record.study
    methods = list(dict.fromkeys(row.effect.method for row in rows if row.effect.method))
    arms = "the control student of its own seed" if study.paired else "the group of control students"
    lines = [
        "A student's rate is the share of its sampled answers that show the trait: that name its word or, "
        f"where judges read them, are judged to, of those that make sense. There are {study.samples} answers "
        "to each question. The effect is the mean difference between students and control students, "
        f"each student compared with {arms}. The unit is the trained student: answers of one student are not "
        "independent of each other.",
        f"Every seed draws anew: {', '.join(study.redraw)}. Of what is not drawn anew the result speaks as "
        "it is, not in general.",
        f"p-values are adjusted over all rows of the table by {_adjustment(study.adjustment, study.alpha)}.",
        f"“Not transmitted” means that effects beyond ± {study.margin:g} are excluded (two one-sided tests, "
        f"adjusted), even where a smaller one is real; “transmitted” an adjusted p below {study.alpha:g}, an "
        "effect above zero and no such exclusion; anything else is “inconclusive”.",
    ]
    if "shape-free" in methods:
        asked = study.distribution == "any"
        seen = "in some arm the students fall into two groups, which a t interval cannot carry"
        lines.append(
            "Intervals and tests assume nothing of how rates spread over seeds, because "
            f"{'the study asks for it' if asked else seen}: they hold as if one more student, unseen, might "
            "have any rate. They need 6 seeds at the least to call anything transmitted, and more in a study "
            "of several conditions; jobs/power.py says how many."
        )
    elif methods:
        lines.append(
            f"Intervals are by {' and '.join(methods)} over students; they assume that rates spread over "
            "seeds about normally. Where training can also jump (a few seeds taking off), a handful of seeds "
            'that agree proves little: state distribution="any" and run more seeds.'
        )
    if any(row.bootstrap for row in rows):
        lines.append(
            "The bootstrap interval resamples seeds, then questions, then answers. With few seeds it is too "
            "narrow and carries no verdict."
        )
    return lines


def _count(start: str, rows: Sequence[EffectRow]) -> str:
    counts = {ruling: sum(row.verdict.verdict == ruling for row in rows) for ruling in RULINGS}
    parts = [f"{count} {ruling}" for ruling, count in counts.items() if count]
    low, high = min(row.effect.effect for row in rows), max(row.effect.effect for row in rows)
    spread = f"effects {signed(low, 2)} to {signed(high, 2)}" if len(rows) > 1 else f"effect {signed(low, 2)}"
    text = f"{start}of {_conditions(len(rows))}, {', '.join(parts)} ({spread})."
    return text[:1].upper() + text[1:]


def _conditions(count: int) -> str:
    return f"{count} condition{'s' if count != 1 else ''}"


def _adjustment(name: str, alpha: float) -> str:
    return {
        "holm": f"Holm's method: the chance of even one false “transmitted” in all is at most {alpha:g}",
        "fdr_bh": f"Benjamini and Hochberg's method: the expected share of false ones is at most {alpha:g}",
    }[name]
