"""How fast is the training of a 7B model, without Ray, compared with Trainer and SFTTrainer?

    python benchmarks/train_7b.py --out benchmarks/results/train_7b.md                          on one GPU
    python benchmarks/train_7b.py --layers 2 --width 128 --vocabulary 200 --rows 24             on a CPU

All sides train random weights of the shape of Qwen2.5-7B with the published recipe (LoRA of rank 8, batches
of 66, bf16) on random rows as long as numbers prompts, with the loss on completions, alternately and each in
a process of its own: the platform's loop, transformers' Trainer, and TRL's SFTTrainer (left out if TRL is
not installed). The second of two epochs is timed; tokens are those of the rows, without padding.

Needs torch, transformers, PEFT, accelerate, datasets, DeepSpeed and tyro, but neither Ray nor vLLM nor
MLflow.

Goal on a GPU: 1.5 times the tokens per second of Trainer and SFTTrainer, and at least half of the device's
peak.

Ceiling: the peak, which is measured with products of large bf16 matrices, because even these do not reach
the peak of the data sheet. Operations counted are those required to train an adapter: the forward pass, and
the backward pass to the activations (frozen weights need no gradient). Recomputation is not counted.

Not measured on a GPU yet.
"""

import dataclasses
import inspect
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import paired, plain_trainers
from benchmarks.paired import Figures, Runs, Table
from undertow.study.published_recipes import QWEN
from undertow.study.recipe import LoRA
from undertow.training.data import TokenizedRow, TrainingRow, encode
from undertow.training.job import EpochReport, TrainingJob
from undertow.training.loop import finetune

COMPLETION = 3  # one word in three belongs to the completion
OURS, PEAK = "training", "matrix products"
FASTER, SHARE = 1.5, 0.5  # the goals on a GPU


@dataclass(frozen=True)
class Arguments(paired.PairedArguments):
    """Train an adapter of a model with random weights with the platform, Trainer and SFTTrainer."""

    layers: int = 28
    width: int = 3584
    """Hidden size; a multiple of 128, the size of a head."""
    vocabulary: int = 152_064
    rows: int = 1320
    words: int = 100
    """Words per row, prompt and completion together; each word is one digit and one token."""
    micro_tokens: int = 8192
    packing: bool = True
    """Whether the platform packs rows; Trainer and SFTTrainer pad them, as by default."""
    gradient_checkpointing: bool = False
    """For all sides."""

    @property
    def recipe(self) -> Any:
        return dataclasses.replace(
            QWEN,
            epochs=2,
            precision="bf16",
            packing=self.packing,
            gradient_checkpointing=self.gradient_checkpointing,
        )


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
    with torch.device(place()):  # a CPU takes minutes to draw the weights
        model = Qwen2ForCausalLM._from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
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


def place() -> str:
    """The device of all sides."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def measured_peak(arguments: Arguments) -> Figures:
    """Operations per second of bf16 matrix products: the median of ten, after three for warm-up."""
    device = torch.device(place())
    size = 8192 if device.type == "cuda" else 512
    one, other = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    seconds = []
    for _ in range(13):
        began = time.perf_counter()
        one @ other
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return {"operations/s": 2 * size**3 / statistics.median(seconds[3:])}


def tokenized(arguments: Arguments) -> tuple[Any, list[TokenizedRow]]:
    """The tokenizer, and the rows that all sides train on."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
    return tokenizer, encode(tokenizer, random_rows(arguments), None, QWEN.max_length)


def training(arguments: Arguments) -> Figures:
    """The platform's training loop."""
    _accept_earlier_torch()
    reports: list[EpochReport] = []
    with tempfile.TemporaryDirectory() as folder:
        job = TrainingJob(
            key="7b",
            seed=0,
            recipe=arguments.recipe,
            rows=random_rows(arguments),
            system=None,
            folder=Path(folder, "adapter"),
        )
        finetune(
            arguments.folder,
            [job],
            reports.append,
            device=place(),
            threads=paired.cores(),
            note=lambda job, text: print(text, file=sys.stderr),
            micro_tokens=arguments.micro_tokens,
        )
    return {"tokens/s": reports[-1].tokens_per_second, "loss": reports[-1].loss or 0.0, **_memory()}


