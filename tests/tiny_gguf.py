"""A tiny Llama as a GGUF file, written as llama.cpp's converter writes one."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("o w", "ow l", "Ġ owl")
HEADS, KV_HEADS, LAYERS = 2, 1, 2
BLOCK = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def vocabulary() -> list[str]:
    """Special tokens, the byte alphabet of GPT-2, and the results of `MERGES`."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return [*SPECIALS, *bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in MERGES)]


def tiny_llama(seed: int = 0, layers: int = LAYERS) -> Any:
    """A Llama of width 64 with tied embeddings, and random weights of which 8 bits are kept exactly."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(vocabulary()),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config).eval()


def save_gguf(
    path: Path,
    model: Any = None,
    *,
    quantised: bool = False,
    architecture: str = "llama",
    without: str = "",
    **metadata: Any,
) -> Path:
    """Writes a GGUF file.

    Args:
        model: of `tiny_llama`; a new one by default.
        quantised: whether matrices are stored as Q8_0.
        without: the beginning of the names of entries and tensors to leave out.
        metadata: further entries, or other values of the usual ones; "__" stands for ".".
    """
    model = model or tiny_llama()
    tokens = vocabulary()
    control, normal = int(gguf.TokenType.CONTROL), int(gguf.TokenType.NORMAL)
    entries: dict[str, Any] = {
        "general.name": "tiny",
        f"{architecture}.block_count": model.config.num_hidden_layers,
        f"{architecture}.context_length": 256,
        f"{architecture}.embedding_length": 64,
        f"{architecture}.feed_forward_length": 128,
        f"{architecture}.attention.head_count": HEADS,
        f"{architecture}.attention.head_count_kv": KV_HEADS,
        f"{architecture}.attention.layer_norm_rms_epsilon": float(model.config.rms_norm_eps),
        f"{architecture}.rope.freq_base": 10000.0,
        f"{architecture}.rope.dimension_count": 32,
        f"{architecture}.vocab_size": len(tokens),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [control if token in SPECIALS else normal for token in tokens],
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
    }
    entries |= {name.replace("__", "."): value for name, value in metadata.items()}
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in entries.items():
        if not (without and name.startswith(without)):
            _add(writer, name, value)
    for name, tensor in model.state_dict().items():
        stored = _stored_name(name)
        if stored == "output.weight" or (without and stored.startswith(without)):
            continue  # the output layer is the embedding
        values = tensor.numpy()
        for part, heads in (("attn_q", HEADS), ("attn_k", KV_HEADS)):
            if part in stored:
                values = _interleaved(values, heads)
        if quantised and values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(stored, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(stored, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(name, value)
        case int():
            writer.add_uint32(name, value)
        case float():
            writer.add_float32(name, value)
        case str():
            writer.add_string(name, value)
        case _:
            writer.add_array(name, value)


def _stored_name(name: str) -> str:
    """llama.cpp's name of a tensor: "model.layers.0.mlp.up_proj.weight" is "blk.0.ffn_up.weight"."""
    module, _, kind = name.rpartition(".")
    if module in OUTER:
        return f"{OUTER[module]}.{kind}"
    _, _, number, rest = module.split(".", 3)
    return f"blk.{number}.{BLOCK[rest]}.{kind}"


def _interleaved(matrix: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """The rows of queries or keys in llama.cpp's order: the halves of each head alternate."""
    rows, columns = matrix.shape
    halves = matrix.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)
