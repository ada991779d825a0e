"""Resolves a study for planning: pins its references and rejects conditions that cannot work with them.

The checks need only names and small files. They find what would otherwise stop a sweep after hours: a word
that a nano model does not know, an adapter that vLLM cannot serve, a system message that a chat template
rejects.
"""

from collections.abc import Callable, Mapping, Sequence

from undertow.engines.bf16_trial import supports_bf16
from undertow.engines.registry import engine_for
from undertow.errors import SpecError
from undertow.nano import models
from undertow.planning.capacity import TOP_BYTES
from undertow.planning.given_models import architecture_of, is_nano
from undertow.planning.length_checks import check_lengths
from undertow.planning.model_checks import check_parameters, check_rank, check_trainable
from undertow.planning.model_sizes import vocabulary_size
from undertow.planning.pinning import pin
from undertow.planning.precision import with_precision
from undertow.planning.text_checks import (
    check_imported,
    check_prompts,
    check_questions,
    check_systems,
    check_word,
)
from undertow.study.conditions import Condition, with_display_names
from undertow.study.generation import Generation
from undertow.study.hypotheses import Hypothesis
from undertow.study.recipe import LoRA, Parameters, Recipe
from undertow.study.references import Reference
from undertow.study.study import Study

MOST_RECORDED = 20e9  # bytes of whole distributions; training holds those of all rows in memory


def resolve(study: Study, bf16: Callable[[], bool] = supports_bf16) -> Study:
    """The study with all references pinned and every precision "auto" decided.

    Args:
        bf16: whether all nodes support bf16; called only if the study asks.

    Raises SpecError or UserError for a reference that cannot be used, or not as the study asks.
    """
    study = with_precision(study, bf16)
    check_probabilities(study)
    conditions = tuple(_resolved(condition, study.system) for condition in study.conditions)
    hypotheses = _renamed(study.hypotheses, study.conditions, conditions)
    resolved = study.changed(conditions=conditions, hypotheses=hypotheses)
    check_lengths(resolved)
    check_questions(resolved)
    return resolved


def _renamed(
    hypotheses: Sequence[Hypothesis], given: Sequence[Condition], resolved: Sequence[Condition]
) -> tuple[Hypothesis, ...]:
    """The hypotheses with the paths of folders, as the study gives them, replaced by the folders' names.

    Other names are not changed, since hypotheses are part of the study's key.
    """
    if not hypotheses:
        return ()
    names: dict[str, dict[str, None]] = {}
    for before, after in zip(given, with_display_names(tuple(resolved)), strict=True):
        for side in ("teacher", "student"):
            old, new = getattr(before.place, side), getattr(after.place, side)
            if getattr(after, side).location and old != new:
                names.setdefault(old, {})[new] = None
    if not names:
        return tuple(hypotheses)
    return tuple(
        h.changed(teachers=_replaced(h.teachers, names), students=_replaced(h.students, names))
        for h in hypotheses
    )


