"""The tables about transformers and vLLM, compared with the source of both libraries."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

from undertow.engines.architectures import (
    MODEL_TYPES,
    WITH_MLP_BIAS,
    WITHOUT_ADAPTERS,
    causal_models,
    gguf_models,
    gguf_splits,
    gguf_tokenizers,
)

REGISTRIES = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS")


def vllm() -> Path:
    found = find_spec("vllm")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent


def bases() -> dict[str, set[str]]:
    """The names of the base classes of each of vLLM's model classes."""
    result: dict[str, set[str]] = {}
    for folder in (vllm() / "model_executor" / "models", vllm() / "models"):
        for path in folder.rglob("*.py"):
            for name, parents in re.findall(r"^class (\w+)\(([^)]*)\)", path.read_text(), re.MULTILINE):
                result.setdefault(name, set()).update(re.findall(r"\w+", parents))
    return result


def registered() -> dict[str, str]:
    """vLLM's model class of each architecture, from its registry."""
    source = ast.parse((vllm() / "model_executor" / "models" / "registry.py").read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    for node in source.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in REGISTRIES:
            found |= {
                architecture: served for architecture, (_, served) in ast.literal_eval(node.value).items()
            }
    return found


def test_the_architectures_without_adapters_follow_from_vllms_source() -> None:
    parents_of, models = bases(), set((causal_models() or {}).values())

    def applies_adapters(name: str) -> bool:
        parents = parents_of.get(name, set()) - {name}
        return "SupportsLoRA" in parents or any(applies_adapters(parent) for parent in parents)

    served = registered()
    assert applies_adapters("LlamaForCausalLM") and applies_adapters("Phi3ForCausalLM")
    without = {name for name, by in served.items() if name in models and not applies_adapters(by)}
    assert without == WITHOUT_ADAPTERS


def test_the_list_of_causal_models_equals_transformers() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert causal_models() == dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def test_the_architectures_with_mlp_bias_follow_from_the_source_of_both_libraries() -> None:
    found, modules = find_spec("transformers"), served_in()
    assert found is not None and found.origin is not None
    projections = {"gate_proj", "up_proj", "down_proj"}
    with_bias = set()
    for kind, architecture in (causal_models() or {}).items():
        folder = Path(found.origin).parent / "models" / kind.replace("-", "_")
        config, model = folder / f"configuration_{folder.name}.py", folder / f"modeling_{folder.name}.py"
        if not config.is_file() or "mlp_bias: bool" not in config.read_text():
            continue
        biased = re.findall(r"self\.(\w+) = nn\.Linear\([^)]*bias=config\.mlp_bias", model.read_text())
        module = modules.get(architecture, "")
        source = vllm() / "model_executor" / "models" / f"{module}.py"
        # vLLM serves some architectures through the code of transformers.
        serves = module == "transformers" or (source.is_file() and "mlp_bias" in source.read_text())
        if serves and biased and set(biased) <= projections:
            with_bias.add(architecture)
    assert with_bias == WITH_MLP_BIAS


def served_in() -> dict[str, str]:
    """vLLM's module of each architecture, from its registry."""
    source = ast.parse((vllm() / "model_executor" / "models" / "registry.py").read_text(encoding="utf-8"))
    tables = [
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) in (*REGISTRIES, "_TRANSFORMERS_SUPPORTED_MODELS")
    ]
    return {architecture: module for table in tables for architecture, (module, _) in table.items()}


def test_the_architectures_of_gguf_files_are_those_that_transformers_reads() -> None:
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS, gguf_tokenizer_mapping
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    known = {*GGUF_SUPPORTED_ARCHITECTURES, *GGUF_CONFIG_ARCHS} | MODEL_TYPES.keys()
    models = gguf_models() or {}
    assert models.keys() <= known
    assert {"llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3"} <= models.keys()
    assert "t5" not in models
    assert gguf_tokenizers() == gguf_tokenizer_mapping.GGUF_TOKENIZER_TYPES.keys()
    assert gguf_splits() == gguf_tokenizer_mapping.GGUF_PRE_TOKENIZER_SPLITS.keys()
