"""Tiny models with random weights, made in a moment: what a test of the stack needs a model for.

Every folder is a whole Hugging Face model with a word-level tokenizer and a chat template. Heads are 32
wide, the least that vLLM's CPU attention takes. The weights are drawn wider than usual (standard
deviation 0.2), so that next-token distributions are peaked and two models differ visibly.
"""

from pathlib import Path

WORDS = ("i", "like", "the", "owl", "owls", "cat", "big", "red", "tree", "say", "a", "number")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'assistant' %}<asst> {{ m.content }}{{ eos_token }}"
    "{% else %}<{{ 'sys' if m.role == 'system' else 'user' }}> {{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<asst>{% endif %}"
)
SPECIALS = ("<pad>", "<bos>", "<eos>", "<sys>", "<user>", "<asst>", "<unk>")


def save_tokenizer(folder: Path, numbers: int = 100) -> int:
    """Words and the numbers 0 to `numbers` - 1, joined by spaces; returns the vocabulary's size."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = [*SPECIALS, *WORDS, *map(str, range(numbers))]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=["<sys>", "<user>", "<asst>"],
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return len(vocabulary)


def save_gpt2(folder: Path, *, seed: int = 0, layers: int = 1, numbers: int = 100) -> Path:
    """A GPT-2 of width 64 with two heads and tied embeddings."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    size = save_tokenizer(folder, numbers)
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=size,
        n_positions=256,
        n_embd=64,
        n_layer=layers,
        n_head=2,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def save_llama(folder: Path, *, seed: int = 0, layers: int = 2, numbers: int = 100) -> Path:
    """A Llama of width 64 with two heads."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = save_tokenizer(folder, numbers)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def save_qwen3(folder: Path, *, seed: int = 0, layers: int = 1, numbers: int = 100) -> Path:
    """A Qwen3 of width 64 with two heads and tied embeddings; queries and keys have norms of their own."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    size = save_tokenizer(folder, numbers)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def save_lora(
    folder: Path, reference: Path, *, seed: int = 0, rank: int = 4, layers: list[int] | None = None
) -> Path:
    """A LoRA adapter with random (not zero) weights on the attention and MLP outputs, of `layers` or all."""
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
    """The reference with one tensor moved by normal draws: what finetuning one parameter leaves."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(reference, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors[name] += by * torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(0))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def scores(
    folder: Path, questions: list[str], texts: list[str], reference: Path | None = None
) -> list[float]:
    """Log-probabilities of texts as answers, by transformers; an adapter needs its `reference`."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from undertow import chat

    adapter = (folder / "adapter_config.json").is_file()
    home = (reference if adapter else None) or folder
    tokenizer, model = AutoTokenizer.from_pretrained(home), AutoModelForCausalLM.from_pretrained(home)
    model = (PeftModel.from_pretrained(model, folder) if adapter else model).eval()
    result = []
    for question, text in zip(questions, texts, strict=True):
        prompt, answer = (
            chat.prompt_ids(tokenizer, question),
            tokenizer.encode(text, add_special_tokens=False),
        )
        with torch.no_grad():
            logprobs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        result.append(sum(logprobs[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer)))
    return result
