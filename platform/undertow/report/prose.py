"""The sentences of a report: verdicts, outcomes of hypotheses, and how the numbers were computed."""

from collections.abc import Mapping, Sequence

from undertow.report.preregistration import Registration
from undertow.report.table_texts import signed
from undertow.report.tables import effects_of, sampled_measures
from undertow.results.comparison import TWO_MODES
from undertow.results.effect_rows import EffectRow, HypothesisOutcome
from undertow.results.sweep_record import ConditionRecord, Record
from undertow.statistics.log_odds import SMALLEST
from undertow.statistics.verdicts import Ruling
from undertow.study.references import AFTER

RULINGS: tuple[Ruling, ...] = ("transmitted", "not transmitted", "inconclusive")
INITIALISATIONS = {True: "Same initialisation", False: "Other initialisation", None: "Unknown initialisation"}
FURTHER = "Further training"  # of conditions in which a model starts from a student
OUTCOMES = {"held": "confirmed", "failed": "not confirmed", "open": "undecided"}


def verdict_lines(record: Record, rows: Sequence[EffectRow], failures: Mapping[str, str]) -> list[str]:
    """The result in a few sentences, the most important first."""
    if not rows:
        failed = "; see the failed conditions" if failures else ""
        return [f"No condition has both a student and a control student{failed}."]
    primary = [row for row in rows if row.is_primary]
    lines = [_count("", primary)]
    groups = {
        name: [row for row in primary if _start(row.condition) == name]
        for name in (*INITIALISATIONS.values(), FURTHER)
    }
    if sum(map(bool, groups.values())) > 1:
        lines = [_count(f"{name}: ", rows_of) for name, rows_of in groups.items() if rows_of]
    for measure in record.study.measures[1:]:
        if of_measure := [row for row in rows if row.measure == measure]:
            lines.append(_count(f"Measure {measure}: ", of_measure))
    if missing := len(record.compared) - len(primary):
        lines.append(f"{_conditions(missing)} without a result; see the failures.")
    if failures:
        lines.append(f"{len(failures)} steps failed; results that depend on them are missing.")
    return lines


def _start(condition: ConditionRecord) -> str:
    """The name of the group of conditions in which the verdict of this one is counted."""
    if AFTER in condition.place.teacher or AFTER in condition.place.student:
        return FURTHER
    return INITIALISATIONS[condition.same_initialisation]


def reading_note(record: Record) -> str:
    """The definitions that a reader needs for the verdicts."""
    margin = f"± {record.study.margin:g}"
    compared = (
        "exact probabilities that students and control students answer with the trait's word"
        if record.study.effect_of == "exact"
        else "rates at which students and control students show the trait"
    )
    largest = "; +1 is the largest possible effect"
    if record.study.effect_scale == "log-odds":
        compared = f"log-odds of the {compared}"
        largest = " (of a rate p: ln(p / (1 − p)); +0.7 doubles the odds)"
        margin += " in log-odds"
    notes = dict.fromkeys(c.data_note for c in record.conditions if c.data_note)
    control = "the data of their control" if notes else "the data of the same model without it"
    return (
        f"Students are trained on the data of a teacher with a trait, control students on {control}. "
        f"An effect is the difference between the {compared}{largest}. "
        "“Transmitted”: the effect is positive and statistically significant. "
        f"“Not transmitted”: the effect lies within the margin of {margin} "
        "that the study sets in advance. “Inconclusive”: the data support neither claim; "
        "jobs/power.py --pilot, with the folder of this report, estimates how many seeds would."
        + "".join(f" {note}" for note in notes)
    )


def hypothesis_line(outcome: HypothesisOutcome, registration: Registration) -> str:
    """A hypothesis, its outcome, and a note if it is not pre-registered."""
    total = len(outcome.hypothesis.conditions)
    contrary = "; at least one condition shows the opposite" if outcome.outcome == "failed" else ""
    notes = {"pre-registered": "", "post hoc": "; post hoc", "in part": "; pre-registered in part"}
    counted = (
        f"{outcome.met} of {total} conditions {outcome.hypothesis.expects}{contrary}{notes[registration]}"
    )
    return f"{OUTCOMES[outcome.outcome].capitalize()}: {outcome.hypothesis.claim} ({counted})"


