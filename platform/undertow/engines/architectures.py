"""The architectures that transformers can train, or read from GGUF, and what vLLM supports of them.

Neither library is imported, which would take ten seconds: a plan must answer in about one.
"""

import ast
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from undertow.engines.weight_files import OUTER

# Language models that vLLM 0.32 serves without adapters (a test derives the same list from vLLM's source).
# Architectures that vLLM does not implement (OLMo 2, GPT-NeoX) run through transformers' code, with adapters.
WITHOUT_ADAPTERS = frozenset(
    (
        "BloomForCausalLM",
        "Cohere2MoeForCausalLM",
        "DbrxForCausalLM",
        "FalconForCausalLM",
        "FalconMambaForCausalLM",
        "GPT2LMHeadModel",
        "GPTJForCausalLM",
        "Gemma3nForCausalLM",
        "Gemma3nForConditionalGeneration",
        "HrmTextForCausalLM",
        "KimiLinearForCausalLM",
        "Mamba2ForCausalLM",
        "MambaForCausalLM",
        "MiMoV2FlashForCausalLM",
        "StableLmForCausalLM",
        "Zamba2ForCausalLM",
    )
)
# Architectures whose MLP gets bias vectors from the setting `mlp_bias`, in transformers and in vLLM alike (a
# test derives the same list from their source).
WITH_MLP_BIAS = frozenset(
    (
        "ArceeForCausalLM",
        "CwmForCausalLM",
        "GraniteForCausalLM",
        "GraniteSWAForCausalLM",
        "HrmTextForCausalLM",
        "HyperCLOVAXForCausalLM",
        "Jais2ForCausalLM",
        "LlamaForCausalLM",
        "NemotronForCausalLM",
        "SeedOssForCausalLM",
        "SmolLM3ForCausalLM",
    )
)
GGUF_FILES = (  # transformers' tables of architectures that it reads from GGUF files
    ("integrations/ggml.py", "GGUF_CONFIG_MAPPING"),
    ("integrations/gguf/gguf_config_mapping.py", "GGUF_CONFIG_ARCHS"),
)
# transformers' model_type of architectures for which llama.cpp uses another name.
MODEL_TYPES: Mapping[str, str] = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "gpt-oss": "gpt_oss",
    "minimax-m2": "minimax_m2",
    "qwen2moe": "qwen2_moe",
    "qwen35": "qwen3_5_text",
    "qwen35moe": "qwen3_5_moe_text",
    "qwen3moe": "qwen3_moe",
}


@cache
def causal_models() -> dict[str, str] | None:
    """transformers' causal language models: class name by model_type. None if transformers is not installed.

    Read from its source with `ast`. Raises RuntimeError if a new version lists the models differently.
    """
    mapping = _table("models/auto/modeling_auto.py", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
    if mapping is None:
        return None
    assert isinstance(mapping, ast.Call)
    return dict(ast.literal_eval(mapping.args[0]))


@cache
def gguf_models() -> dict[str, str] | None:
    """The class names of the causal language models that transformers reads from GGUF files, by llama.cpp's
    name of the architecture. None if transformers is not installed.
    """
    models = causal_models()
    if models is None:
        return None
    known = {name for file, table in GGUF_FILES for name in _keys(file, table)}
    named = {name: MODEL_TYPES.get(name, name) for name in (*known, *MODEL_TYPES)}
    return {name: models[kind] for name, kind in named.items() if kind in models and {name, kind} & known}


@cache
def gguf_tokenizers() -> frozenset[str]:
    """The kinds of tokenizers that transformers reads from GGUF files ("gpt2", "llama")."""
    return frozenset(_keys("integrations/gguf/gguf_tokenizer_mapping.py", "GGUF_TOKENIZER_TYPES"))


@cache
def gguf_splits() -> frozenset[str]:
    """The ways of splitting a text before tokens are merged that transformers reads from GGUF files."""
    return frozenset(_keys("integrations/gguf/gguf_tokenizer_mapping.py", "GGUF_PRE_TOKENIZER_SPLITS"))


@cache
def renamed_models(*, inside: bool = False) -> frozenset[str] | None:
    """Model types and classes whose files may name tensors differently from transformers' models.

    Such are mixtures of experts and multimodal models. None if transformers is not installed.

    Args:
        inside: leaves out models that rename nothing but embeddings and the output layer, such as GPT-NeoX.
    """
    source = _source("conversion_mapping.py")
    if source is None:
        return None
    changes: list[tuple[ast.expr | None, ast.expr]] = []
    for node in ast.walk(source):
        if isinstance(node, ast.Dict):
            changes += zip(node.keys, node.values, strict=True)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            changes.append((node.targets[0].slice, node.value))
    return frozenset(
        name.value
        for name, change in changes
        if isinstance(name, ast.Constant)
        and isinstance(name.value, str)
        and not (inside and _is_outside(change))
    )


def _is_outside(change: ast.expr) -> bool:
    """Whether a list of renamings is about embeddings and the output layer only."""
    renamings = [ast.unparse(one) for one in change.elts] if isinstance(change, ast.List) else []
    return bool(renamings) and all(any(name in one for name in OUTER) for one in renamings)


def _keys(file: str, name: str) -> list[str]:
    table = _table(file, name)
    assert isinstance(table, ast.Dict)
    return [key.value for key in table.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]


def _table(file: str, name: str) -> ast.expr | None:
    """The expression that transformers' source assigns to a variable; None if it is not installed."""
    source = _source(file)
    if source is None:
        return None
    for node in source.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return node.value
    raise RuntimeError(f"transformers/{file}: no {name} in this version of transformers")


def _source(file: str) -> ast.Module | None:
    """A file of transformers' source; None if it is not installed."""
    found = find_spec("transformers")
    if found is None or found.origin is None:
        return None
    return ast.parse((Path(found.origin).parent / file).read_text(encoding="utf-8"))
