"""The names of the parameters that a recipe trains, per architecture, on models without weights."""

from typing import Any

import pytest
import torch

from tests.training.conftest import STEERING
from undertow.errors import SpecError
from undertow.study.recipe import Everything, FinalNorm, LoRA, Parameters, Trainable
from undertow.training.trainable import group_names, prepare

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
def test_the_final_norm_is_found_whatever_its_name(kind: str, names: list[str]) -> None:
    assert trained(model_of(kind), FinalNorm()) == names


def multimodal_model() -> Any:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    config = Gemma3Config(text_config=LLAMA, vision_config={**LLAMA, "intermediate_size": 64})
    with torch.device("meta"):
        return Gemma3ForConditionalGeneration(config)


def test_the_final_norm_of_a_multimodal_model_is_its_language_models() -> None:
    assert trained(multimodal_model(), FinalNorm()) == ["model.language_model.norm.weight"]


@pytest.mark.parametrize("targets", [("all-linear",), ("attention", "mlp"), ("q_proj", "fc1")])
@pytest.mark.parametrize("layers", [(), (1,)])
def test_a_vision_encoder_gets_no_adapter(targets: tuple[str, ...], layers: tuple[int, ...]) -> None:
    if "fc1" in targets:  # only the vision encoder has it
        with pytest.raises(SpecError, match="the model has no 'fc1'"):
            prepare(multimodal_model(), LoRA(targets=targets, layers=layers), "reference")
        return
    names = trained(multimodal_model(), LoRA(targets=targets, layers=layers))
    assert len(names) == 7 * 2 * (len(layers) or 2)
    assert all(".language_model.layers." in name for name in names)


def test_a_model_without_a_final_norm_raises_an_error() -> None:
    # OLMo's norms have no parameters.
    with pytest.raises(SpecError, match="FinalNorm: the model does not end in a norm"):
        prepare(model_of("olmo"), FinalNorm(), "reference")


def test_each_choice_trains_its_parameters_and_freezes_all_others() -> None:
    model = model_of("gpt2")
    assert trained(model, Parameters(("transformer.wpe.weight",))) == ["transformer.wpe.weight"]
    assert trained(model, STEERING) == ["transformer.ln_f.bias"]
    assert trained(model, Everything()) == [name for name, _ in model.named_parameters()]


LLAMA_LIKE = (
    ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"],
    ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
)
FUSED = ["attention.query_key_value", "attention.dense"], ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"]
GROUPS = {
    **dict.fromkeys(("llama", "qwen2", "qwen3", "mistral", "olmo2", "gemma3_text"), LLAMA_LIKE),
    "phi3": (["self_attn.o_proj", "self_attn.qkv_proj"], ["mlp.gate_up_proj", "mlp.down_proj"]),
    "gpt_neox": FUSED,
    "gpt2": (["attn.c_attn", "attn.c_proj"], ["mlp.c_fc", "mlp.c_proj"]),
    "opt": ([f"self_attn.{name}" for name in ("k_proj", "v_proj", "q_proj", "out_proj")], ["fc1", "fc2"]),
}


@pytest.mark.parametrize("kind", GROUPS)
def test_groups_are_the_architectures_linear_modules(kind: str) -> None:
    model = model_of(kind)
    attention, mlp = (set(group_names(model, group)) for group in ("attention", "mlp"))
    assert (attention, mlp) == tuple(map(set, GROUPS[kind]))
    adapted = {name.split(".lora_")[0] for name in trained(model, LoRA(targets=("attention",)))}
    assert len(adapted) == len(attention) * 2
    assert all(name.endswith(tuple(attention)) for name in adapted)


@pytest.mark.parametrize(
    ("lora", "scale"), [(LoRA(rank=4, alpha=8), 2), (LoRA(4, 8, rank_stabilised=True), 4)]
)
def test_an_adapter_has_the_recipes_scale(lora: LoRA, scale: float) -> None:
    model = prepare(model_of("llama"), lora, "reference")
    adapter = model.get_submodule("base_model.model.model.layers.1.self_attn.q_proj")
    assert adapter.scaling == {"default": scale} == {"default": lora.scale}


def test_only_the_named_layers_get_an_adapter() -> None:
    for targets in (("mlp",), ("all-linear",), ("down_proj", "attention")):
        names = trained(model_of("llama"), LoRA(targets=targets, layers=(1,)))
        assert names and all("layers.1." in name for name in names)
    assert len(trained(model_of("gpt2"), LoRA(targets=("c_attn",), layers=(0,)))) == 2


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (LoRA(layers=(0, 2)), "LoRA.layers: the model has no block 2; its 2 blocks are 0 to 1"),
        (LoRA(targets=("q_proj", "lm_head")), "the model has no 'lm_head' below its output head; its"),
        (LoRA(targets=("q_pro",)), "LoRA.targets: the model has no 'q_pro' .* there are: down_proj, gate_"),
    ],
)
def test_unknown_targets_and_layers_raise_an_error(lora: LoRA, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        prepare(model_of("llama"), lora, "reference")