def method_notes(record: Record, rows: Sequence[EffectRow]) -> list[str]:
    """How rates, effects, intervals and verdicts are computed, and what they assume."""
    study = record.study
    found = dict.fromkeys(row.effect.method for row in rows)
    methods = [method for method in found if method not in ("", "permutation")]  # these have no interval
    unit = " in log-odds" if study.effect_scale == "log-odds" else ""
    control = "the control student of the same seed" if study.paired else "the mean of all control students"
    lines = [
        f"{_rates(record, rows)}{_log_odds(record, rows)} The effect is the mean difference between each "
        f"student and {control}. The unit of inference is the trained student, because the answers of one "
        "student are not independent.",
        f"Each seed draws independently: {', '.join(study.redraw)}. The result holds for the one "
        f"draw of everything that all seeds share.{_shared_teachers(record)}{_shared_data(study.redraw)}",
        f"p-values are adjusted over all rows of the table by {_adjustment(study.adjustment, study.alpha)}.",
        "“Not transmitted” means that two one-sided tests (adjusted) exclude effects beyond ± "
        f"{study.margin:g}{unit}; a smaller effect may still exist. “Transmitted” means an adjusted p-value "
        f"below {study.alpha:g}, a positive effect and no such exclusion. All other verdicts are "
        "“inconclusive”.",
    ]
    if "shape-free" in methods:
        reason = (
            "the study requests it"
            if study.distribution == "any"
            else "the students of some condition fall into two groups, for which a t interval is invalid"
        )
        least = 6 if study.paired else 4  # per arm, at an alpha of .05
        lines.append(
            "Intervals and tests make no assumption about the distribution of rates over seeds, because "
            f"{reason}. They remain valid if one more, unobserved student could have any rate. They need at "
            f"least {least} seeds for a verdict of “transmitted” at a level of 0.05, and more in a study of "
            "several conditions; jobs/power.py computes the number."
        )
    elif methods:
        values = "log-odds" if unit else "rates"
        remedy = 'effect_scale="rate" and distribution="any"' if unit else 'distribution="any"'
        lines.append(
            f"Intervals are {' and '.join(methods)} intervals over students. They assume that {values} are "
            "approximately normally distributed over seeds. If training has two modes (some seeds learn the "
            "trait and others do not), a few seeds that agree are weak evidence: set "
            f"{remedy} and run more seeds."
        )
    if any(TWO_MODES in row.effect.note for row in rows):
        lines.append(
            "The students of some condition fall into two groups, for which a t interval is invalid. "
            "Intervals that make no assumption about the distribution over seeds exist only for rates. "
            "Therefore no condition has an interval, a test or a verdict other than “inconclusive”. Compare "
            'the same students with effect_scale="rate".'
        )
    if any(row.bootstrap for row in rows):
        answers = "" if study.effect_of == "exact" else ", then answers"
        if sampled_measures(rows):
            answers = ", then answers if the measure has no exact probabilities"
        lines.append(
            f"The bootstrap interval resamples seeds, then questions{answers}. It is too narrow with few "
            "seeds, and verdicts do not use it."
        )
    return lines


def _rates(record: Record, rows: Sequence[EffectRow]) -> str:
    """What the rate of a student is."""
    study = record.study
    if study.effect_of == "samples":
        return (
            "The rate of a student is the share of its sampled answers that show the trait, which means that "
            "they name the trait's word or, in a study with judges, that the judges confirm it (answers that "
            f"make no sense do not count). Each question has {study.samples} sampled answers."
        )
    by_samples = sampled_measures(rows)
    return (
        "Effects are of exact probabilities: the rate of a student is the probability of an answer with the "
        "trait's word, summed over the word's surface forms and averaged over the questions. It has no "
        f"sampling noise. The share of sampled answers with the word, from {study.samples} answers per "
        "question, is shown as the sampled rate, and verdicts do not use it."
        + (
            f" Measures without exact probabilities ({', '.join(by_samples)}) use the sampled rate."
            if by_samples
            else ""
        )
    )


def _log_odds(record: Record, rows: Sequence[EffectRow]) -> str:
    """The definition of log-odds, if effects are in log-odds."""
    if record.study.effect_scale == "rate":
        return ""
    of_counts = (
        "computed from counts with ½ (times the share of answers that count) added to the answers that show "
        "the trait and to the others"
    )
    computed = f"those of sampled rates are {of_counts}"
    if record.study.effect_of == "exact":
        limit = f"probabilities within {SMALLEST:g} of 0 or 1 count as {SMALLEST:g} away from it"
        computed = f"{limit}; {computed}" if sampled_measures(rows) else limit
    return f" Effects are differences of log-odds, ln(rate / (1 − rate)); {computed}."


def _count(prefix: str, rows: Sequence[EffectRow]) -> str:
    """ "Same initialisation: of 4 conditions, 4 transmitted (effects +0.71 to +0.72)." """
    counts = {ruling: sum(row.verdict.verdict == ruling for row in rows) for ruling in RULINGS}
    parts = [f"{count} {ruling}" for ruling, count in counts.items() if count]
    low, high = min(row.effect.effect for row in rows), max(row.effect.effect for row in rows)
    of = effects_of(rows)
    spread = f"effects{of} {signed(low, 2)} to {signed(high, 2)}"
    if len(rows) == 1:
        spread = f"effect{of} {signed(low, 2)}"
    text = f"{prefix}of {_conditions(len(rows))}, {', '.join(parts)} ({spread})."
    return text[:1].upper() + text[1:]


def _conditions(count: int) -> str:
    return f"{count} condition{'s' if count != 1 else ''}"


def _shared_teachers(record: Record) -> str:
    """What is not drawn although the study redraws teachers: those of a system prompt or a vector."""
    teachers: dict[int, list[str]] = {}
    for cell in record.cells:
        if cell.teacher and cell.condition in record.compared:
            teachers.setdefault(cell.condition, []).append(cell.teacher)
    is_shared = any(len(keys) > 1 == len(set(keys)) for keys in teachers.values())
    if not is_shared or "teacher" not in record.study.redraw:
        return ""
    return " A teacher that is not finetuned has nothing to draw and is the same for all seeds."


def _shared_data(redraw: Sequence[str]) -> str:
    """What seeds that share their data set cannot show."""
    if "data" in redraw:
        return ""
    return (
        " The students of a condition share one data set: whatever distinguishes it from the control's, "
        "chance included, counts as an effect, in verdicts and in the permutation tests of matrices."
    )


def _adjustment(name: str, alpha: float) -> str:
    return {
        "holm": f"Holm's method: the probability of one or more false “transmitted” is at most {alpha:g}",
        "fdr_bh": "Benjamini and Hochberg's method: of all significant effects, also negative ones and those "
        f"within the margin, the expected share of false ones is at most {alpha:g}",
    }[name]
