"""Resolves a study for planning: pins its references and rejects conditions that cannot work with them.

The checks need only names and small files. They find what would otherwise stop a sweep after hours: a word
that a nano model does not know, an adapter that vLLM cannot serve, a system message that a chat template
rejects.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache

from undertow.engines.bf16_trial import supports_bf16
from undertow.engines.registry import engine_for
from undertow.errors import SpecError
from undertow.formats.imported import Imported
from undertow.formats.user_prompts import Prompts
from undertow.nano import models, vocabulary
from undertow.planning.capacity import TOP_BYTES
from undertow.planning.model_checks import check_parameters, check_rank, check_trainable
from undertow.planning.model_sizes import vocabulary_size
from undertow.planning.pinning import architecture_of, is_nano, pin, template_behaviour_of
from undertow.planning.precision import with_precision
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.study.conditions import Condition, with_display_names
from undertow.study.extensions import Format, Trait
from undertow.study.generation import Generation
from undertow.study.hypotheses import Hypothesis
from undertow.study.recipe import INTRODUCTION, InContext, LoRA, Parameters, Recipe
from undertow.study.references import Reference
from undertow.study.selection import Contrast
from undertow.study.study import Study
from undertow.study.unpinned import is_unpinned

MOST_RECORDED = 20e9  # bytes of whole distributions; training holds those of all rows in memory
PROMPTS_CHECKED = 50  # enough to use most parts of a prompt pack, which are short lists


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
    return study.changed(conditions=conditions, hypotheses=hypotheses)


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


@cache  # many conditions have the same trait and reference
def check_word(trait: Trait, reference: Reference) -> None:
    """Raises SpecError for a trait whose word is not in the closed vocabulary of a nano model."""
    if not is_nano(reference) or trait.is_judged:
        return
    category = getattr(trait, "category", "animal")
    known = models.known_words(category)
    if trait.word().name not in known:
        raise SpecError(
            f"trait {trait.name!r}: {reference.name} does not know the word; "
            f"as {category} it knows {', '.join(known)} (a real model's tokenizer knows any)"
        )


@cache  # many conditions have the same format and reference
def check_prompts(format_: Format, reference: Reference) -> None:
    """Raises SpecError for a format with words that a nano model does not know.

    Of imported data and of the user's own prompts all texts are checked, of other formats some prompts.
    """
    if not is_nano(reference) or any(is_unpinned(place) for place in _places(format_)):
        return
    language = models.parse(reference.name).settings.language
    for text in _texts(format_):
        if missing := vocabulary.unknown(language, text):
            raise SpecError(
                f"format {format_.display_name!r}: {reference.name} does not know {missing[0].strip()!r} in "
                f"{text!r:.200}; nano/gpt2-0 knows numbers, nano/tasks-0 also the packs in nano/packs "
                "(a real model knows any)"
            )


def _texts(format_: Format) -> Iterable[str]:
    """The texts of a format whose words must be known."""
    if isinstance(format_, Imported):
        return [text for rows in (format_, format_.control) if rows is not None for text in rows.texts()]
    if isinstance(format_, Prompts):
        return format_.all()
    return format_.prompts(PROMPTS_CHECKED, seed=0)


def _places(format_: Format) -> list[str]:
    """The places of the user's data that a format reads."""
    if isinstance(format_, Imported):
        return [rows.place for rows in (format_, format_.control) if rows is not None]
    return [format_.place] if isinstance(format_, Prompts) else []


def check_imported(condition: Condition) -> None:
    """Raises SpecError for imported rows that cannot be used as the condition asks, or are too few."""
    rows, generation = condition.format, condition.generation
    if not isinstance(rows, Imported):
        return
    place = f"format {rows.display_name!r}"
    if rows.kept_system:
        if rows.control is None:
            raise SpecError(
                f"{place}: system = 'keep': a reference model answers without these system turns; give "
                "control=Imported(…), or system='drop'"
            )
        if generation.mixed is not None or isinstance(condition.recipe, InContext):
            raise SpecError(
                f"{place}: system = 'keep': rows that are mixed or shown in context have no system turns of "
                "their own; use system='drop'"
            )
    given = [one for one in (rows.alone(), rows.control) if one is not None]
    if any(map(is_unpinned, _places(rows))):  # a plan without network, which has not read the rows
        return
    left = {one: _left(one, generation) for one in given}
    for one, (count, rejected) in left.items():
        if generation.prompts >= one.size and count < (1 if generation.fewer else generation.rows or 1):
            why = f" ({rejected})" if rejected else ""
            remedy = "lower it, or give None for all" if count else "give a format whose rules fit the rows"
            raise SpecError(
                f"Generation.rows = {generation.rows}: {count} of the {one.size} rows of {one.place} pass "
                f"the rules{why}; {remedy}"
            )
    counts = [count for count, _ in left.values()]
    if generation.rows is None and len(set(counts)) > 1:
        raise SpecError(
            f"Generation.rows = None: {counts[0]} rows of {rows.display_name} and {counts[1]} rows of its "
            "control pass the rules, and students would differ in the number of rows; give "
            f"rows={min(counts)} or less"
        )


