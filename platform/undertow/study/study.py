"""A study: a grid of conditions, their seeds, and how the students are measured and judged.

A study file has a Python function that returns one frozen `Study`. To make a variant of a study, use
`dataclasses.replace`.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from undertow.errors import SpecError
from undertow.study.completions import Sampling
from undertow.study.conditions import Condition, with_display_names
from undertow.study.extensions import Trait, Word
from undertow.study.fields import Spec, derived, execution_only, later, unique
from undertow.study.hypotheses import Hypothesis
from undertow.study.measurements import MARGINS, EffectOf, EffectScale, Evaluation, Measurement, Panel
from undertow.study.recipe import check_student
from undertow.study.references import Reference

Level = Literal["teacher", "data", "student"]
LARGEST_LOG_ODDS_MARGIN = 10.0  # a larger one would include nearly every effect that can be measured


@dataclass(frozen=True, kw_only=True)
class Measure(Spec):
    """An additional way to measure the traits of a study (see `Trait.other_questions`).

    Attributes:
        samples: the number of answers per question.
        exact: whether exact probabilities are measured in addition; they are meaningless for stories.
    """

    name: str
    samples: int = 100
    sampling: Sampling = Sampling(max_tokens=8)
    exact: bool = True

    def validate(self) -> None:
        self.require(bool(self.name.strip()), "name", "the name of a measure that the traits have")
        self.require(self.samples > 0, "samples", "at least one answer per question")

    def check(self, traits: Iterable[Trait]) -> None:
        """Raises SpecError if a trait cannot be measured in this way."""
        for trait in traits:
            trait.other_questions(self.name)

    def measurements(self, study: "Study", reference: Reference) -> tuple[Measurement, ...]:
        """The measurements of a reference model; the plan asks the same of its students.

        A subclass in a study file may return a kind of measurement of its own (`planning.artifact_kinds`).
        """
        return tuple(
            Evaluation(
                subject=reference,
                questions=questions,
                words=words,
                samples=self.samples,
                sampling=self.sampling,
                exact=self.exact and not reference.is_api,
                options=study.options(self.name, questions),
            )
            for questions, words in study.other_questions(self).items()
        )


@dataclass(frozen=True, kw_only=True)
class Study(Spec):
    """Conditions, seeds, evaluation and decision rules, all fixed before the first student is trained.

    Attributes:
        seeds: one student is trained per condition and seed.
        redraw: the levels that each seed draws again. A level that is left out uses seed 0 for all students.
        samples: the number of answers per question.
        system: the system message of the questions: None for the chat template's default, NO_SYSTEM for no
            system text, or a text.
        gate: the minimum sampled trait rate of a teacher. Below it, its conditions stop before their data are
            generated.
        margin: an effect counts as zero ("not transmitted") if its interval lies within ± margin, in the unit
            of `effect_scale`. None for the default of the scale: 0.1 for rates, 0.4 for log-odds.
        alpha: the significance level, after adjusting over the conditions by `adjustment`.
        paired: whether each student is compared with the control student of its seed, which had the same
            prompts, initial adapter and order of rows. If False, the two groups are compared as a whole.
        distribution: the assumed distribution of a rate over seeds. "normal" computes t intervals unless a
            group of students is bimodal; "any" assumes nothing and needs many more seeds for the same power.
        hypotheses: pre-registered expectations about the traits' own questions, not about `also`.
        panel: the judges of answers, for traits that are judged.
        also: additional measures; each has its own rows in the table of effects.
        effect_of: the rates that effects, verdicts and hypotheses rest on: "samples" for the shares of
            sampled answers, "exact" for the words' exact probabilities. A measure in `also` with exact=False
            keeps its sampled rates. The gate is always about sampled rates.
        effect_scale: the unit of effects: "rate" for differences of rates, "log-odds" for differences of
            log-odds, which can show effects on traits with a low base rate (see `statistics.log_odds`).
        main: the measure that effects, verdicts and the gate are about, if it is not the traits' own
            questions: the name of one of the traits' other measures, such as "after numbers". Judged traits
            keep their own questions. A `Measure` with the name of the own questions ("favourite") in `also`
            measures these in addition.
        suffix: a text that is added to each question of the main measure, such as a request to answer in the
            form of the training data. Measures in `also` do not get it.
        exact: whether exact probabilities of the words are measured by the main measure, in addition to
            samples. They are meaningless if an answer does not begin with the word.
        question: the study's research question in words, for the report.
        notes: remarks for the plan, one line each.
    """

    name: str
    conditions: tuple[Condition, ...]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    redraw: tuple[Level, ...] = ("teacher", "data", "student")
    samples: int = 100
    sampling: Sampling = Sampling(max_tokens=8)
    system: str | None = None
    gate: float = 0.5
    margin: float | None = derived("equivalence_margin")
    alpha: float = 0.05
    adjustment: Literal["holm", "fdr_bh"] = "holm"
    paired: bool = True
    distribution: Literal["normal", "any"] = "normal"
    hypotheses: tuple[Hypothesis, ...] = ()
    question: str = execution_only("")
    panel: Panel | None = later(None)
    also: tuple[Measure, ...] = later(())
    effect_of: EffectOf = later("samples")
    effect_scale: EffectScale = later("rate")
    main: str = later("")
    suffix: str = later("")
    exact: bool = later(True)
    notes: tuple[str, ...] = execution_only(())

    def validate(self) -> None:
        object.__setattr__(self, "conditions", with_display_names(self.conditions))
        named = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", self.name) is not None
        self.require(named, "name", "at most 64 letters, digits, '_', '-' and '.' (it names a folder)")
        self.require(bool(self.conditions), "conditions", "at least one condition")
        self.require(bool(self.seeds), "seeds", "at least one seed")
        self.require(min(self.seeds) >= 0, "seeds", "whole numbers, zero or more")
        unique([str(seed) for seed in self.seeds], "Study.seeds")
        self._check_labels()
        self.require(self.samples > 0, "samples", "at least one answer per question")
        self.require(0 <= self.gate <= 1, "gate", "a number from 0 to 1")
        self._check_scale()
        self.require(0 < self.alpha < 1, "alpha", "a probability between 0 and 1, such as 0.05")
        self.require(
            len(self.seeds) == 1 or bool({"data", "student"} & set(self.redraw)),
            "redraw",
            "include 'data' or 'student', otherwise all seeds have the same control student",
        )
        self._check_conditions()
        self._check_measures()
        self.require(
            self.exact or self.effect_of == "samples",
            "exact",
            'True, since effect_of="exact" needs exact probabilities',
        )
        for trait in (trait for trait in self.traits if trait.is_judged):
            judged = f"the trait {trait.name!r}"
            self.require(self.panel is not None, "panel", f"judges for {judged} are needed")
            self.require(
                self.effect_of == "samples",
                "effect_of",
                f'{judged} is judged, and a judged answer has no exact probability; use effect_of="samples"',
            )
        for recipe in dict.fromkeys(condition.recipe for condition in self.conditions):
            check_student(recipe)
        unique([hypothesis.claim for hypothesis in self.hypotheses], "Study.hypotheses")
        for hypothesis in self.hypotheses:
            hypothesis.check(
                [(c.place, c.same_initialisation) for c in self.conditions if c.trait is not None]
            )

    def _check_labels(self) -> None:
        """Raises SpecError for conditions that tables could not distinguish."""
        names = {"system": "grid(system_name=…)", "recipe": "Recipe(name=…)"}
        first: dict[str, Condition] = {}
        for one in self.conditions:
            if (label := one.label) not in first:
                first[label] = one
                continue
            compared = [field.name for field in dataclasses.fields(one) if field.compare]
            differ = [name for name in compared if getattr(one, name) != getattr(first[label], name)]
            if not differ:
                raise SpecError(
                    f"Study.conditions: {label!r} is given twice; give each once, as with_controls() does"
                )
            raise SpecError(
                f"Study.conditions: two conditions have the label {label!r} and differ in "
                f"{', '.join(differ)}; name them: {names.get(differ[0], 'Generation(name=…)')}"
            )

    def _check_conditions(self) -> None:
        """Raises SpecError for equal conditions, and unless all of them have a control."""
        conditions = set(self.conditions)
        self.require(
            len(conditions) == len(self.conditions),
            "conditions",
            "two conditions differ only in display names; leave one out",
        )
        if not self.traits:
            raise SpecError("Study.conditions: all conditions are controls; at least one trait is needed")
        for condition in self.conditions:
            if condition.control() not in conditions:
                raise SpecError(
                    f"Study.conditions: {condition.label} has no control; use grid(), which adds one"
                )

    def _check_measures(self) -> None:
        """Raises SpecError for measures that a trait lacks, or whose results could not be distinguished."""
        unique([measure.name for measure in self.also], "Study.also")
        for measure in self.also:
            measure.check(self.traits)
        # Raises SpecError if a trait has no such measure.
        self._check_words({trait: self.asked(trait) for trait in self.traits})
        for measure in self.also:
            if type(measure) is Measure:  # a class of the user's own need not ask questions
                by_word = [trait for trait in self.traits if not trait.is_judged]
                self._check_words({trait: trait.other_questions(measure.name) for trait in by_word})
        own = {self.main} if self.main else {trait.measure for trait in self.traits}
        if twice := [measure.name for measure in self.also if measure.name in own]:
            raise SpecError(
                f"Study.also: {twice[0]!r} is the study's main measure already; leave it out, or name "
                "another one as Study.main"
            )

    def _check_words(self, asked: Mapping[Trait, tuple[str, ...]]) -> None:
        """Raises SpecError for a word that several sets of questions measure: results are found by words.

        Also if an answer to one set of questions could count for two words.
        """
        by_word: dict[str, Trait] = {}
        owners: dict[tuple[tuple[str, ...], str], str] = {}
        for trait, questions in asked.items():
            first = by_word.setdefault(trait.word().name, trait)
            if asked[first] != questions:
                raise SpecError(
                    f"Study.conditions: the traits {first.name!r} and {trait.name!r} have the word "
                    f"{trait.word().name!r} and different questions, so that their results cannot be "
                    "distinguished; make two studies, which share artifacts on one storage"
                )
            name = trait.word().name
            for form in () if trait.is_judged else trait.word().forms:
                if (owner := owners.setdefault((questions, form.casefold()), name)) != name:
                    raise SpecError(
                        f"Study.conditions: the words {owner!r} and {name!r} share the form {form!r}, so "
                        "that an answer could count for either; use other words, or make two studies"
                    )

    def _check_scale(self) -> None:
        if self.effect_scale == "rate":
            self.require(0 <= self.equivalence_margin <= 1, "margin", "a number from 0 to 1")
            return
        largest = LARGEST_LOG_ODDS_MARGIN
        default = MARGINS[self.effect_scale]
        remedy = f"a difference of log-odds from 0 to {largest:g}; the default is {default:g}"
        self.require(0 <= self.equivalence_margin <= largest, "margin", remedy)
        self.require(
            self.distribution == "normal",
            "distribution",
            "its intervals need values between 0 and 1, and log-odds have no bounds; "
            'use distribution="normal" or effect_scale="rate"',
        )

    @property
    def equivalence_margin(self) -> float:
        """The margin that was stated, else the default of the scale."""
        return MARGINS[self.effect_scale] if self.margin is None else self.margin

    @property
    def all_conditions(self) -> tuple[Condition, ...]:
        """The conditions and those whose students they need, directly or through each other."""
        return tuple(dict.fromkeys(found for c in self.conditions for found in (*c.earlier, c)))

    @property
    def references(self) -> tuple[Reference, ...]:
        """The reference models of the conditions' teachers and students, without duplicates."""
        return tuple(dict.fromkeys(reference for c in self.conditions for reference in c.models))

    @property
    def traits(self) -> tuple[Trait, ...]:
        """The traits without duplicates, in the order of the conditions."""
        return tuple(dict.fromkeys(c.trait for c in self.conditions if c.trait is not None))

    def asked(self, trait: Trait) -> tuple[str, ...]:
        """The questions of the main measure of a trait, with `suffix`.

        Raises SpecError if the trait has no such measure.
        """
        own = self.main and not trait.is_judged
        questions = trait.other_questions(self.main) if own else trait.questions()
        return tuple(f"{text} {self.suffix}" for text in questions) if self.suffix else questions

    def options(self, measure: str, questions: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """The options that questions of a measure offer by letter; empty if they ask for a word."""
        for trait in (trait for trait in self.traits if not trait.is_judged):
            asked = self.asked(trait) if measure == self.main else trait.other_questions(measure)
            if asked == questions:
                return trait.options(measure)
        return ()

    @cached_property
    def questions(self) -> dict[tuple[str, ...], tuple[Word, ...]]:
        """Maps each set of questions to the words of all traits that are measured by it."""
        return self._words({trait: self.asked(trait) for trait in self.traits if not trait.is_judged})

    @cached_property
    def probed(self) -> dict[tuple[str, ...], tuple[Word, ...]]:
        """Those of `questions` whose words' probabilities are measured during the training of students.

        As after it, they are meaningless without `exact`, and if answers are letters.
        """
        asked = self.questions.items() if self.exact else ()
        return {questions: words for questions, words in asked if not self.options(self.main, questions)}

    def other_questions(self, measure: Measure) -> dict[tuple[str, ...], tuple[Word, ...]]:
        """The same as `questions`, for another measure. Judged traits have no words and are left out."""
        return self._words({t: t.other_questions(measure.name) for t in self.traits if not t.is_judged})

    @cached_property
    def judged(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """Maps each set of questions whose answers are judged to the names of the judged outcomes."""
        groups: dict[tuple[str, ...], tuple[str, ...]] = {}
        for trait in self.traits:
            if trait.is_judged:
                asked, outcome = self.asked(trait), trait.word().name
                groups[asked] = tuple(dict.fromkeys((*groups.get(asked, ()), outcome)))
        return groups

    @staticmethod
    def _words(asked: Mapping[Trait, tuple[str, ...]]) -> dict[tuple[str, ...], tuple[Word, ...]]:
        groups: dict[tuple[str, ...], tuple[Word, ...]] = {}
        for trait, questions in asked.items():
            groups[questions] = tuple(dict.fromkeys((*groups.get(questions, ()), trait.word())))
        return groups
