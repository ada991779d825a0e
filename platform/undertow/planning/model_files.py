"""Checks of a model's files before a sweep: they must be complete, and of a supported architecture.

Only names, headers and small files are read. A model that is rejected here would otherwise fail after
minutes, when an engine starts, or after hours, when training starts.
"""

import json
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.engines import architectures
from undertow.engines.weight_files import TRAINED_CONFIG, WEIGHTS, TensorHeader, tensor_headers, tensor_shapes
from undertow.errors import SpecError
from undertow.prompts.chat_templates import PLAIN_TEMPLATE
from undertow.study.identity import digest

MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "merges.txt", "vocab.txt")
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
OTHER_LAYOUT = "consolidated"
INDEX = "model.safetensors.index.json"
WEIGHTS_DIGITS = 32
TOKENIZERS = ({"tokenizer.json"}, {"tokenizer.model"}, {"vocab.json", "merges.txt"}, {"vocab.txt"})
PREFIXED = "none, prefixed"
# Keys of config.json that state quantised weights: transformers and vLLM, old compressed-tensors, MLX.
QUANTISED = ("quantization_config", "compression_config", "quantization")
QUANTISED_FILE = "hf_quant_config.json"  # of NVIDIA's ModelOpt, which does not write it into config.json
FLOATS = ("F64", "F32", "F16", "BF16")  # the types of weights that are not quantised, as in safetensors
# Names of the number of blocks in config.json, by architecture.
BLOCKS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
# Settings in config.json that must be whole numbers, in transformers' two ways to name them. Other sizes may
# be null, or a list with one size per block.
SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
    *("n_embd", "n_layer", "n_head", "n_positions"),
)
DEFAULT_TOKENS = {"bos_token": "<bos>", "eos_token": "<eos>"}  # some tokenizers define theirs in code only


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model, in a local folder or on the Hugging Face hub.

    Attributes:
        owner: the reference model's name, for messages.
        names: the names of all files.
        path: returns the local path of a file by name, downloading it if necessary; None if it does not
            exist.
        folder: None for a model on the hub.
    """

    owner: str
    names: Set[str]
    path: Callable[[str], Path | None]
    folder: Path | None = None

    @staticmethod
    def of_folder(owner: str, folder: Path) -> "ModelFiles":
        """The files of a local folder; none for a folder that does not exist."""
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        return ModelFiles(owner, names, lambda name: folder / name if name in names else None, folder)

    @property
    def place(self) -> str:
        """Where the files are, for messages."""
        return str(self.folder or "the model hub")

    def error(self, problem: str, remedy: str) -> SpecError:
        return SpecError(f"Reference {self.owner!r}: {problem} in {self.place}; {remedy}")

    def text(self, name: str) -> str | None:
        """The text of a file; None without the file. Raises SpecError if it is not UTF-8."""
        if (path := self.path(name)) is None:
            return None
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"{name} is not text in UTF-8 ({error})", "save it again") from None

    def json(self, name: str) -> dict[str, Any] | None:
        """The object in a JSON file; None without the file. Raises SpecError for an invalid file."""
        if (text := self.text(name)) is None:
            return None
        try:
            data = json.loads(text)
        except ValueError as error:
            raise self.error(f"{name} is not JSON ({error})", "save the model again") from None
        if not isinstance(data, dict):
            raise self.error(f"{name} is not a JSON object", "save the model again")
        return data


def check(files: ModelFiles) -> None:
    """Raises SpecError, with the place and the remedy, for a model that cannot be used."""
    config = files.json("config.json")
    if config is None and TRAINED_CONFIG in files.names:
        remedy = "give the whole model, which jobs/export.py --model KEY writes"
        raise files.error("only the tensors that were trained", remedy)
    if config is None:
        raise files.error("no config.json", "give a Hugging Face model folder")
    _check_types(files, config)
    if found := _quantisation(files, config):
        raise _quantised(files, found)
    _check_weights(files)
    if not any(needed <= files.names for needed in TOKENIZERS):
        raise files.error("no tokenizer", "save the model's tokenizer there (tokenizer.json)")
    _check_architecture(files, config)
    tokenizer = files.json("tokenizer_config.json") or {}
    if "auto_map" in tokenizer and not tokenizer.get("tokenizer_class"):
        raise _needs_code(files)


def _check_types(files: ModelFiles, config: Mapping[str, Any]) -> None:
    """Raises SpecError for a setting in config.json that a plan reads and whose value has another type."""

    def require(name: str, value: Any, expected: str, *, is_valid: bool) -> None:
        if not is_valid:
            found = f"{name} = {json.dumps(value):.80} in config.json, which must be {expected},"
            raise files.error(found, "copy the file again")

    named, kind = config.get("architectures") or [], config.get("model_type")
    is_list = isinstance(named, list) and all(isinstance(name, str) for name in named)
    require("architectures", named, "a list of names", is_valid=is_list)
    require("model_type", kind, "a name", is_valid=kind is None or isinstance(kind, str))
    settings = text_config(config)
    for name in (name for name in SIZES if name in settings):
        size = settings[name]
        require(name, size, "a whole number above 0", is_valid=type(size) is int and size > 0)
    for name in ("rope_scaling", "rope_parameters"):
        value = settings.get(name)
        require(name, value, "an object or null", is_valid=value is None or isinstance(value, dict))


def architecture_of(files: ModelFiles) -> str:
    """The transformers class named in the model's config.json; "" if there is none."""
    named = (files.json("config.json") or {}).get("architectures") or [""]
    return str(named[0])


