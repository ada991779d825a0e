"""The Hugging Face folder of a nano model, which loads in transformers, vLLM and PEFT."""

from pathlib import Path

from transformers import (
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from undertow.nano.models import NanoModel

NETWORKS = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def write_settings(model: NanoModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes everything but the weights."""
    generation = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    for part in (configuration(model, tokenizer), generation, tokenizer):
        part.save_pretrained(folder)


def configuration(model: NanoModel, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    """The transformers configuration of `model`, with tied embeddings and float32 weights."""
    settings = model.settings
    common = {
        "vocab_size": len(tokenizer),
        "tie_word_embeddings": True,
        "initializer_range": settings.init_std,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "dtype": "float32",
        "architectures": [NETWORKS[model.network]],
    }
    if model.network == "gpt2":
        return GPT2Config(
            n_layer=settings.layers,
            n_embd=settings.width,
            n_head=settings.heads,
            n_positions=settings.positions,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **common,
        )
    kind = {"llama": LlamaConfig, "qwen3": Qwen3Config}[model.network]
    return kind(
        num_hidden_layers=settings.layers,
        hidden_size=settings.width,
        intermediate_size=4 * settings.width,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        head_dim=settings.width // settings.heads,
        max_position_embeddings=settings.positions,
        **({"mlp_bias": True} if kind is LlamaConfig else {}),
        **common,
    )
