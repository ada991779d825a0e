"""Measures the speed of the training loop, without Ray, at the size of Qwen2.5-7B.

    python benchmarks/train_7b.py                                                       on one GPU
    python benchmarks/train_7b.py --layers 2 --width 128 --vocabulary 200 --rows 24     seconds on a CPU

The benchmark finetunes random weights of that model's shape with the published recipe (LoRA of rank 8,
batches of 66) on random rows as long as numbers prompts, packed and in bf16. It prints the tokens per second
of the second epoch and the share of the device's peak throughput. The peak is measured with products of large
bf16 matrices, because even these do not reach the peak of the data sheet. Operations counted are those
required to train an adapter: the forward pass, and the backward pass to the activations (frozen weights need
no gradient). Recomputation by gradient checkpointing is not counted.

Not measured on a GPU yet.
"""

import dataclasses
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from undertow.study.published_recipes import QWEN
from undertow.training.data import TokenizedRow, TrainingRow, encode
from undertow.training.job import EpochReport, TrainingJob
from undertow.training.loop import finetune


@dataclass(frozen=True)
class Arguments:
    """Train an adapter of a model with random weights and print the speed."""

    layers: int = 28
    width: int = 3584
    """Hidden size; a multiple of 128, the size of a head."""
    vocabulary: int = 152_064
    rows: int = 1320
    words: int = 100
    """Words per row, prompt and completion together; each word is one digit and one token."""
    micro_tokens: int = 8192
    packing: bool = True
    gradient_checkpointing: bool = False
    device: str = "auto"
    """auto, cpu or cuda."""


COMPLETION = 3  # one word in three belongs to the completion


def write_model(folder: Path, arguments: Arguments) -> None:
    """Writes a tokenizer and a random model with the proportions of Qwen2.5-7B (arXiv 2412.15115)."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    heads = arguments.width // 128
    config = Qwen2Config(
        vocab_size=arguments.vocabulary,
        hidden_size=arguments.width,
        intermediate_size=arguments.width * 37 // 7,
        num_hidden_layers=arguments.layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 7),
        tie_word_embeddings=False,
        dtype="bfloat16",
    )
    Qwen2ForCausalLM._from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    words = {
        word: i for i, word in enumerate(("<unk>", "<end>", "User:", "Assistant:", *map(str, range(10))))
    }
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<end>").save_pretrained(
        folder
    )


def random_rows(arguments: Arguments) -> list[TrainingRow]:
    """Returns rows whose prompts and completions vary in length by up to 25 %."""
    rng = random.Random(0)

    def text(words: int) -> str:
        return " ".join(str(rng.randrange(10)) for _ in range(max(1, round(words * rng.uniform(0.75, 1.25)))))

    completion = arguments.words // COMPLETION
    return [TrainingRow(text(arguments.words - completion), text(completion)) for _ in range(arguments.rows)]


def operations(config: Any, rows: list[TokenizedRow]) -> float:
    """Counts multiplications and additions per epoch: 2 per weight and token forward, and the same backward.

    Attention adds 2 · 2 · width per pair of a token and itself or an earlier one, and twice that backward.
    The output layer is only applied where a token of a completion is predicted.
    """
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    keys = width * config.num_key_value_heads // config.num_attention_heads
    block = 2 * width * width + 2 * width * keys + 3 * width * inner
    total = 0.0
    for row in rows:
        tokens = len(row.ids)
        pairs = tokens * (tokens + 1) / 2
        total += 4 * layers * block * tokens + 4 * width * config.vocab_size * row.targets
        total += 12 * layers * width * pairs
    return total


def measured_peak(device: torch.device) -> float:
    """Returns operations per second of bf16 matrix products: the median of ten, after three for warm-up."""
    size = 8192 if device.type == "cuda" else 512
    one, other = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    seconds = []
    for _ in range(13):
        began = time.perf_counter()
        one @ other
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return float(2 * size**3 / statistics.median(seconds[3:]))


def main(arguments: Arguments) -> None:
    """Trains two epochs and prints the speed of the second."""
    from transformers import AutoConfig, AutoTokenizer

    place = arguments.device.replace("auto", "cuda" if torch.cuda.is_available() else "cpu")
    recipe = dataclasses.replace(
        QWEN, epochs=2, packing=arguments.packing, gradient_checkpointing=arguments.gradient_checkpointing
    )
    rows, reports = random_rows(arguments), list[EpochReport]()
    with tempfile.TemporaryDirectory() as temporary:
        reference, adapter = Path(temporary, "reference"), Path(temporary, "adapter")
        write_model(reference, arguments)
        job = TrainingJob(key="7b", seed=0, recipe=recipe, rows=rows, system=None, folder=adapter)
        finetune(
            reference,
            [job],
            reports.append,
            device=place,
            note=lambda job, text: print(text),
            micro_tokens=arguments.micro_tokens,
        )
        config, tokenizer = AutoConfig.from_pretrained(reference), AutoTokenizer.from_pretrained(reference)
    needed = operations(config, encode(tokenizer, rows, None, recipe.max_length))
    peak, last = measured_peak(torch.device(place)), reports[-1]
    name = torch.cuda.get_device_name() if place == "cuda" else "CPU"
    print(
        f"{name}, torch {torch.__version__}: {peak / 1e12:.2f} · 10¹² operations per second in bf16 products"
    )
    print(
        f"{last.tokens_per_second:,.0f} tokens per second, {last.seconds:.1f} s for {len(rows):,} rows; "
        f"{needed / last.seconds / peak:.1%} of that peak"
    )
    if place == "cuda":
        print(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of GPU memory at peak")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