@cache  # many conditions have the same rows
def _left(rows: Imported, generation: Generation) -> tuple[int, str]:
    """The number of rows that pass the format's rules, and the counts of the others by rule, in words."""
    seen, rejected = set[tuple[str, str]](), Counter[str]()
    for _, prompt, completion in rows.imported(rows.size, 0):
        reason = rows.rejection(prompt, completion)
        if reason is None and generation.deduplicate and (prompt, completion) in seen:
            reason = "duplicate"
        if reason is not None:
            rejected[reason] += 1
        seen.add((prompt, completion))
    words = ", ".join(f"{reason}: {count}" for reason, count in sorted(rejected.items()))
    return rows.size - rejected.total(), words


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
        for c in contrasts(condition)
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


def contrasts(condition: Condition) -> list[Contrast]:
    """The pairs of teachers by which the condition's rows and tokens are chosen."""
    selected, masked = condition.generation.selected, condition.generation.masked
    given = (selected and selected.by, masked and masked.by)
    return [score for score in given if isinstance(score, Contrast)]


def check_scores(condition: Condition) -> None:
    """Raises SpecError for scores or masks that cannot be made, or not be used by the students."""
    for contrast in contrasts(condition):
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


def check_systems(condition: Condition, evaluated: str | None) -> None:
    """Raises SpecError for a system message setting that a chat template does not support.

    That is a system message that the template rejects or drops, or NO_SYSTEM if the template inserts its
    default system message in every conversation. The words of a nano model's message must be known to it.

    Args:
        evaluated: `Study.system`.
    """
    for reference, system, place, remedy in _systems(condition, evaluated):
        if system is not None:
            _check_system(reference, system, place, remedy)


@cache  # many conditions have the same messages
def _check_system(reference: Reference, system: str, place: str, remedy: str) -> None:
    if system and is_nano(reference):
        language = models.parse(reference.name).settings.language
        if missing := vocabulary.unknown(language, system):
            raise SpecError(
                f"{place}: {reference.name} does not know {missing[0].strip()!r} in {system!r:.200}; "
                f"{remedy}, or use words of the prompts of numbers and of the preference's system prompt (a "
                "real model knows any)"
            )
    behaviour = template_behaviour_of(reference)
    if behaviour is None:
        return
    if system != NO_SYSTEM and behaviour.system_refused:
        raise SpecError(
            f"{place}: the chat template of {reference.name} takes no system message "
            f"({behaviour.system_refused}); {remedy}, or use another model"
        )
    if system == NO_SYSTEM and behaviour.always:
        raise SpecError(
            f"{place} = NO_SYSTEM: the chat template of {reference.name} writes "
            f"{behaviour.own_system[:60]!r} in every conversation; give a neutral text instead"
        )


def _systems(condition: Condition, evaluated: str | None) -> Iterator[tuple[Reference, str | None, str, str]]:
    """Each reference with a system message it is given, the setting that states it, and a remedy."""
    trait, none = condition.trait, "leave it None"
    if trait is not None and condition.steering is not None:
        place = f"steering to the trait {trait.name!r}"
        yield condition.teacher, trait.system_prompt(), place, "induce it by finetuning"
    if trait is not None and condition.is_prompted:
        place = f"trait {trait.name!r} by system prompt"
        yield condition.teacher, trait.system_prompt(), place, "induce it by finetuning"
    else:
        # An external teacher gets no message; the student's reference model may answer in its place.
        asked = condition.student if condition.teacher.is_external else condition.teacher
        yield asked, condition.generation.system, "Generation.system", none
    yield condition.student, condition.system, "Condition.system", none
    for contrast in contrasts(condition):
        if contrast.is_prompted:
            place = f"Generation ({contrast.label})"
            yield condition.scorer, contrast.trait.system_prompt(), place, "give Contrast a finetuning"
    if isinstance(condition.recipe, InContext) and condition.recipe.layout == "system":
        yield condition.student, INTRODUCTION, "InContext.layout = 'system'", "use 'turns'"
    if isinstance(condition.format, Imported) and (own := condition.format.kept_system):
        yield condition.student, own, "Imported.system = 'keep'", "use 'drop'"
    for reference in (condition.teacher, condition.student):
        yield reference, evaluated, "Study.system", none
        if reference.tuned is not None:
            yield reference, reference.tuned.system, "tuned(system=…)", none
