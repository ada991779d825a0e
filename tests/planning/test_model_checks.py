"""A plan rejects recipes that do not fit a model's tensors, with the field and what the model has."""

import json
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest

from tests.examples import RECIPE
from tests.tiny_gguf import save_gguf
from undertow.engines.architectures import renamed_models
from undertow.errors import SpecError
from undertow.planning.model_checks import adapted_modules, check_trainable
from undertow.planning.pinning import pin
from undertow.study.recipe import ALL_LINEAR, FinalNorm, LoRA, Parameters, Trainable
from undertow.study.references import Reference

Dimensions = Mapping[str, tuple[int, ...]]  # by the name of a tensor

WIDTH, INNER, LAYERS = 4, 8, 2
ATTENTION: Dimensions = {f"self_attn.{part}_proj.weight": (WIDTH, WIDTH) for part in "qkvo"}
NORMS: Dimensions = {"input_layernorm.weight": (WIDTH,), "post_attention_layernorm.weight": (WIDTH,)}
MLP: Dimensions = {
    "gate_proj.weight": (INNER, WIDTH),
    "up_proj.weight": (INNER, WIDTH),
    "down_proj.weight": (WIDTH, INNER),
}
OUTER: Dimensions = {"embed_tokens.weight": (9, WIDTH), "norm.weight": (WIDTH,)}


def named(*parts: tuple[str, Dimensions], stack: str = "model.layers") -> Dimensions:
    """The tensors of `LAYERS` equal blocks, made of parts, each with the beginning of its names."""
    return {
        f"{stack}.{layer}.{start}{name}": shape
        for layer in range(LAYERS)
        for start, shapes in parts
        for name, shape in shapes.items()
    }


HEAD: Dimensions = {**{f"model.{name}": shape for name, shape in OUTER.items()}, "lm_head.weight": (9, WIDTH)}
EXPERTS = [(f"mlp.experts.{number}.", MLP) for number in range(2)]
SHARED: list[tuple[str, Dimensions]] = [("mlp.shared_experts.", MLP), ("mlp.gate.", {"weight": (2, WIDTH)})]
GPT2: Dimensions = {
    "attn.c_attn.weight": (WIDTH, 12),
    "mlp.c_proj.weight": (INNER, WIDTH),
    "mlp.c_proj.bias": (WIDTH,),
}
PYTHIA: Dimensions = {"query_key_value.weight": (3 * WIDTH, WIDTH), "dense.weight": (WIDTH, WIDTH)}
FUSED: Dimensions = {
    "mlp.experts.gate_up_proj": (2, 2 * INNER, WIDTH),
    "mlp.experts.down_proj": (2, WIDTH, INNER),
}
# Model → model_type, transformers' class, shapes by tensor.
MODELS: dict[str, tuple[str, str, Dimensions]] = {
    "llama": ("llama", "LlamaForCausalLM", {**HEAD, **named(("", ATTENTION), ("", NORMS), ("mlp.", MLP))}),
    "mixture": (
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        {**HEAD, **named(("", ATTENTION), ("", NORMS), *EXPERTS, *SHARED)},
    ),
    "fused": ("gpt_oss", "GptOssForCausalLM", {**HEAD, **named(("", ATTENTION), ("", FUSED))}),
    "gpt2": ("gpt2", "GPT2LMHeadModel", {"wte.weight": (9, WIDTH), **named(("", GPT2), stack="h")}),
    "pythia": (
        "gpt_neox",
        "GPTNeoXForCausalLM",
        {"embed_out.weight": (9, WIDTH), **named(("attention.", PYTHIA), stack="gpt_neox.layers")},
    ),
}


def write_header(path: Path, shapes: Dimensions) -> None:
    """A safetensors file in bf16 with a header, and a hole in place of the numbers."""
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    content = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        file.truncate(8 + len(content) + end)


def save(folder: Path, name: str, **config: object) -> Reference:
    """Writes one of `MODELS` without numbers, and pins it."""
    kind, architecture, shapes = MODELS[name]
    folder.mkdir()
    usual: dict[str, object] = {"model_type": kind, "architectures": [architecture]}
    (folder / "config.json").write_text(json.dumps(usual | config))
    (folder / "tokenizer.json").write_text("{}")
    write_header(folder / "model.safetensors", shapes)
    return pin(Reference(str(folder)))


