"""A study made ready to be planned: references pinned, and what cannot work with them refused by name.

Each check answers from names and small files what would otherwise end a sweep midway: a word that a nano
model does not know, an adapter that vLLM does not serve, a system message that a chat template does not take.
"""

import re
from collections.abc import Iterator
from functools import cache

from undertow.engines.architectures import WITHOUT_ADAPTERS
from undertow.errors import SpecError
from undertow.nano import models, vocabulary
from undertow.planning.pinning import architecture_of, is_made, manners_of, modules_of, pin
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.study.artifacts import Reference
from undertow.study.conditions import Condition
from undertow.study.extensions import Format, Trait
from undertow.study.recipe import ALL_LINEAR, GROUPS, LoRA, Recipe
from undertow.study.study import Study

PROMPTS_CHECKED = 50  # a pack's parts are short lists: so many prompts use most of them


def resolve(study: Study) -> Study:
    """The study with every reference pinned. Raises SpecError or UserError for one that cannot be used."""
    conditions = (_resolved(condition, study.system) for condition in study.conditions)
    return study.changed(conditions=tuple(conditions))


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


def check_word(trait: Trait, reference: Reference) -> None:
    """Nano models know a closed list of words; any other trait must be told so before it is trained for."""
    if not is_made(reference) or trait.is_judged:
        return
    category = getattr(trait, "category", "animal")
    known = models.known_words(category)
    if trait.word().name not in known:
        raise SpecError(
            f"trait {trait.name!r}: {reference.name} does not know the word; "
            f"as {category} it knows {', '.join(known)} (a real model's tokenizer knows any)"
        )


@cache  # every condition of a format and a model asks the same
def check_prompts(format_: Format, reference: Reference) -> None:
    """Nano models know their language's words; asked in others, a teacher would answer nonsense."""
    if not is_made(reference):
        return
    language = models.parse(reference.name).growth.language
    for prompt in format_.prompts(PROMPTS_CHECKED, seed=0):
        if missing := vocabulary.unknown(language, prompt):
            raise SpecError(
                f"format {format_.name!r}: {reference.name} does not know {missing[0].strip()!r} in "
                f"{prompt!r}; "
                "nano/gpt2-0 knows numbers, nano/tasks-0 also the packs in nano/packs (a real model any)"
            )


def check_adapters(condition: Condition) -> None:
    """vLLM applies no adapter to some architectures: LoRA students would be trained and never measured."""
    trained = [(condition.student, condition.recipe)]
    if condition.finetuning:
        trained.append((condition.teacher, condition.finetuning.recipe))
    for reference, recipe in trained:
        if not isinstance(recipe, Recipe) or not isinstance(recipe.trainable, LoRA):
            continue
        if is_made(reference) and models.parse(reference.name).network == "gpt2":
            raise SpecError(
                f"recipe {recipe.name!r} trains an adapter of {reference.name}, and vLLM applies none to "
                "GPT-2; use nano/qwen3-0 or nano/llama-0, or train Parameters"
            )
        if not is_made(reference) and (architecture := architecture_of(reference)) in WITHOUT_ADAPTERS:
            raise SpecError(
                f"recipe {recipe.name!r} trains an adapter of {reference.name}, and vLLM applies none to "
                f"{architecture}; train Everything() or FinalNorm()"
            )
        if not is_made(reference):
            _check_targets(recipe.name, recipe.trainable, reference)


def _check_targets(recipe: str, lora: LoRA, reference: Reference) -> None:
    """Phi-3 has one qkv_proj where others have three: known from the names of its tensors."""
    modules = modules_of(reference)
    names = [target for target in lora.targets if target not in GROUPS]  # those fit any architecture
    for target in names if modules and lora.targets != (ALL_LINEAR,) else ():
        if not any(name == target or name.endswith(f".{target}") for name in modules):
            there = {name.rpartition(".")[2] for name in modules if re.search(r"\.\d+\.", name)}
            linear = sorted(name for name in there if "norm" not in name and not name.startswith("ln"))
            raise SpecError(
                f"recipe {recipe!r}, LoRA.targets: {reference.name} has no {target!r}; there are: "
                f"{', '.join(linear)}"
            )


def check_systems(condition: Condition, evaluated: str | None) -> None:
    """Refuses a system message that a chat template refuses or drops, and none where it cannot be without.

    Args:
        evaluated: `Study.system`.
    """
    for reference, system, place, otherwise in _systems(condition, evaluated):
        manners = manners_of(reference) if system is not None else None
        if manners is None:
            continue
        if system != NO_SYSTEM and manners.system_refused:
            raise SpecError(
                f"{place}: the chat template of {reference.name} takes no system message "
                f"({manners.system_refused}); {otherwise}, or use another model"
            )
        if system == NO_SYSTEM and manners.always:
            raise SpecError(
                f"{place} = NO_SYSTEM: the chat template of {reference.name} writes "
                f"{manners.own_system[:60]!r} all the same; give a neutral text instead"
            )


def _systems(condition: Condition, evaluated: str | None) -> Iterator[tuple[Reference, str | None, str, str]]:
    """Who is given which system message, where the study says so, and what to do if that cannot be."""
    trait, none = condition.trait, "leave it None"
    if trait is not None and condition.is_prompted:
        place = f"trait {trait.name!r} by system prompt"
        yield condition.teacher, trait.system_prompt(), place, "induce it by finetuning"
    else:
        yield condition.teacher, condition.generation.system, "Generation.system", none
    yield condition.student, condition.system, "Condition.system", none
    for reference in (condition.teacher, condition.student):
        yield reference, evaluated, "Study.system", none
