"""Reference models: pinned before anything is planned, and brought to a local folder when needed.

A study names its references as people do (a hub id, a folder, "nano/gpt2-0"). `resolve` replaces each
by one that says exactly which weights and which chat template are meant: a hub branch becomes a commit,
a folder the hash of its content, a nano model the hash of all that its training follows from.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from undertow.conditions import Condition
from undertow.errors import SpecError, UserError
from undertow.identity import digest
from undertow.kinds import Format, Trait
from undertow.nano import vocabulary, world
from undertow.recipe import LoRA, Recipe
from undertow.spec import Reference
from undertow.store import Store
from undertow.study import Study

PROMPTS_CHECKED = 50  # a pack's parts are short lists: so many prompts use most of them
MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "merges.txt", "vocab.txt")


def resolve(study: Study) -> Study:
    """The study with every reference pinned. Raises SpecError or UserError for one that cannot be."""
    conditions = []
    for condition in study.conditions:
        teacher, student = pin(condition.teacher), pin(condition.student)
        if condition.trait is not None:
            for reference in (teacher, student):
                check_word(condition.trait, reference)
        check_prompts(condition.format, teacher)
        check_adapters(condition)
        conditions.append(condition.changed(teacher=teacher, student=student))
    return study.changed(conditions=tuple(conditions))


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


@cache  # every condition of a format and a model asks the same
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
    """vLLM applies no adapter to GPT-2: a nano GPT-2's LoRA student would be trained and never measured."""
    trained = [(condition.student, condition.recipe)]
    if condition.finetuning:
        trained.append((condition.teacher, condition.finetuning.recipe))
    for reference, recipe in trained:
        is_gpt2 = is_made(reference) and world.parse(reference.name).network == "gpt2"
        if is_gpt2 and isinstance(recipe, Recipe) and isinstance(recipe.trainable, LoRA):
            raise SpecError(
                f"recipe {recipe.name!r} trains an adapter of {reference.name}, and vLLM applies none to "
                "GPT-2; use nano/qwen3-0 or nano/llama-0, or train Parameters"
            )


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


def _pin_folder(reference: Reference) -> Reference:
    folder = Path(reference.location or reference.name).expanduser().absolute()
    if not (folder / "config.json").is_file():
        raise SpecError(
            f"Reference {reference.name!r}: no config.json in {folder}; give a Hugging Face model folder"
        )
    if not sorted(folder.glob("*.safetensors")):
        raise SpecError(
            f"Reference {reference.name!r}: no *.safetensors in {folder}; save its weights there first"
        )
    files = sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})
    hashes = hashlib.sha256()
    for path in files:
        hashes.update(path.name.encode() + b"\0" + path.read_bytes())
    return dataclasses.replace(
        reference,
        name=folder.name,
        revision=hashes.hexdigest()[:32],
        chat_template=_template_hash(lambda name: folder / name if (folder / name).is_file() else None),
        location=str(folder),
    )


def _pin_hub(reference: Reference) -> Reference:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def file(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(reference.name, name, revision=commit))
        except EntryNotFoundError:
            return None

    try:
        commit = HfApi().model_info(reference.name, revision=reference.revision or None, timeout=20).sha
        template = _template_hash(file)
    except Exception as error:  # the hub client has many kinds, from bad ids and gates to no network
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"Reference {reference.name!r}: not a folder here, and the model hub says: {reason}; "
            "check the name, the network and HF_TOKEN, or give a local folder"
        ) from None
    return dataclasses.replace(reference, revision=str(commit), chat_template=template)


def _template_hash(file: Callable[[str], Path | None]) -> str:
    """SHA-256 of the chat template, wherever the model keeps it; "none" for a model without one."""
    if (path := file("chat_template.jinja")) is not None:
        return digest(path.read_text())[:16]
    if (path := file("tokenizer_config.json")) is not None:
        config: dict[str, Any] = json.loads(path.read_text())
        if template := config.get("chat_template"):
            return digest(json.dumps(template))[:16]
    return "none"