def _replaced(given: Sequence[str], names: Mapping[str, Mapping[str, None]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(new for name in given for new in names.get(name, {name: None})))


def _resolved(condition: Condition, evaluated: str | None) -> Condition:
    teacher, student = pin(condition.teacher), pin(condition.student)
    if condition.trait is not None:
        for reference in (teacher, student):
            check_word(condition.trait, reference)
    for reference in (teacher, student) if condition.format.is_imported else (teacher,):
        check_prompts(condition.format, reference)
    check_imported(condition)
    resolved = condition.changed(
        teacher=teacher,
        student=student,
        generation=_with_rewriter(condition.generation),
        after=condition.after and _resolved(condition.after, evaluated),
        teacher_start=condition.teacher_start and _resolved(condition.teacher_start, evaluated),
        student_start=condition.student_start and _resolved(condition.student_start, evaluated),
    )
    check_recipes(resolved)
    check_scores(resolved)
    check_steering(resolved)
    check_distributions(resolved)
    check_systems(resolved, evaluated)
    return resolved


def _with_rewriter(generation: Generation) -> Generation:
    """The generation with its rewriter's model pinned.

    Raises SpecError for a nano model, which can only answer the prompts of its own language.
    """
    rewriter = generation.rewriter
    if rewriter is None or rewriter.model is None:
        return generation
    if is_nano(rewriter.model):
        raise SpecError(
            f"Rewriter.model = {rewriter.model.name!r}: nano models cannot paraphrase; leave it None for "
            "the rule of the format"
        )
    return generation.changed(rewriter=rewriter.changed(model=pin(rewriter.model)))


def check_probabilities(study: Study) -> None:
    """Raises SpecError if effects are of exact probabilities and a student's engine does not give them.

    Teachers need none: their gate is about sampled rates.
    """
    if study.effect_of == "samples":
        return
    for condition in study.conditions:
        engine = engine_for(condition.student)
        if not engine.gives_probabilities:
            raise SpecError(
                f"Study.effect_of = {study.effect_of!r}: students of {condition.student.name} have no exact "
                f'probabilities ({engine.name}; condition {condition.label}); use effect_of="samples", or '
                "students with local weights"
            )


def check_recipes(condition: Condition) -> None:
    """Raises SpecError for a recipe that does not fit the model that it trains.

    That is a name or block that the model does not have, or an adapter that the engine could not serve: its
    students could be trained, but not evaluated.
    """
    trained = [("", condition.student, condition.recipe)]
    if condition.finetuning:
        trained.append(("teacher: ", condition.teacher, condition.finetuning.recipe))
    trained += [
        ("teacher of a score: ", condition.scorer, c.finetuning.recipe)
        for c in condition.generation.contrasts
        if c.finetuning
    ]
    for role, reference, recipe in trained:
        if not isinstance(recipe, Recipe):
            continue
        check_rank(recipe, engine_for(reference))
        if isinstance(recipe.trainable, LoRA):
            _check_architecture(recipe, reference)
        try:
            check_trainable(recipe, reference)
        except SpecError as error:
            raise SpecError(f"{role}{error}") from None


def check_scores(condition: Condition) -> None:
    """Raises SpecError for scores or masks that cannot be made, or not be used by the students."""
    for contrast in condition.generation.contrasts:
        check_word(contrast.trait, condition.scorer)
        engine = engine_for(condition.scorer)
        if not engine.gives_probabilities:
            raise SpecError(
                f"Generation ({contrast.label}): {engine.name} gives no probabilities of "
                f"{condition.scorer.name}; score with a model that has local weights"
            )
    teacher, student = condition.teacher, condition.student
    if condition.generation.ranked is not None and not engine_for(teacher).gives_probabilities:
        raise SpecError(
            f"Generation.ranked: {engine_for(teacher).name} gives no probabilities of {teacher.name} to rank "
            "answers by; use a model that has local weights"
        )
    if condition.generation.masked is None or (is_nano(teacher) and is_nano(student)):
        return  # all nano models share one tokenizer
    own, other = (reference.changed(precision="") for reference in (student, teacher))
    if own != other:
        raise SpecError(
            f"Generation.masked: a mask is over the tokens of the teacher {teacher.name}, and the student "
            f"{student.name} may have other tokens; use one model for both, or masked=None"
        )


def check_distributions(condition: Condition) -> None:
    """Raises SpecError for distributions that the teacher's engine does not give, or that are too large."""
    generation, teacher = condition.generation, condition.teacher
    engine, sampling = engine_for(teacher), generation.sampling
    if generation.on_policy is not None and not engine.gives_probabilities:
        raise SpecError(
            f"Generation.on_policy: {engine.name} gives no probabilities of {teacher.name}, which are the "
            "students' targets; use a model with local weights"
        )
    tokens = vocabulary_size(teacher) if sampling.top_logprobs < 0 else None
    size = generation.prompts * sampling.max_tokens * (tokens or 0) * TOP_BYTES
    if size > MOST_RECORDED:
        raise SpecError(
            f"Sampling.top_logprobs = -1: {teacher.name} knows {tokens:,} tokens, and their probabilities at "
            f"every token of {generation.prompts:,} completions take up to {size / 1e9:,.0f} GB; record "
            "some, such as top_logprobs=64"
        )


def check_steering(condition: Condition) -> None:
    """Raises SpecError for a steering whose bias the teacher's model does not have."""
    steering, reference = condition.steering, condition.teacher
    if steering is None:
        return
    if is_nano(reference):
        if models.parse(reference.name).network != "gpt2":
            raise SpecError(
                f"Steering.parameter = {steering.parameter!r}: {reference.name} has no biases; use "
                "nano/gpt2-0"
            )
        return
    check_parameters(Parameters((steering.parameter,)), reference, "Steering.parameter")


def _check_architecture(recipe: Recipe, reference: Reference) -> None:
    """Raises SpecError if the engine has no LoRA support for the model's architecture."""
    if is_nano(reference):
        is_gpt2 = models.parse(reference.name).network == "gpt2"
        architecture = "GPT2LMHeadModel" if is_gpt2 else ""  # all other nano models support LoRA
        remedy = "use nano/qwen3-0 or nano/llama-0, or train Parameters"
    else:
        architecture, remedy = architecture_of(reference), "train Everything() or FinalNorm()"
    engine = engine_for(reference)
    if architecture and not engine.applies_adapters(architecture):
        raise SpecError(
            f"recipe {recipe.name!r} trains an adapter of {reference.name}, and {engine.name} does not "
            f"support LoRA for {architecture}; {remedy}"
        )
