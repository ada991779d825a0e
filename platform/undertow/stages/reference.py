"""Reference models: pinned before anything is planned, and brought to a local folder when needed.

A study names its references as people do (a hub id, a folder, "nano/gpt2-0"). `resolve` replaces each
by one that says exactly which weights and which chat template are meant: a hub branch becomes a commit,
a folder the hash of its content, a nano model the hash of all that its training follows from.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from undertow import sandbox
from undertow.conditions import Condition
from undertow.engines.support import WITHOUT_ADAPTERS
from undertow.errors import SpecError, UserError
from undertow.identity import digest
from undertow.kinds import Format, Trait
from undertow.nano import vocabulary, world
from undertow.recipe import LoRA, Recipe
from undertow.spec import Reference
from undertow.stages import model_files
from undertow.stages.model_files import MODEL_FILES, ModelFiles
from undertow.store import Store
from undertow.study import Study
from undertow.templates import NO_SYSTEM, Manners, TemplateError

SMALL_FILES = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
)
BLOCK = 2**24  # bytes read at a time from weights that may not fit into memory
PROMPTS_CHECKED = 50  # a pack's parts are short lists: so many prompts use most of them


def resolve(study: Study) -> Study:
    """The study with every reference pinned. Raises SpecError or UserError for one that cannot be used."""
    conditions = (_resolved(condition, study.system) for condition in study.conditions)
    return dataclasses.replace(study, conditions=tuple(conditions))


def _resolved(condition: Condition, evaluated: str | None) -> Condition:
    teacher, student = pin(condition.teacher), pin(condition.student)
    if condition.trait is not None:
        for reference in (teacher, student):
            check_word(condition.trait, reference)
    check_prompts(condition.format, teacher)
    before = _resolved(condition.after, evaluated) if condition.after else None
    resolved = dataclasses.replace(condition, teacher=teacher, student=student, after=before)
    check_adapters(resolved)
    check_systems(resolved, evaluated)
    return resolved


def is_made(reference: Reference) -> bool:
    """Whether the weights are an artifact that this program makes (nano), not one that it is given."""
    return world.is_nano(reference.name)


def pin(reference: Reference) -> Reference:
    """The reference with its revision and chat template filled in; one that has them is left as it is."""
    if reference.revision and reference.chat_template:
        return reference
    return _pinned(reference.name, reference.revision, reference.location)


@cache
def _pinned(name: str, revision: str, location: str) -> Reference:
    reference = Reference(name, revision, location=location)
    if is_made(reference):
        model = world.parse(reference.name)
        return dataclasses.replace(reference, revision=world.revision(model)[:16], chat_template="nano")
    if _is_folder(reference.name):
        return _pin_folder(reference)
    return _pin_hub(reference)


def check_word(trait: Trait, reference: Reference) -> None:
    """Nano models know a closed list of words; any other trait must be told so before it is trained for."""
    if not is_made(reference) or trait.is_judged:
        return
    category = getattr(trait, "category", "animal")
    known = world.known_words(category)
    if trait.word().name not in known:
        raise SpecError(
            f"trait {trait.name!r}: {reference.name} does not know the word; "
            f"as {category} it knows {', '.join(known)} (a real model's tokenizer knows any)"
        )


def check_prompts(format_: Format, reference: Reference) -> None:
    """Nano models know their language's words; asked in others, a teacher would answer nonsense."""
    if not is_made(reference):
        return
    language = world.parse(reference.name).growth.language
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
        if is_made(reference) and world.parse(reference.name).network == "gpt2":
            raise SpecError(
                f"recipe {recipe.name!r} trains an adapter of {reference.name}, and vLLM applies none to "
                "GPT-2; use nano/qwen3-0 or nano/llama-0, or train Parameters"
            )
        if not is_made(reference) and (architecture := _architecture(reference)) in WITHOUT_ADAPTERS:
            raise SpecError(
                f"recipe {recipe.name!r} trains an adapter of {reference.name}, and vLLM applies none to "
                f"{architecture}; train Everything() or FinalNorm()"
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


def manners_of(reference: Reference) -> Manners | None:
    """What the reference's chat template does; None where it is a nano model's, or not on this machine.

    Raises SpecError for a template that cannot be used.
    """
    if is_made(reference):
        return None
    files = _local_files(reference)
    if not {"config.json", "tokenizer_config.json"} & files.names:
        return None
    try:
        return sandbox.learn(model_files.template_of(files), model_files.tokens_of(files))
    except TemplateError as error:
        raise SpecError(
            f"Reference {reference.name!r}: its chat template {error}; mend it in {files.place}, or use "
            "another model"
        ) from None


def make_reference(reference: Reference, store: Store) -> None:
    """Commits a nano model's folder to the store."""
    from undertow.nano.training import write_reference

    with store.new(reference, {"name": reference.name}) as folder:
        write_reference(world.parse(reference.name), folder)


def folder_of(reference: Reference, store: Store) -> Path:
    """A local folder with the model in Hugging Face's layout."""
    if is_made(reference):
        return store.fetch(reference)
    if reference.location:
        return Path(reference.location)
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(reference.name, revision=reference.revision, allow_patterns=list(MODEL_FILES))
    )


