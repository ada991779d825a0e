"""A model's files, looked at before anything is spent: are they whole, and does the stack know them?

Only names, headers and small files are read. What is refused here would otherwise fail in an engine, after
its minutes of starting, or in training, after the data.
"""

import json
import struct
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.engines import architectures
from undertow.errors import SpecError
from undertow.prompts.chat_templates import PLAIN_TEMPLATE

MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "merges.txt", "vocab.txt")
WEIGHTS = ".safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
INDEX = "model.safetensors.index.json"
TOKENIZERS = ({"tokenizer.json"}, {"tokenizer.model"}, {"vocab.json", "merges.txt"}, {"vocab.txt"})
STAND_INS = {"bos_token": "<bos>", "eos_token": "<eos>"}  # some tokenizers name theirs in code alone


@dataclass(frozen=True)
class ModelFiles:
    """A model's files by name, in a folder or on the hub.

    Attributes:
        owner: the reference, as it stands in messages.
        place: the folder or the repository.
        names: of all files there.
        path: a file's own place on this machine, fetched where need be; None where there is none so named.
    """

    owner: str
    place: str
    names: Set[str]
    path: Callable[[str], Path | None]

    @staticmethod
    def of_folder(owner: str, folder: Path) -> "ModelFiles":
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        return ModelFiles(owner, str(folder), names, lambda name: folder / name if name in names else None)

    def error(self, what: str, remedy: str) -> SpecError:
        return SpecError(f"Reference {self.owner!r}: {what} in {self.place}; {remedy}")

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON file's object; None without the file. Raises SpecError for a file that is none."""
        if (path := self.path(name)) is None:
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise self.error(f"{name} is not JSON ({error})", "save the model again") from None
        if not isinstance(data, dict):
            raise self.error(f"{name} is no JSON object", "save the model again")
        return data


def check(files: ModelFiles) -> None:
    """Raises SpecError naming the place and the remedy where the model cannot be used."""
    config = files.json("config.json")
    if config is None:
        raise files.error("no config.json", "give a Hugging Face model folder")
    _check_weights(files)
    if not any(needed <= files.names for needed in TOKENIZERS):
        raise files.error("no tokenizer", "save the model's own there (tokenizer.json)")
    _check_architecture(files, config)
    tokenizer = files.json("tokenizer_config.json") or {}
    if "auto_map" in tokenizer and not tokenizer.get("tokenizer_class"):
        raise _needs_code(files)


def architecture_of(files: ModelFiles) -> str:
    """The class that the model's configuration names; "" for none."""
    named = (files.json("config.json") or {}).get("architectures") or [""]
    return str(named[0])


def _check_architecture(files: ModelFiles, config: Mapping[str, Any]) -> None:
    kind, known = config.get("model_type"), architectures.causal_models()
    if known is None:
        return  # this machine only plans
    if kind not in known:
        if "auto_map" in config:  # models that transformers has learned since keep theirs, which is not run
            raise _needs_code(files)
        raise files.error(
            f"config.json says model_type {kind!r}, which transformers knows no language model of",
            "use a causal language model that it knows",
        )
    architecture = architecture_of(files)
    if architecture not in set(known.values()):
        raise files.error(
            f"config.json names the architecture {architecture!r}, not one that writes text",
            f"for {kind!r} that is {known[kind]!r}",
        )


def _needs_code(files: ModelFiles) -> SpecError:
    return files.error(
        "a model that needs Python code of its own (auto_map)",
        "such code is not run here: use a model that transformers knows",
    )


def _check_weights(files: ModelFiles) -> None:
    weights = sorted(name for name in files.names if name.endswith(WEIGHTS))
    if not weights:
        if pickled := sorted(name for name in files.names if name.endswith(PICKLED)):
            raise files.error(
                f"weights only as {pickled[0]}, a pickle, which runs code when it is read",
                "save them as safetensors (save_pretrained does)",
            )
        raise files.error("no *.safetensors", "save its weights there first")
    index = files.json(INDEX) if INDEX in files.names else None
    if index and (missing := sorted(set(index.get("weight_map", {}).values()) - files.names)):
        raise files.error(f"{missing[0]} is missing, which {INDEX} names", "copy the whole model")
    for path in (Path(files.place) / name for name in weights):
        if path.is_file() and (fault := _fault(path)):  # on the hub they are whole
            raise files.error(f"{path.name} {fault}", "copy it again")


def matrices_of(files: ModelFiles) -> set[str]:
    """The modules that hold a weight, by name, as far as that is known without reading the weights."""
    index = files.json(INDEX) if INDEX in files.names else None
    names = set(index.get("weight_map", {})) if index else set()
    for path in (Path(files.place) / name for name in files.names if name.endswith(WEIGHTS)):
        if path.is_file():
            with path.open("rb") as file:
                names |= set(json.loads(file.read(struct.unpack("<Q", file.read(8))[0])))
    return {name.removesuffix(".weight") for name in names if name.endswith(".weight")}


def _fault(path: Path) -> str:
    """What is wrong with a safetensors file by its header and length; "" for nothing."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if 8 + length > size:
            return f"is cut off: {size:,} bytes do not hold its header"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            needed = 8 + length + max(ends, default=0)
        except (ValueError, LookupError, TypeError, AttributeError):
            return "has no safetensors header"
    return (
        ""
        if needed == size
        else f"is {'cut off' if needed > size else 'too long'}: {size:,} of {needed:,} bytes"
    )


def template_of(files: ModelFiles) -> str:
    """The chat template's text; the plain one for a model without.

    Raises SpecError for several templates of which none is the default.
    """
    if (path := files.path("chat_template.jinja")) is not None:
        return path.read_text(encoding="utf-8")
    found = (files.json("tokenizer_config.json") or {}).get("chat_template")
    if isinstance(found, list):
        named = {entry.get("name"): entry.get("template") for entry in found}
        if "default" not in named:
            raise files.error(
                f"chat templates {sorted(map(str, named))} and none called 'default'", "give one that name"
            )
        found = named["default"]
    return str(found) if found else PLAIN_TEMPLATE


def tokens_of(files: ModelFiles) -> dict[str, str]:
    """What the tokenizer calls its special tokens, as templates ask for them."""
    named = {**(files.json("special_tokens_map.json") or {}), **(files.json("tokenizer_config.json") or {})}
    found = dict(STAND_INS)
    for role, token in named.items():
        text = token.get("content") if isinstance(token, dict) else token
        if role.endswith("_token") and isinstance(text, str):
            found[role] = text
    return found
