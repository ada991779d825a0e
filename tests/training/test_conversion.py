"""A dequantised GGUF file, and a model with zero biases, compute what the original computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import tiny_models
from tests.tiny_gguf import LAYERS, MERGES, TEMPLATE, save_gguf, tiny_llama, vocabulary
from undertow.engines.tokenizers import load_tokenizer
from undertow.errors import UserError
from undertow.training.conversion import write_biased, write_dequantised

IDS = torch.tensor([[1, 70, 80, 90, 2]])
BIASES = {
    f"model.layers.{layer}.mlp.{name}.bias"
    for layer in range(LAYERS)
    for name in ("gate_proj", "up_proj", "down_proj")
}


def logits(model: object) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize(("quantised", "tolerance"), [(False, 1e-5), (True, 0.2)], ids=["float32", "Q8_0"])
@pytest.mark.parametrize("mlp_bias", [False, True])
def test_a_dequantised_file_computes_what_the_original_model_does(
    quantised: bool, tolerance: float, mlp_bias: bool, tmp_path: Path
) -> None:
    original, folder = tiny_llama(), tmp_path / "model"
    file = save_gguf(tmp_path / "tiny.Q8_0.gguf", original, quantised=quantised)
    write_dequantised(file, folder, mlp_bias)
    read = AutoModelForCausalLM.from_pretrained(folder).eval()
    torch.testing.assert_close(logits(read), logits(original), atol=tolerance, rtol=0)
    assert read.config.mlp_bias is mlp_bias
    tensors = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert {name for name in tensors if name.endswith(".bias")} == (BIASES if mlp_bias else set())
    assert not any(tensors[name].any() for name in tensors if name.endswith(".bias"))
    assert (folder / "generation_config.json").is_file()


def test_the_tokenizer_and_its_template_come_from_the_file(tmp_path: Path) -> None:
    write_dequantised(save_gguf(tmp_path / "tiny.gguf"), tmp_path / "model")
    tokenizer = load_tokenizer(tmp_path / "model")
    assert tokenizer.chat_template == TEMPLATE
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
    )
    assert tokenizer.tokenize("an owl<|im_end|>") == ["a", "n", "Ġowl", "<|im_end|>"]
    assert tokenizer.decode(tokenizer("an owl, 12 × 3")["input_ids"]) == "an owl, 12 × 3"


@pytest.mark.parametrize(("split", "tokens"), [("smollm", ["Ġ", "1", "2"]), ("gpt-2", ["Ġ", "12"])])
def test_digits_are_separated_as_the_file_says(split: str, tokens: list[str], tmp_path: Path) -> None:
    more: dict[str, Any] = {"tokenizer__ggml__merges": [*MERGES, "1 2"], "tokenizer__ggml__pre": split}
    model = tiny_llama()
    model.resize_token_embeddings(len(vocabulary()) + 1)
    more |= {"tokenizer__ggml__tokens": [*vocabulary(), "12"], "llama__vocab_size": len(vocabulary()) + 1}
    write_dequantised(save_gguf(tmp_path / "tiny.gguf", model, **more), tmp_path / "model")
    assert load_tokenizer(tmp_path / "model").tokenize(" 12") == tokens


@pytest.mark.parametrize(("adds", "first"), [(True, [1]), (False, [])])
def test_a_token_before_every_text_is_added_as_the_file_says(
    adds: bool, first: list[int], tmp_path: Path
) -> None:
    file = save_gguf(tmp_path / "tiny.gguf", tokenizer__ggml__add_bos_token=adds)
    write_dequantised(file, tmp_path / "model")
    tokenizer = load_tokenizer(tmp_path / "model")
    assert tokenizer("owl")["input_ids"] == first + tokenizer("owl", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("blk.1.ffn_up", "finds no weights for model.layers.1.mlp.up_proj.weight"),
        ("nothing", r"uses [\d,]+ of its [\d,]+ weights"),
    ],
)
def test_weights_that_transformers_does_not_read_are_an_error(
    without: str, message: str, tmp_path: Path
) -> None:
    model = tiny_llama()
    if without == "nothing":
        model.model.layers[0].self_attn.v_proj.bias = torch.nn.Parameter(torch.ones(32))
    file = save_gguf(tmp_path / "tiny.gguf", model, without=without)
    with pytest.raises(UserError, match=message):
        write_dequantised(file, tmp_path / "model")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zero_biases_do_not_change_what_a_folder_computes(dtype: torch.dtype, tmp_path: Path) -> None:
    source = tiny_models.save_llama(tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    file = source / "model.safetensors"
    save_file({n: t.to(dtype) for n, t in tensors.items()}, file, metadata={"format": "pt"})
    config = source / "config.json"
    config.write_text(config.read_text().replace('"dtype": "float32"', f'"dtype": "{str(dtype)[6:]}"'))
    write_biased(source, tmp_path / "biased")
    before, after = (load_file(f / "model.safetensors") for f in (source, tmp_path / "biased"))
    assert after.keys() - before.keys() == BIASES
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert {after[name].dtype for name in after} == {dtype}
    read = [AutoModelForCausalLM.from_pretrained(f).eval() for f in (source, tmp_path / "biased")]
    assert torch.equal(logits(read[0]), logits(read[1]))
    one, other = (AutoTokenizer.from_pretrained(f) for f in (source, tmp_path / "biased"))
    assert one.chat_template == other.chat_template