def _is_folder(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~")) or Path(name).is_dir()


def _architecture(reference: Reference) -> str:
    return model_files.architecture_of(_local_files(reference))


def _local_files(reference: Reference) -> ModelFiles:
    """The reference's small files as far as they are on this machine."""
    if reference.location:
        return ModelFiles.of_folder(reference.name, Path(reference.location))
    from huggingface_hub import try_to_load_from_cache

    def path(name: str) -> Path | None:
        found = try_to_load_from_cache(reference.name, name, revision=reference.revision)
        return Path(found) if isinstance(found, str) else None

    names = {name for name in SMALL_FILES if path(name) is not None}
    return ModelFiles(reference.name, "the model hub", names, path)


def _pin_folder(reference: Reference) -> Reference:
    folder = Path(reference.location or reference.name).expanduser().absolute()
    files = ModelFiles.of_folder(reference.name, folder)
    model_files.check(files)
    hashes = hashlib.sha256()
    for path in sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)}):
        hashes.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                hashes.update(block)
    pinned = dataclasses.replace(
        reference,
        name=folder.name,
        revision=hashes.hexdigest()[:32],
        chat_template=_template_hash(files.path),
        location=str(folder),
    )
    manners_of(pinned)
    return pinned


def _pin_hub(reference: Reference) -> Reference:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def file(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(reference.name, name, revision=commit))
        except EntryNotFoundError:
            return None

    try:
        info = HfApi().model_info(reference.name, revision=reference.revision or None, timeout=20)
        commit, names = str(info.sha), {sibling.rfilename for sibling in info.siblings or ()}
        for name in names & set(SMALL_FILES):
            file(name)
    except Exception as error:  # the hub client has many kinds, from bad ids and gates to no network
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"Reference {reference.name!r}: not a folder here, and the model hub says: {reason}; "
            "check the name, the network and HF_TOKEN, or give a local folder"
        ) from None
    model_files.check(ModelFiles(reference.name, "the model hub", names, file))
    pinned = dataclasses.replace(reference, revision=commit, chat_template=_template_hash(file))
    manners_of(pinned)
    return pinned


def _template_hash(file: Callable[[str], Path | None]) -> str:
    """SHA-256 of the chat template, wherever the model keeps it; "none" for a model without one."""
    if (path := file("chat_template.jinja")) is not None:
        return digest(path.read_text())[:16]
    if (path := file("tokenizer_config.json")) is not None:
        config: dict[str, Any] = json.loads(path.read_text())
        if template := config.get("chat_template"):
            return digest(json.dumps(template))[:16]
    return "none"