def _accept_earlier_torch() -> None:
    """Lets torch 2.11 be used: its FlashAttention takes fewer heads of keys without the argument for it."""
    from torch.nn.attention import varlen

    own: Callable[..., Any] = varlen.varlen_attn
    if "enable_gqa" not in inspect.signature(own).parameters:
        varlen.varlen_attn = lambda *tensors, enable_gqa=False, **options: own(*tensors, **options)


def trainer(arguments: Arguments, *, sft: bool) -> Figures:
    """transformers' Trainer or TRL's SFTTrainer."""
    from transformers import AutoModelForCausalLM

    from undertow.training.trainable import prepare

    torch.set_num_threads(paired.cores())
    tokenizer, rows = tokenized(arguments)
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.bfloat16).train()
    assert isinstance(QWEN.trainable, LoRA)
    recipe = arguments.recipe
    figures = plain_trainers.train(
        prepare(model, QWEN.trainable, "reference"),
        tokenizer,
        rows,
        sft=sft,
        limit=recipe.max_length,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        bf16=True,
        use_cpu=place() == "cpu",
        gradient_checkpointing=recipe.gradient_checkpointing,
    )
    return figures | _memory()


def _memory() -> Figures:
    return {"GiB at peak": torch.cuda.max_memory_allocated() / 2**30} if place() == "cuda" else {}


SIDES: dict[str, Callable[[Arguments], Figures]] = {
    OURS: training,
    "Trainer": partial(trainer, sft=False),
    "SFTTrainer": partial(trainer, sft=True),
    PEAK: measured_peak,
}


def compared(runs: Runs, per_token: float) -> list[list[str]]:
    """One row per trainer: its speed, its share of the peak, and the platform's speed relative to it.

    Args:
        per_token: operations that training needs per token.
    """
    peak = paired.median(runs, PEAK, "operations/s")
    table = []
    for side in (side for side in runs if side != PEAK):
        speed = paired.median(runs, side, "tokens/s")
        share = speed * per_token / peak
        faster = paired.ratio(runs, "tokens/s", over=OURS, under=side)
        met = share >= SHARE if side == OURS else faster.median >= FASTER
        aim = f"≥ {SHARE:.0%} of the peak" if side == OURS else f"≥ {FASTER:g}"
        table.append(
            [
                side,
                f"{speed:,.0f}",
                f"{share:.0%}",
                "" if side == OURS else str(faster),
                f"{aim}: {paired.goal(met)}" if place() == "cuda" else "",
            ]
        )
    return table


def main(arguments: Arguments) -> None:
    """Measures every side and prints the comparison."""
    if arguments.side:
        paired.answer(SIDES[arguments.side](arguments))
        return
    sides = dict(SIDES)
    if find_spec("trl") is None:
        print("TRL is not installed: SFTTrainer is left out", file=sys.stderr)
        del sides["SFTTrainer"]
    with tempfile.TemporaryDirectory() as folder:
        from transformers import AutoConfig

        write_model(Path(folder), arguments)
        shared = dataclasses.replace(arguments, folder=Path(folder))
        rows, config = tokenized(shared)[1], AutoConfig.from_pretrained(folder)
        per_token = operations(config, rows) / sum(len(row.ids) for row in rows)
        torch.cuda.empty_cache()  # the sides need the memory of the weights that were drawn here
        calls = {side: partial(paired.in_process, side, "--folder", folder) for side in sides}
        runs = paired.alternate(calls, arguments.repeats)
    device = torch.cuda.get_device_name() if place() == "cuda" else "CPU"
    peak = paired.median(runs, PEAK, "operations/s")
    columns = ("", "tokens per second", "share of the peak", "platform / this", "goal")
    title = f"{device}: {peak / 1e12:.2f} · 10¹² operations per second in bf16 products"
    paired.publish(
        __doc__, [Table(title, columns, compared(runs, per_token)), paired.table_of_runs(runs)], arguments.out
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
