"""The tables about transformers and vLLM, compared with the source of both libraries."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

from undertow.engines.architectures import WITHOUT_ADAPTERS, causal_models

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