def _check_architecture(files: ModelFiles, config: Mapping[str, Any]) -> None:
    kind, known = config.get("model_type"), architectures.causal_models()
    if known is None:
        return  # transformers is not installed: this machine only plans
    if kind not in known:
        # Models that transformers has added later keep their auto_map; its code is then not needed.
        if "auto_map" in config:
            raise _needs_code(files)
        raise files.error(
            f"config.json has model_type {kind!r}, for which transformers has no language model",
            "use a causal language model that it supports",
        )
    architecture = architecture_of(files)
    if architecture not in set(known.values()):
        raise files.error(
            f"config.json has the architecture {architecture!r}, which does not generate text",
            f"for model_type {kind!r} it must be {known[kind]!r}",
        )


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the language model: a part of the whole in configurations of multimodal models."""
    part = config.get("text_config")
    return part if isinstance(part, dict) else config


def blocks_of(files: ModelFiles) -> int | None:
    """The number of the language model's blocks; None if its configuration does not state it."""
    config = text_config(files.json("config.json") or {})
    return next((config[name] for name in BLOCKS if isinstance(config.get(name), int)), None)


def _quantisation(files: ModelFiles, config: Mapping[str, Any]) -> str:
    """Where a model's files state that its weights are quantised, and how; "" if they do not."""
    for part in (config, text_config(config)):
        for name in QUANTISED:
            if (value := part.get(name)) is not None:
                method = value.get("quant_method") if isinstance(value, dict) else None
                return f"{name} in config.json{f': {method}' if method else ''}"
    return QUANTISED_FILE if QUANTISED_FILE in files.names else ""


def _quantised(files: ModelFiles, found: str) -> SpecError:
    """The error for quantised weights, which are refused for teachers and students alike.

    Quantised weights cannot be trained, and an engine that serves them cannot replace them by the tensors of
    a trained model.
    """
    return files.error(
        f"quantised weights ({found})",
        "give the unquantised checkpoint (bf16, fp16 or fp32): models are not trained from quantised weights",
    )


def _needs_code(files: ModelFiles) -> SpecError:
    return files.error(
        "a model that needs its own Python code (auto_map)",
        "such code is not run: use a model that transformers supports",
    )


