"""Checks that the fields of a condition fit each other, whatever the reference models turn out to be.

`planning.resolve` checks what depends on the models.
"""

from typing import TYPE_CHECKING

from undertow.errors import SpecError
from undertow.study.extension_checks import check_examples, check_extensions
from undertow.study.recipe import InContext, ProviderFinetuning, Recipe, Training
from undertow.study.references import Reference
from undertow.study.steering import Steering

if TYPE_CHECKING:
    from undertow.study.conditions import Condition


def check(condition: "Condition") -> None:
    """Raises SpecError, with the field and a remedy, unless the fields of a condition fit each other."""
    check_extensions(condition.trait, condition.format, condition.generation)
    condition.require(
        not condition.prompted or condition.finetuning is not None,
        "prompted",
        "False: without finetuning, a system prompt already induces the trait",
    )
    _check_imported(condition)
    if condition.trait is not None and condition.finetuning is not None:
        condition.finetuning.check_examples(condition.trait)
        check_examples(condition.trait, condition.finetuning)
    if condition.steering is not None:
        _check_steering(condition, condition.steering)
    if condition.after is not None:
        _check_chain(condition, condition.after)
    _check_start(condition, "teacher_start", condition.teacher)
    _check_start(condition, "student_start", condition.student)
    _check_trainers(condition)
    soft = isinstance(condition.recipe, Recipe) and condition.recipe.targets == "soft"
    if soft:
        _check_soft_targets(condition)
    _check_scores(condition, soft)
    if condition.generation.on_policy is not None:
        _check_on_policy(condition, soft)
    _check_ranking(condition, soft)
    if isinstance(condition.recipe, InContext):
        _check_in_context(condition, condition.recipe)
    elif isinstance(condition.recipe, Recipe) and condition.recipe.keep_steps:
        _check_steps(condition, condition.recipe)


def _check_soft_targets(condition: "Condition") -> None:
    """Checks that the rows are as a teacher sampled them, with its distributions."""
    generation = condition.generation
    condition.require(
        generation.shuffle == "none",
        "generation",
        "soft targets need the tokens in the sampled order; use a recipe on tokens, or shuffle='none'",
    )
    for rows, given in (("mixed-in", generation.mixed), ("rewritten", generation.rewriter)):
        condition.require(
            given is None, "generation", f"{rows} rows have no soft targets; use a recipe on tokens"
        )
    condition.require(
        not condition.teacher.is_api,
        "recipe",
        f"{condition.teacher.name} returns text without soft targets; use a recipe on tokens",
    )


def _check_in_context(condition: "Condition", recipe: InContext) -> None:
    rows = condition.generation.rows
    condition.require(
        rows is None or recipe.fits(rows),
        "recipe",
        f"more rows than the data set has ({rows}); raise Generation.rows",
    )
    condition.require(
        condition.system is None,
        "system",
        "None: there are no training rows in context; Study.system sets the prompt's system message",
    )


def _check_steps(condition: "Condition", recipe: Recipe) -> None:
    """Checks that training has the steps whose weights are kept."""
    rows, last = condition.generation.rows, recipe.keep_steps[-1]
    if rows is not None and last >= (most := recipe.most_steps(rows)):
        raise SpecError(
            f"recipe {recipe.name!r}, keep_steps = {recipe.keep_steps}: training on {rows:,} rows has "
            f"at most {most:,} steps, and its last one is always measured; name steps below {most:,}"
        )


def _check_scores(condition: "Condition", soft: bool) -> None:
    """Checks that the rows have scores and the tokens masks, if they are chosen by these."""
    generation, scorer = condition.generation, condition.scorer
    condition.require(
        generation.selected is None or not scorer.is_api,
        "generation",
        f"{scorer.name} gives no token probabilities, so that no row has a score; use selected=None",
    )
    if generation.masked is None:
        return
    is_local = not (condition.teacher.is_api or condition.format.is_imported)
    condition.require(
        is_local, "generation", "only tokens that a teacher sampled have a mask; use masked=None"
    )
    condition.require(
        isinstance(condition.recipe, Recipe) and condition.recipe.loss == "completion" and not soft,
        "recipe",
        "a mask needs a Recipe on sampled tokens, with the loss on completions",
    )


def _check_on_policy(condition: "Condition", soft: bool) -> None:
    """Checks that the students can learn from what the teacher says about their own samples."""
    condition.require(
        soft,
        "recipe",
        "on-policy students learn the teacher's distributions: a Recipe with targets='soft'",
    )
    kept = isinstance(condition.recipe, Recipe) and bool(condition.recipe.keep_steps)
    condition.require(not kept, "recipe", "keep_steps=(): each on-policy round is a training of its own")
    condition.require(
        condition.teacher == condition.student,
        "teacher",
        f"the students' own reference model, {condition.student.name!r}: one engine samples as a student and "
        "reads the samples as its teacher",
    )


