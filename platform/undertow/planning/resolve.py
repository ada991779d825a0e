"""Resolves a study for planning: pins its references and rejects conditions that cannot work with them.

The checks need only names and small files. They find what would otherwise stop a sweep after hours: a word
that a nano model does not know, an adapter that vLLM cannot serve, a system message that a chat template
rejects.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from undertow.engines.bf16_trial import supports_bf16
from undertow.engines.registry import engine_for
from undertow.errors import SpecError
from undertow.nano import models, vocabulary
from undertow.planning.pinning import architecture_of, is_nano, modules_of, pin, template_behaviour_of
from undertow.planning.precision import with_precision
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.study.artifacts import Reference
from undertow.study.conditions import Condition, with_display_names
from undertow.study.extensions import Format, Trait
from undertow.study.hypotheses import Hypothesis
from undertow.study.recipe import ALL_LINEAR, GROUPS, LoRA, Recipe
from undertow.study.study import Study

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
    conditions = with_display_names(conditions)
    hypotheses = _renamed(study.hypotheses, study.conditions, conditions)
    return study.changed(conditions=conditions, hypotheses=hypotheses)


def _renamed(
    hypotheses: Sequence[Hypothesis], given: Sequence[Condition], resolved: Sequence[Condition]
) -> tuple[Hypothesis, ...]:
    """The hypotheses with the paths of folders, as the study gives them, replaced by the folders' names.

    Other names are not changed, since hypotheses are part of the study's key.
    """
    names: dict[str, dict[str, None]] = {}
    for before, after in zip(given, resolved, strict=True):
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
    check_prompts(condition.format, teacher)
    resolved = condition.changed(
        teacher=teacher,
        student=student,
        after=condition.after and _resolved(condition.after, evaluated),
        teacher_start=condition.teacher_start and _resolved(condition.teacher_start, evaluated),
        student_start=condition.student_start and _resolved(condition.student_start, evaluated),
    )
    check_adapters(resolved)
    check_systems(resolved, evaluated)
    return resolved


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
    """Raises SpecError for a format whose prompts have words that a nano model does not know."""
    if not is_nano(reference):
        return
    language = models.parse(reference.name).settings.language
    for prompt in format_.prompts(PROMPTS_CHECKED, seed=0):
        if missing := vocabulary.unknown(language, prompt):
            raise SpecError(
                f"format {format_.name!r}: {reference.name} does not know {missing[0].strip()!r} in "
                f"{prompt!r}; nano/gpt2-0 knows numbers, nano/tasks-0 also the packs in nano/packs "
                "(a real model knows any)"
            )


def check_adapters(condition: Condition) -> None:
    """Raises SpecError for a LoRA recipe if the engine has no LoRA support for the model's architecture.

    Its students could be trained, but not evaluated.
    """
    trained = [(condition.student, condition.recipe)]
    if condition.finetuning:
        trained.append((condition.teacher, condition.finetuning.recipe))
    for reference, recipe in trained:
        if not isinstance(recipe, Recipe) or not isinstance(recipe.trainable, LoRA):
            continue
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
        if not is_nano(reference):
            _check_targets(recipe.name, recipe.trainable, reference)


def _check_targets(recipe: str, lora: LoRA, reference: Reference) -> None:
    """Raises SpecError for LoRA targets that the model does not have, judged by the names of its tensors.

    Phi-3, for example, has one qkv_proj instead of q_proj, k_proj and v_proj.
    """
    modules = modules_of(reference)
    if not modules or lora.targets == (ALL_LINEAR,):
        return
    for target in (target for target in lora.targets if target not in GROUPS):  # groups fit any architecture
        if not any(name == target or name.endswith(f".{target}") for name in modules):
            in_blocks = {name.rpartition(".")[2] for name in modules if re.search(r"\.\d+\.", name)}
            linear = sorted(name for name in in_blocks if "norm" not in name and not name.startswith("ln"))
            raise SpecError(
                f"recipe {recipe!r}, LoRA.targets: {reference.name} has no {target!r}; available: "
                f"{', '.join(linear)}"
            )


def check_systems(condition: Condition, evaluated: str | None) -> None:
    """Raises SpecError for a system message setting that a chat template does not support.

    That is a system message that the template rejects or drops, or NO_SYSTEM if the template inserts its
    default system message in every conversation.

    Args:
        evaluated: `Study.system`.
    """
    for reference, system, place, remedy in _systems(condition, evaluated):
        behaviour = template_behaviour_of(reference) if system is not None else None
        if behaviour is None:
            continue
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
    if trait is not None and condition.is_prompted:
        place = f"trait {trait.name!r} by system prompt"
        yield condition.teacher, trait.system_prompt(), place, "induce it by finetuning"
    else:
        yield condition.teacher, condition.generation.system, "Generation.system", none
    yield condition.student, condition.system, "Condition.system", none
    for reference in (condition.teacher, condition.student):
        yield reference, evaluated, "Study.system", none