def _check_weights(files: ModelFiles) -> None:
    weights = sorted(name for name in files.names if name.endswith(WEIGHTS))
    if not weights:
        if pickled := sorted(name for name in files.names if name.endswith(PICKLED)):
            raise files.error(
                f"weights only as {pickled[0]}, a pickle, which can run code when it is read",
                "save them as safetensors (save_pretrained does)",
            )
        raise files.error("no *.safetensors", "save the model's weights there first")
    other = [name for name in weights if name.startswith(OTHER_LAYOUT)]
    if len(other) == len(weights):
        raise files.error(f"weights only as {other[0]}, in Mistral's own layout", "give model*.safetensors")
    index = files.json(INDEX) if INDEX in files.names else None
    if index and not isinstance(index.get("weight_map", {}), dict):
        raise files.error(f"{INDEX} has a weight_map that is not a JSON object", "copy it again")
    # vLLM loads every weight file unless an index lists the ones to load.
    if other and index is None:
        raise files.error(
            f"the weights twice, also as {other[0]} in Mistral's own layout, and no {INDEX}",
            "copy the model without that file",
        )
    if index and (missing := sorted(set(index.get("weight_map", {}).values()) - files.names)):
        raise files.error(f"{missing[0]}, which {INDEX} lists, is missing", "copy the whole model")
    for path in _local_weights(files):
        try:
            headers = tensor_headers(path)
        except ValueError as error:
            raise files.error(f"{path.name} {error}", "copy it again") from None
        if packed := [name for name, header in headers.items() if _is_packed(name, header)]:
            raise _quantised(files, f"{packed[0]} has the type {headers[packed[0]].dtype}")


def _is_packed(name: str, header: TensorHeader) -> bool:
    """Whether a tensor is a matrix of weights that are not stored as floating-point numbers.

    If no configuration states the quantisation, transformers would read such numbers without their scales, as
    another model. Masks and positions, which some models store as integers, are not weights.
    """
    is_matrix = "weight" in name.rpartition(".")[2] and len(header.shape) > 1
    return is_matrix and header.dtype not in FLOATS


def _local_weights(files: ModelFiles) -> list[Path]:
    """The safetensors files of a local folder. Those on the hub are complete, and are not downloaded here."""
    if files.folder is None:
        return []
    paths = [files.folder / name for name in sorted(files.names) if name.endswith(WEIGHTS)]
    return [path for path in paths if path.is_file()]


def weights_hash(files: Mapping[str, str]) -> str:
    """A hash of the SHA-256 of a model's weight files by name; names and order do not change it.

    Some models contain their weights twice, as model*.safetensors and in the layout of another library. Only
    the first are used then: a copy of the model need not have both.
    """
    used = [hexdigest for name, hexdigest in files.items() if name.startswith("model")]
    return digest("\n".join(sorted(used or files.values())))[:WEIGHTS_DIGITS]


def tensors_of(files: ModelFiles) -> dict[str, tuple[int, ...] | None]:
    """The shape of each tensor by name, from the headers of local files; None if only the index names it.

    Empty for a model of one file that is not on this machine.
    """
    index = files.json(INDEX) if INDEX in files.names else None
    found: dict[str, tuple[int, ...] | None] = dict.fromkeys(index.get("weight_map", {}) if index else ())
    for path in _local_weights(files):
        if not path.name.startswith(OTHER_LAYOUT):
            found |= tensor_shapes(path)
    return found


def template_of(files: ModelFiles) -> str:
    """The text of the model's chat template, or of the plain template if it has none.

    Raises SpecError for several templates without one named "default".
    """
    if (text := files.text("chat_template.jinja")) is not None:
        return text
    template = (files.json("tokenizer_config.json") or {}).get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template}
        if "default" not in named:
            raise files.error(
                f"chat templates {sorted(map(str, named))} and none named 'default'", "give one that name"
            )
        template = named["default"]
    return str(template) if template else PLAIN_TEMPLATE


def tokens_of(files: ModelFiles) -> dict[str, str]:
    """The tokenizer's special tokens by role ("bos_token"), as chat templates refer to them."""
    named = {**(files.json("special_tokens_map.json") or {}), **(files.json("tokenizer_config.json") or {})}
    tokens = dict(DEFAULT_TOKENS)
    for role, token in named.items():
        text = token.get("content") if isinstance(token, dict) else token
        if role.endswith("_token") and isinstance(text, str):
            tokens[role] = text
    return tokens