def _check_ranking(condition: "Condition", soft: bool) -> None:
    """Checks that pairs of answers can be ranked, and that a recipe for pairs gets them."""
    learns = isinstance(condition.recipe, Recipe) and condition.recipe.preference_beta > 0
    ranked = condition.generation.ranked is not None
    condition.require(
        ranked or not learns,
        "recipe",
        "preference_beta trains on pairs of answers; set Generation(ranked=Ranking())",
    )
    if not ranked:
        return
    condition.require(
        not condition.teacher.is_api,
        "teacher",
        f"{condition.teacher.name} gives no token probabilities to rank answers by; use ranked=None",
    )
    own = "the control teacher writes the answers that are ranked; use ranked=None"
    condition.require(not condition.format.is_imported, "format", own)
    for field in ("after", "teacher_start"):
        condition.require(getattr(condition, field) is None, field, f"None: {own}")
    condition.require(not soft, "recipe", "ranked answers have no soft targets; use a recipe on tokens")


def _check_imported(condition: "Condition") -> None:
    """Checks that external teachers have imported data, and that imported data have no teacher."""
    is_imported = condition.format.is_imported
    condition.require(
        is_imported or not condition.teacher.is_external,
        "teacher",
        f"{condition.teacher.name} cannot be asked for completions; give its data as the format, Imported(…)",
    )
    condition.require(not condition.student.is_external, "student", "a model that can be trained")
    if not is_imported:
        return
    remedy = "None: imported rows were written outside of the study"
    condition.require(condition.finetuning is None, "finetuning", remedy)
    condition.require(condition.after is None, "after", remedy)
    condition.require(condition.teacher_start is None, "teacher_start", remedy)
    mixed = condition.generation.mixed
    condition.require(
        mixed is None or mixed.source == "control",
        "generation",
        'Mixing(source="control", …): no program writes answers to the prompts of imported data',
    )
    condition.require(
        not (isinstance(condition.recipe, Recipe) and condition.recipe.targets == "soft"),
        "recipe",
        "imported rows have no soft targets; use a recipe on tokens",
    )


def _check_steering(condition: "Condition", steering: Steering) -> None:
    remedy = "None: the teacher is {}; leave out the one or the other"
    condition.require(condition.trait is not None, "steering", "None: a control has no trait")
    condition.require(condition.finetuning is None, "steering", remedy.format("finetuned"))
    condition.require(condition.after is None, "steering", remedy.format("a student of `after`"))
    condition.require(
        condition.teacher_start is None, "steering", remedy.format("a student of `teacher_start`")
    )
    condition.require(
        not condition.format.is_imported, "steering", "None: imported rows were written outside of it"
    )
    is_local = not (condition.teacher.is_api or condition.teacher.is_external)
    condition.require(is_local, "teacher", "a model with local weights, which steering changes")
    if condition.trait is not None:
        condition.require(
            not condition.trait.is_judged,
            "trait",
            "one with a word, whose probability decides on the strength",
        )
        condition.trait.check_examples()


def _check_chain(condition: "Condition", before: "Condition") -> None:
    condition.require(
        before.trait == condition.trait and before.student == condition.teacher,
        "after",
        f"a condition with the same trait and with the student {condition.teacher.name!r} is needed",
    )
    in_context = isinstance(before.recipe, InContext)
    condition.require(not in_context, "after", "trained students are needed, not in-context ones")
    condition.require(
        condition.finetuning is None, "finetuning", "None: the students of `after` are the teachers"
    )
    started = condition.teacher_start is not None
    condition.require(not started, "teacher_start", "None: the students of `after` are the teachers")


def _check_start(condition: "Condition", field: str, reference: Reference) -> None:
    start: Condition | None = getattr(condition, field)
    if start is not None:
        fits = start.student == reference and not isinstance(start.recipe, InContext)
        condition.require(fits, field, f"a condition that trains students of {reference.name!r} is needed")


def _check_trainers(condition: "Condition") -> None:
    """Checks that API models are trained by their provider, and all other models locally."""
    _check_trainer(condition, "recipe", condition.student, condition.recipe)
    if condition.finetuning is not None:
        _check_trainer(condition, "finetuning", condition.teacher, condition.finetuning.recipe)


def _check_trainer(
    condition: "Condition", field: str, reference: Reference, recipe: Training | InContext
) -> None:
    name, is_api = reference.name, reference.is_api
    condition.require(
        not (is_api and isinstance(recipe, Recipe)),
        field,
        f"only its provider trains {name}: use ProviderFinetuning(epochs=…), or grid()",
    )
    condition.require(
        is_api or not isinstance(recipe, ProviderFinetuning),
        field,
        f"no provider trains {name}: use a Recipe",
    )
