"""GGUF files as reference models: what a plan reads from the header, and checks before a sweep.

transformers reads the weights later (`training.conversion`). It ignores some of what a header may state, such
as the scaling of positions, and would return another model without an error. Such files are refused here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from undertow.engines import architectures
from undertow.engines.gguf_files import (
    DIGIT_SPLITS,
    GGUFHeader,
    adds_bos,
    parse_header,
    read_header,
)
from undertow.errors import SpecError, UserError, suggestion
from undertow.planning.model_files import DEFAULT_TOKENS, PREFIXED
from undertow.prompts.chat_templates import PLAIN_TEMPLATE
from undertow.study.identity import digest
from undertow.study.references import GGUF, Reference
from undertow.study.unpinned import NOT_PINNED

TOKENS, KIND, SPLIT = "tokenizer.ggml.tokens", "tokenizer.ggml.model", "tokenizer.ggml.pre"
TEMPLATE = "tokenizer.chat_template"
EMBEDDING = "token_embd.weight"
ORIGINAL = "give the original model as a folder or hub id"
READS_SCALING = ("gpt-oss", "gpt_oss")  # of the architectures, those whose scaling transformers reads
ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
# llama.cpp's names of ways to split a text that transformers does not list and that equal GPT-2's, which it
# uses then. `DIGIT_SPLITS` are added after reading.
GPT2_SPLITS = frozenset(("default", "gpt-2", "gpt2", "phi-2"))
# The modules of the architectures that name them as Llama does, by the names in the file.
MODULES: Mapping[str, str] = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
LIKE_LLAMA = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3")


@dataclass(frozen=True)
class HubFile:
    """A GGUF file on the hub: the repository's id, and the file's path in it."""

    repository: str
    file: str

    @staticmethod
    def of(name: str) -> "HubFile":
        """Raises UserError for a name that is not "owner/repository/file.gguf"."""
        owner, _, rest = name.partition("/")
        repository, _, file = rest.partition("/")
        if not (owner and repository and file):
            raise UserError(
                f"Reference {name!r}: there is no such file here; give the path of a local file, "
                f"or owner/repository/FILE{GGUF} for a file on the model hub"
            )
        return HubFile(f"{owner}/{repository}", file)


def header_of(reference: Reference) -> GGUFHeader:
    """The header of a pinned GGUF model. Of a file on the hub, only the first megabytes are downloaded.

    Empty for the placeholder of a file that a plan could not reach. Raises SpecError for a damaged file.
    """
    if reference.chat_template == NOT_PINNED:
        return GGUFHeader({}, {})
    return _header(reference.name, reference.revision, reference.location)


@cache
def _header(name: str, revision: str, location: str) -> GGUFHeader:
    if location:
        return local_header(name, Path(location))
    on_hub = HubFile.of(name)
    from huggingface_hub import HfFileSystem, try_to_load_from_cache

    cached = try_to_load_from_cache(on_hub.repository, on_hub.file, revision=revision)
    if isinstance(cached, str):
        return local_header(name, Path(cached))
    with HfFileSystem().open(f"{on_hub.repository}@{revision}/{on_hub.file}", "rb") as file:
        try:
            return parse_header(file)
        except ValueError as error:
            raise SpecError(_damaged(name, f"on the model hub it {error}")) from None


def local_header(owner: str, path: Path) -> GGUFHeader:
    """The header of a file for the reference `owner`. Raises SpecError for a file that cannot be read."""
    try:
        return read_header(path)
    except ValueError as error:
        raise SpecError(_damaged(owner, f"{path} {error}")) from None
    except OSError as error:
        raise SpecError(
            f"Reference {owner!r}: {path}: {error.strerror or error}; give the path of a GGUF file"
        ) from None


def _damaged(owner: str, problem: str) -> str:
    return f"Reference {owner!r}: {problem}; download or copy the file again"


def check(owner: str, header: GGUFHeader) -> None:
    """Raises SpecError, with the entry of the header and the remedy, for a model that cannot be used."""
    for problem, remedy in _problems(header):
        raise SpecError(f"Reference {owner!r}: its GGUF header {problem}; {remedy}")


def _problems(header: GGUFHeader) -> Iterator[tuple[str, str]]:
    metadata, name = header.metadata, header.architecture
    if not name:
        yield "has no general.architecture", "download or copy the file again"
    known = architectures.gguf_models()
    if known is None:  # transformers is not installed: this machine only plans
        return
    if name not in known:
        yield (
            f"has general.architecture {name!r}, which transformers cannot read as a language model",
            f"{ORIGINAL}, or another model ({suggestion(name, known)})",
        )
    if (kind := metadata.get("general.type", "model")) != "model":
        yield f"has general.type {kind!r}", "give the file of the language model"
    if (parts := int(metadata.get("split.count", 0))) > 1:
        yield (
            f"says that the file is one of {parts} parts (split.count)",
            "join them first: llama-gguf-split --merge",
        )
    if name == "llama" and int(metadata.get("llama.expert_count", 0)) > 0:
        yield "has llama.expert_count, a mixture of experts, which transformers cannot read", ORIGINAL
    scaling = str(metadata.get(f"{name}.rope.scaling.type", "none"))
    if name not in READS_SCALING and (scaling != "none" or "rope_freqs.weight" in header.shapes):
        yield "scales positions (rope.scaling or rope_freqs), which transformers would ignore", ORIGINAL
    yield from _tokenizer_problems(metadata)
    vocabulary, rows = len(metadata.get(TOKENS, ())), header.shapes.get(EMBEDDING, (0,))[0]
    stated = metadata.get(f"{name}.vocab_size", vocabulary)
    if rows != stated:
        yield (
            f"states a vocabulary of {stated:,} tokens, and {EMBEDDING} has {rows:,} rows",
            "download or copy the file again",
        )


def _tokenizer_problems(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    kind, split = metadata.get(KIND), metadata.get(SPLIT, "default")
    if not metadata.get(TOKENS) or not kind:
        yield f"has no tokenizer ({KIND}, {TOKENS})", ORIGINAL
        return
    if kind not in architectures.gguf_tokenizers():
        known = ", ".join(sorted(architectures.gguf_tokenizers()))
        yield f"has {KIND} {kind!r}, of which transformers reads {known}", ORIGINAL
    needed = "tokenizer.ggml.merges" if kind == "gpt2" else "tokenizer.ggml.scores"
    if not metadata.get(needed) and not metadata.get("tokenizer.ggml.merges"):
        yield f"has no {needed}", ORIGINAL
    if kind == "gpt2" and split not in architectures.gguf_splits() | GPT2_SPLITS | DIGIT_SPLITS:
        yield (
            f"has {SPLIT} {split!r}, which transformers does not know and would replace by GPT-2's",
            ORIGINAL,
        )


def architecture_of(header: GGUFHeader) -> str:
    """The transformers class of the model; "" if transformers is not installed."""
    return (architectures.gguf_models() or {}).get(header.architecture, "")


def tensors_of(header: GGUFHeader) -> dict[str, tuple[int, ...] | None]:
    """The shapes of weights and biases of the blocks' linear modules, by transformers' names.

    Empty for architectures that name their modules unlike Llama.
    """
    if header.architecture not in LIKE_LLAMA:
        return {}
    found: dict[str, tuple[int, ...] | None] = {}
    for name, shape in header.shapes.items():
        parts = name.split(".")
        if parts[0] == "blk" and len(parts) == 4 and parts[2] in MODULES:
            found[f"model.layers.{parts[1]}.{MODULES[parts[2]]}.{parts[3]}"] = shape
    return found


def blocks_of(header: GGUFHeader) -> int | None:
    """The number of blocks; None if the header does not state it."""
    count = header.metadata.get(f"{header.architecture}.block_count")
    return count if isinstance(count, int) else None


def template_hash(header: GGUFHeader) -> str:
    """SHA-256 of the chat template; "none" or `PREFIXED` without one, as for folders."""
    if template := header.metadata.get(TEMPLATE):
        return digest(str(template))[:16]
    return PREFIXED if adds_bos(header.metadata) else "none"


def template_of(header: GGUFHeader) -> str:
    """The text of the chat template, or of the plain template if it has none."""
    return str(header.metadata.get(TEMPLATE) or PLAIN_TEMPLATE)


def tokens_of(header: GGUFHeader) -> dict[str, str]:
    """The tokenizer's special tokens by role ("bos_token"), as chat templates refer to them."""
    tokens, vocabulary = dict(DEFAULT_TOKENS), header.metadata.get(TOKENS, [])
    for role, name in ROLES.items():
        number = header.metadata.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(number, int) and number < len(vocabulary):
            tokens[f"{role}_token"] = vocabulary[number]
    return tokens
