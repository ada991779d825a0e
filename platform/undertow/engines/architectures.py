"""The architectures that transformers can train and those that vLLM applies no adapters to.

Neither library is imported, which would take ten seconds: a plan must answer in about one.
"""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

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


@cache
def causal_models() -> dict[str, str] | None:
    """transformers' causal language models: class name by model_type. None if transformers is not installed.

    Read from its source with `ast`. Raises RuntimeError if a new version lists the models differently.
    """
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
    raise RuntimeError(
        f"{found.origin}: no MODEL_FOR_CAUSAL_LM_MAPPING_NAMES in transformers' modeling_auto.py"
    )