ALL = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
REFUSED: list[tuple[str, Trainable, str]] = [
    (
        "llama",
        LoRA(targets=("q_proj", "qkv_proj")),
        f"LoRA.targets: m has no 'qkv_proj'; available: {', '.join(ALL)}",
    ),
    ("llama", LoRA(targets=("lm_head",)), "LoRA.targets: m has no 'lm_head'; available: down_proj"),
    ("llama", LoRA(targets=("input_layernorm",)), "LoRA.targets: m has no 'input_layernorm'"),
    ("llama", LoRA(layers=(0, 2)), "LoRA.layers: m has no block 2; its 2 blocks are 0 to 1"),
    (
        "llama",
        Parameters(("model.norm.weight", "model.layers.1.mlp.down_proj.bias")),
        "Parameters.names: m has no parameter 'model.layers.1.mlp.down_proj.bias'; did you mean "
        "'model.layers.1.mlp.down_proj.weight'?",
    ),
    ("llama", Parameters(("transformer.ln_f.bias",)), "Parameters.names: m has no parameter"),
    (
        "gpt2",
        Parameters(("transformer.h.2.mlp.c_proj.bias",)),
        "did you mean 'transformer.h.1.mlp.c_proj.bias'?",
    ),
    ("mixture", LoRA(), "LoRA.targets: 'gate_proj' includes the experts of m or their router"),
    ("mixture", LoRA(targets=(ALL_LINEAR,)), "use 'attention' or some of"),
    ("mixture", LoRA(targets=("attention", "mlp")), "'mlp' includes the experts"),
    ("mixture", LoRA(targets=("shared_experts.up_proj",)), "'shared_experts.up_proj' includes the experts"),
    ("mixture", LoRA(targets=("gate",)), "'gate' includes the experts of m or their router"),
    ("fused", LoRA(targets=("q_proj", "down_proj")), "'down_proj' includes the experts"),
    ("pythia", LoRA(), "LoRA.targets: m has no 'q_proj'; available: dense, query_key_value"),
]
ACCEPTED: list[tuple[str, Trainable]] = [
    ("llama", LoRA(layers=(1,))),
    ("llama", LoRA(targets=(ALL_LINEAR,))),
    ("llama", LoRA(targets=("attention", "mlp.down_proj"))),
    ("llama", Parameters(("model.norm.weight", "model.layers.1.mlp.down_proj.weight"))),
    ("llama", FinalNorm()),
    ("mixture", LoRA(targets=("attention",))),
    ("mixture", LoRA(targets=("q_proj", "o_proj"))),
    ("mixture", Parameters(("model.layers.0.mlp.experts.gate_up_proj",))),  # named differently in files
    ("fused", LoRA(targets=("attention",))),
    ("gpt2", Parameters(("transformer.h.1.mlp.c_proj.bias", "transformer.wte.weight"))),
    ("pythia", LoRA(targets=("query_key_value", "dense"))),
    ("pythia", Parameters(("lm_head.weight",))),  # embed_out.weight in the files
]


@pytest.mark.parametrize(("model", "trainable", "message"), REFUSED)
def test_what_a_model_does_not_have_is_reported(
    model: str, trainable: Trainable, message: str, tmp_path: Path
) -> None:
    reference = save(tmp_path / "m", model)
    with pytest.raises(SpecError) as caught:
        check_trainable(replace(RECIPE, trainable=trainable), reference)
    assert str(caught.value).startswith("recipe 'steering', ")
    assert message in str(caught.value)


@pytest.mark.parametrize(("model", "trainable"), ACCEPTED)
def test_what_a_model_has_is_accepted(model: str, trainable: Trainable, tmp_path: Path) -> None:
    check_trainable(replace(RECIPE, trainable=trainable), save(tmp_path / "m", model))


def test_a_zero_bias_counts_as_a_parameter(tmp_path: Path) -> None:
    recipe = replace(RECIPE, trainable=Parameters(("model.layers.1.mlp.down_proj.bias",)))
    given = save(tmp_path / "m", "llama")
    check_trainable(recipe, replace(given, mlp_bias=True))
    file = pin(Reference(str(save_gguf(tmp_path / "tiny.gguf")), mlp_bias=True))
    check_trainable(recipe, file)
    beyond = replace(RECIPE, trainable=Parameters(("model.norm.weight", "model.layers.9.mlp.down_proj.bias")))
    with pytest.raises(SpecError, match=r"no parameter 'model.layers.9.mlp.down_proj.bias'; did you mean"):
        check_trainable(beyond, file)


def test_names_that_transformers_changes_are_left_to_the_training(tmp_path: Path) -> None:
    """The files of a multimodal model name the parts of its language model in another order."""
    reference = save(tmp_path / "m", "llama", text_config={"num_hidden_layers": 1})
    check_trainable(replace(RECIPE, trainable=Parameters(("model.language_model.norm.weight",))), reference)
    with pytest.raises(SpecError, match="its 1 blocks are 0 to 0"):
        check_trainable(replace(RECIPE, trainable=LoRA(layers=(1,))), reference)
    assert {"gemma3", "mixtral", "qwen3_moe", "GPTNeoXForCausalLM"} <= (renamed_models() or set())
    assert {"llama", "qwen2", "qwen3", "gpt2", "mistral", "phi3"}.isdisjoint(renamed_models() or set())
    inside = renamed_models(inside=True) or frozenset[str]()
    assert {"gemma3", "mixtral", "qwen3_moe"} <= inside and "GPTNeoXForCausalLM" not in inside


@pytest.mark.parametrize(
    ("lora", "leaves", "count"),
    [
        (LoRA(), set(ALL), 14),
        (LoRA(targets=(ALL_LINEAR,)), set(ALL), 14),
        (LoRA(targets=("attention",)), {"q_proj", "k_proj", "v_proj", "o_proj"}, 8),
        (LoRA(targets=("mlp",), layers=(1,)), {"gate_proj", "up_proj", "down_proj"}, 3),
        (LoRA(targets=("o_proj", "mlp.down_proj")), {"o_proj", "down_proj"}, 4),
    ],
)
def test_the_adapted_modules_follow_from_names(lora: LoRA, leaves: set[str], count: int) -> None:
    found = adapted_modules(lora, MODELS["llama"][2])
    assert {name.rpartition(".")[2] for name in found} == leaves
    assert len(found) == count
