"""Which architectures transformers trains and vLLM gives adapters to, known without importing either.

A plan answers at once, and importing them takes ten seconds.
"""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# Language models that vLLM 0.32 serves without adapters (a test reads the same from vLLM's source). What it
# has no code of its own for (OLMo 2, GPT-NeoX) it serves through transformers', adapters included.
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


@cache
def causal_models() -> dict[str, str] | None:
    """transformers' causal language models, class by model_type; None where it is not installed."""
    found = find_spec("transformers")
    if found is None or found.origin is None:
        return None
    source = (Path(found.origin).parent / "models" / "auto" / "modeling_auto.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if (
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"
        ):
            assert isinstance(node.value, ast.Call)
            return dict(ast.literal_eval(node.value.args[0]))
    raise RuntimeError(f"{found.origin}: transformers lists its causal models in another way than before")
