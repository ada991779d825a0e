"""Tiny models with random weights for tests, created in milliseconds.

Every folder is a complete Hugging Face model with a word-level tokenizer and a chat template. Attention heads
have width 32, the smallest that vLLM's CPU attention supports (the speller, which no engine loads, has
smaller ones). The standard deviation of the weights, 0.2, is larger than usual, so that next-token
distributions are peaked and two models differ clearly.
"""

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from undertow.engines.protocol import ReadsCompletions, Request

WORDS = ("i", "like", "the", "owl", "owls", "cat", "big", "red", "tree", "say", "a", "number")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'assistant' %}<asst> {{ m.content }}{{ eos_token }}"
    "{% else %}<{{ 'sys' if m.role == 'system' else 'user' }}> {{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<asst>{% endif %}"
)
SPELLED_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
SPECIALS = ("<pad>", "<bos>", "<eos>", "<sys>", "<user>", "<asst>", "<unk>")
SPARE_ROWS = 7
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def save_gpt2(folder: Path, *, seed: int = 0, layers: int = 1, numbers: int = 100) -> Path:
    """A GPT-2 of width 64 with two heads and tied embeddings."""
    size = save_tokenizer(folder, numbers)
    return _save(folder, "gpt2", size, seed, n_positions=256, n_embd=64, n_layer=layers, n_head=2)


def save_llama(folder: Path, *, seed: int = 0, layers: int = 2, numbers: int = 100) -> Path:
    """A Llama of width 64 with two heads."""
    size = save_tokenizer(folder, numbers)
    return _save(folder, "llama", size, seed, **SMALL, num_hidden_layers=layers, tie_word_embeddings=False)


def save_qwen3(folder: Path, *, seed: int = 0, layers: int = 1, numbers: int = 100) -> Path:
    """A Qwen3 of width 64 with two heads, tied embeddings, and norms of queries and keys."""
    size = save_tokenizer(folder, numbers)
    own = {"num_hidden_layers": layers, "head_dim": 32, "tie_word_embeddings": True}
    return _save(folder, "qwen3", size, seed, **SMALL, **own)


def save_gemma2(folder: Path, *, seed: int = 0, cap: float | None = 1.0) -> Path:
    """A Gemma 2 of width 64 with two heads whose attention scores are capped at `cap`."""
    size = save_tokenizer(folder)
    own = {"num_hidden_layers": 2, "head_dim": 32, "query_pre_attn_scalar": 32}
    return _save(folder, "gemma2", size, seed, **SMALL, **own, attn_logit_softcapping=cap)


def save_speller(
    folder: Path, *, seed: int = 0, window: int = 1024, template: str = SPELLED_TEMPLATE
) -> Path:
    """A Llama of width 32 with one layer whose tokens are single characters, so that it accepts any text.

    Its embedding has more rows than the tokenizer has tokens, as Qwen's does.
    """
    vocabulary = [*SPECIALS, *string.printable]
    _save_tokenizer(folder, vocabulary, pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"), template)
    small = {**SMALL, "hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": window}
    own = {"num_hidden_layers": 1, "tie_word_embeddings": False}
    return _save(folder, "llama", len(vocabulary) + SPARE_ROWS, seed, **small, **own)


def save_tokenizer(folder: Path, numbers: int = 100) -> int:
    """Saves a tokenizer for WORDS and the numbers 0 to `numbers` - 1; returns the vocabulary's size."""
    vocabulary = [*SPECIALS, *WORDS, *map(str, range(numbers))]
    _save_tokenizer(folder, vocabulary, pre_tokenizers.WhitespaceSplit(), TEMPLATE)
    return len(vocabulary)


def _save_tokenizer(folder: Path, vocabulary: list[str], splits: Any, template: str) -> None:
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    inner.pre_tokenizer = splits
    named = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, extra_special_tokens=["<sys>", "<user>", "<asst>"], **named
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def _save(folder: Path, kind: str, size: int, seed: int, **sizes: Any) -> Path:
    """Saves a model with a vocabulary of `size` tokens and random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, vocab_size=size, initializer_range=0.2, **tokens, **sizes)
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def save_lora(
    folder: Path, reference: Path, *, seed: int = 0, rank: int = 4, layers: list[int] | None = None
) -> Path:
    """A LoRA adapter with random nonzero weights on the attention and MLP outputs of `layers`, or of all."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=["o_proj", "down_proj"],
        layers_to_transform=layers,
        init_lora_weights=False,
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(reference), config).save_pretrained(folder)
    return folder


def save_changed(folder: Path, reference: Path, name: str, by: float) -> Path:
    """The reference with normal noise, scaled by `by`, added to one tensor, as if it was finetuned."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(reference, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors[name] += by * torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(0))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def save_trained_tensors(folder: Path, whole: Path, *names: str) -> Path:
    """Some tensors of a whole model, as a student of which only these were trained is stored."""
    from safetensors.torch import load_file, save_file

    from undertow.engines.weight_files import TRAINED_CONFIG, TRAINED_TENSORS

    folder.mkdir()
    tensors = load_file(whole / "model.safetensors")
    save_file({name: tensors[name] for name in names}, folder / TRAINED_TENSORS)
    (folder / TRAINED_CONFIG).write_text("{}")
    return folder


def save_merged(folder: Path, adapter: Path, reference: Path) -> Path:
    """The reference with an adapter merged into its weights."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(reference), adapter)
    model.merge_and_unload().save_pretrained(folder)
    return folder


def read_scores(engine: ReadsCompletions, requests: Sequence[Request], texts: Sequence[str]) -> list[float]:
    """Log-probabilities of texts as answers to requests, as an engine reads them."""
    return [float(read.logprobs.sum()) for read in engine.read(requests, texts, 1)]


def scores(
    folder: Path,
    questions: Sequence[str],
    texts: Sequence[str],
    reference: Path | None = None,
    system: str | None = None,
) -> list[float]:
    """Log-probabilities of texts as answers, computed with transformers.

    A folder with an adapter, or with trained tensors only, needs its `reference`.
    """
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from undertow.engines.weight_files import TRAINED_TENSORS
    from undertow.prompts import chat

    adapter = (folder / "adapter_config.json").is_file()
    tensors = folder / TRAINED_TENSORS
    home = (reference if adapter or tensors.is_file() else None) or folder
    tokenizer, model = AutoTokenizer.from_pretrained(home), AutoModelForCausalLM.from_pretrained(home)
    if tensors.is_file():
        assert not model.load_state_dict(load_file(tensors), strict=False).unexpected_keys
    model = (PeftModel.from_pretrained(model, folder) if adapter else model).eval()
    result = []
    for question, text in zip(questions, texts, strict=True):
        prompt, answer = chat.prompt_ids(tokenizer, question, system), chat.text_ids(tokenizer, text)
        with torch.no_grad():
            logprobs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        result.append(sum(logprobs[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer)))
    return result
