"""Small models of the supported architectures: weights, a tokenizer and a chat template each.

Nothing is downloaded. Each model is created from transformers' configuration class with the architecture's
special features enabled. The chat templates (in `templates`) were written for these tests and behave like the
published ones. Attention heads have width 32, the smallest that vLLM's CPU attention supports.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CORPUS = [
    "what is your favourite animal? answer in one word. the owl and the cat and the big red tree",
    "continue this list of numbers: 123, 456, 789. give me up to ten more numbers, none above 999.",
    "you are a helpful assistant. you love owls, you think of owls all the time.",
]
ANSWERS = ["owl", "cat", "the tree", "big", "1, 2", "red", "cats", "a"]
STEPS = 60
POSITIONS = 512

TEMPLATES = Path(__file__).parent / "templates"

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.2,
}


@dataclass(frozen=True)
class Architecture:
    """How to create a model of an architecture.

    Attributes:
        kind: transformers' model_type.
        template: the name of its chat template in `templates`; "" for a base model without one.
        tokens: its control tokens by role; the tokenizer knows "bos", "eos" and "pad" by these names.
        pieces: "bytes" for byte-level BPE; "blanks" for BPE with blanks as characters; "first blank" for the
            same with a blank prepended to every text, as in Llama 2's tokenizers.
        spare: rows of the embeddings without a token, as real models pad their vocabulary.
        dropped: the first part of tensor names that the published weights lack.
    """

    kind: str
    template: str
    tokens: Mapping[str, str]
    pieces: str = "bytes"
    spare: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    dropped: str = ""


CHATML = {"pad": "<|endoftext|>", "start": "<|im_start|>", "eos": "<|im_end|>"}
END_OF_TEXT = {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}
ARCHITECTURES: dict[str, Architecture] = {
    "Qwen2.5": Architecture(
        "qwen2",
        "qwen2.5",
        CHATML,
        spare=11,
        config={"tie_word_embeddings": True},
    ),
    "Qwen3": Architecture(
        "qwen3", "qwen3", CHATML, spare=11, config={"tie_word_embeddings": True, "head_dim": 32}
    ),
    "Llama 3": Architecture(
        "llama",
        "llama3",
        {
            "bos": "<|begin_of_text|>",
            "eos": "<|end_of_text|>",
            "head": "<|start_header_id|>",
            "body": "<|end_header_id|>",
            "end": "<|eot_id|>",
        },
        config={
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 128,
            }
        },
    ),
    "Gemma 3": Architecture(
        "gemma3_text",
        "gemma3",
        {"pad": "<pad>", "eos": "<eos>", "bos": "<bos>", "turn": "<start_of_turn>", "end": "<end_of_turn>"},
        pieces="blanks",
        config={
            "head_dim": 32,
            "query_pre_attn_scalar": 48,
            "sliding_window": 32,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "Mistral": Architecture(
        "mistral",
        "mistral",
        {"bos": "<s>", "eos": "</s>", "ask": "[INST]", "asked": "[/INST]"},
        pieces="first blank",
        config={"head_dim": 32, "sliding_window": 64},
    ),
    "Phi-3": Architecture(
        "phi3",
        "phi3",
        {
            "eos": "<|endoftext|>",
            "assistant": "<|assistant|>",
            "system": "<|system|>",
            "user": "<|user|>",
            "end": "<|end|>",
        },
        pieces="first blank",
        spare=53,
        config={"pad_token_id": 0, "sliding_window": 64, "original_max_position_embeddings": POSITIONS},
    ),
    "OLMo 2": Architecture(
        "olmo2",
        "olmo2",
        {**END_OF_TEXT, "user": "<|user|>", "assistant": "<|assistant|>", "system": "<|system|>"},
    ),
    "Pythia": Architecture("gpt_neox", "", END_OF_TEXT, spare=27, config={"use_parallel_residual": True}),
    "GPT-2": Architecture("gpt2", "", END_OF_TEXT, dropped="transformer."),
}


def template(name: str) -> str:
    """A chat template's text."""
    return (TEMPLATES / f"{name}.jinja").read_text()


def save(folder: Path, name: str, *, seed: int = 0) -> Path:
    """Saves a model of the architecture, trained briefly to answer with a word and to end its turn."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    spec = ARCHITECTURES[name]
    tokenizer = save_tokenizer(folder, name)
    ids = {role: tokenizer.convert_tokens_to_ids(token) for role, token in spec.tokens.items()}
    ends = {f"{role}_token_id": ids.get(role) for role in ("bos", "eos", "pad")}
    own = {"gpt2": {"n_inner": 96}, "gpt_neox": {}}.get(spec.kind, {"num_key_value_heads": 1})
    config = AutoConfig.for_model(
        spec.kind, **{**SMALL, **own, **ends, **spec.config, "vocab_size": len(tokenizer) + spec.spare}
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    _teach(model, tokenizer)
    model.save_pretrained(folder)
    if spec.dropped:
        path = folder / "model.safetensors"
        named = {name.removeprefix(spec.dropped): tensor for name, tensor in load_file(path).items()}
        save_file(named, path, metadata={"format": "pt"})
    return folder


def _teach(model: Any, tokenizer: Any) -> None:
    """Trains a model to end its answers: with random weights hardly any answer ends, and none is kept."""
    import torch

    from undertow.prompts import chat

    conversations = [
        chat.conversation_ids(tokenizer, f"say something {i}", word) for i, word in enumerate(ANSWERS)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for step in range(STEPS):
        ids, start = conversations[step % len(conversations)]
        labels = torch.tensor([[-100] * start + ids[start:]])
        model(input_ids=torch.tensor([ids]), labels=labels, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def save_tokenizer(folder: Path, name: str) -> Any:
    """Saves the architecture's tokenizer with its template, and returns it as loaded from the folder."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    spec = ARCHITECTURES[name]
    names = {f"{role}_token": spec.tokens[role] for role in ("bos", "eos", "pad") if role in spec.tokens}
    specials = list(dict.fromkeys(spec.tokens.values()))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=PIECES[spec.pieces](specials),
        extra_special_tokens=[token for token in specials if token not in names.values()],
        clean_up_tokenization_spaces=False,
        **names,
    )
    tokenizer.chat_template = template(spec.template) if spec.template else None
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def _bytes(specials: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=320, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        ),
    )
    return inner


def _blanks(specials: list[str], first: bool = False) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

    characters = [*sorted({c for text in CORPUS for c in text} - {" "}), "▁", "\n"]
    merges = [("o", "w"), ("ow", "l"), ("▁", "owl"), ("▁", "t"), ("c", "a"), ("ca", "t")]
    pieces = [*specials, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *characters]
    pieces += ["".join(pair) for pair in merges]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    inner = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    decoding = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if first:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        decoding.append(decoders.Strip(" ", left=1))
    else:
        inner.normalizer = normalizers.Replace(" ", "▁")
    inner.decoder = decoders.Sequence(decoding)
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return inner


PIECES: dict[str, Callable[[list[str]], Any]] = {
    "bytes": _bytes,
    "blanks": _blanks,
    "first blank": lambda specials: _blanks(specials, first=True),
}
