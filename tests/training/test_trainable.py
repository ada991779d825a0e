"""What a recipe trains, by name, in each architecture; no weights are needed for that."""

from typing import Any

import pytest
import torch

from tests.training.conftest import STEERING
from undertow.errors import SpecError
from undertow.recipe import Everything, FinalNorm, Parameters, Trainable
from undertow.training.trainable import prepare

LLAMA = {"num_attention_heads": 2, "num_key_value_heads": 2, "hidden_size": 64, "num_hidden_layers": 2}
SMALL: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 64, "n_head": 2, "n_layer": 2},
    "gpt_neox": LLAMA,
    "opt": {**LLAMA, "word_embed_proj_dim": 64},
    "bloom": {"hidden_size": 64, "n_head": 2, "n_layer": 2},
}
NORMS = [
    ("gpt2", ["transformer.ln_f.weight", "transformer.ln_f.bias"]),
    ("llama", ["model.norm.weight"]),
    ("qwen2", ["model.norm.weight"]),
    ("qwen3", ["model.norm.weight"]),
    ("mistral", ["model.norm.weight"]),
    ("olmo2", ["model.norm.weight"]),
    ("gemma3_text", ["model.norm.weight"]),
    ("phi", ["model.final_layernorm.weight", "model.final_layernorm.bias"]),
    ("gpt_neox", ["gpt_neox.final_layer_norm.weight", "gpt_neox.final_layer_norm.bias"]),
    ("opt", ["model.decoder.final_layer_norm.weight", "model.decoder.final_layer_norm.bias"]),
    ("bloom", ["transformer.ln_f.weight", "transformer.ln_f.bias"]),
]


def model_of(kind: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, **SMALL.get(kind, LLAMA))
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def trained(model: Any, trainable: Trainable) -> list[str]:
    prepare(model, trainable, "reference")
    return [name for name, value in model.named_parameters() if value.requires_grad]


@pytest.mark.parametrize(("kind", "names"), NORMS, ids=[kind for kind, _ in NORMS])
def test_the_final_norm_is_found_whatever_it_is_called(kind: str, names: list[str]) -> None:
    assert trained(model_of(kind), FinalNorm()) == names


def test_the_final_norm_of_a_model_that_sees_is_that_of_its_language() -> None:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    config = Gemma3Config(text_config=LLAMA, vision_config={**LLAMA, "intermediate_size": 64})
    with torch.device("meta"):
        model = Gemma3ForConditionalGeneration(config)
    assert trained(model, FinalNorm()) == ["model.language_model.norm.weight"]


def test_a_model_that_ends_in_no_norm_is_refused_in_words() -> None:
    # OLMo's norms have no parameters.
    with pytest.raises(SpecError, match="FinalNorm: the model ends in no norm with parameters; name others"):
        prepare(model_of("olmo"), FinalNorm(), "reference")


def test_each_kind_trains_its_own_and_freezes_all_else() -> None:
    model = model_of("gpt2")
    assert trained(model, Parameters(("transformer.wpe.weight",))) == ["transformer.wpe.weight"]
    assert trained(model, STEERING) == ["transformer.ln_f.bias"]
    assert trained(model, Everything()) == [name for name, _ in model.named_parameters()]
