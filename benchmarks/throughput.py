"""How fast are training and sampling, compared with what people would use instead, on a pretrained model?

    python benchmarks/throughput.py --out benchmarks/results/throughput.md      SmolLM2-135M-Instruct, LoRA
    python benchmarks/throughput.py --trainable everything --precision bf16
    python benchmarks/throughput.py --model FOLDER                              a model of your own

All sides do the same work at the same precision on the same cores, each in a process of its own, alternately.
SmolLM2 is downloaded on first use.

- Training on numbers rows, with the loss on completions: the platform's loop; a plain loop of torch's AdamW
  on padded batches, with the output layer at the positions of the targets only; transformers' Trainer; TRL's
  SFTTrainer (the optional extra `trl`; left out if it is not installed).
- Sampling, one answer per numbers prompt: the platform's engine; `vllm.LLM.generate` with the same options.

In bf16 the platform's optimizer also keeps float32 weights, and the plain loop's does not. The times exclude
imports, loading, and a first epoch or call. Tokens are those of the rows, without padding.

Goal: on a CPU at least 0.9 of the tokens per second of the plain loop and of vLLM alone, and at least those
of Trainer and SFTTrainer; on a GPU 1.5 times those of their defaults (see `benchmarks/train_7b.py`).

Ceiling: vLLM alone, for sampling. For training it is not known: the plain loop, which pads every batch to its
longest row, is what a user would write, not the fastest loop.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import paired, plain_trainers
from benchmarks.data_stage import prepare, reference
from benchmarks.paired import Figures, Runs, Table
from undertow.engines.quiet import quiet
from undertow.formats.numbers import Numbers
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.storage.store import Store
from undertow.study.completions import Sampling
from undertow.study.recipe import Everything, LoRA, Recipe, Trainable
from undertow.training.data import TokenizedRow, TrainingRow, encode

LEAST = {"plain loop": 0.9, "Trainer": 1.0, "SFTTrainer": 1.0, "vLLM alone": 0.9}
ADAPTER = LoRA(rank=8, alpha=16)
SAMPLED = Sampling(max_tokens=64)
LONGEST = 500  # tokens per row


@dataclass(frozen=True)
class Arguments(paired.PairedArguments):
    """Compare training and sampling with plain torch, Trainer, SFTTrainer and vLLM alone."""

    model: str = "smollm2"
    """A model folder, a nano model, or smollm2."""
    precision: Literal["fp32", "bf16"] = "fp32"
    trainable: Literal["lora", "everything"] = "lora"
    """LoRA of rank 8 on all linear modules of the blocks, or full finetuning."""
    batch: int = 32
    """Rows per training step."""
    steps: int = 6
    """Training steps per epoch; the second of two epochs is timed."""
    prompts: int = 256
    threads: int = 2

    @property
    def trained(self) -> Trainable:
        return ADAPTER if self.trainable == "lora" else Everything()

    @property
    def dtype(self) -> Any:
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16}[self.precision]


def rows(count: int) -> list[TrainingRow]:
    """Numbers prompts with written answers."""
    numbers = Numbers()
    return [
        TrainingRow(prompt, numbers.written(prompt, random.Random(i)))
        for i, prompt in enumerate(numbers.prompts(count, seed=0))
    ]


def model_and_rows(arguments: Arguments) -> tuple[Any, Any, list[TokenizedRow]]:
    """The model with the trained parameters, its tokenizer, and the tokenized rows, for plain trainings."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from undertow.training.trainable import prepare as with_trained

    torch.set_num_threads(arguments.threads)
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=arguments.dtype).train()
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
    tokens = encode(tokenizer, rows(arguments.batch * arguments.steps), NO_SYSTEM, LONGEST)
    return with_trained(model, arguments.trained, "reference"), tokenizer, tokens


def training(arguments: Arguments) -> Figures:
    """The platform's training loop."""
    from undertow.training.job import EpochReport, TrainingJob
    from undertow.training.loop import finetune

    recipe = Recipe(
        trainable=arguments.trained,
        learning_rate=1e-5,
        epochs=2,
        batch_size=arguments.batch,
        schedule="constant",
        precision=arguments.precision,
    )
    reports: list[EpochReport] = []
    with tempfile.TemporaryDirectory() as folder:
        job = TrainingJob(
            key="training",
            seed=0,
            recipe=recipe,
            rows=rows(arguments.batch * arguments.steps),
            system=NO_SYSTEM,
            folder=Path(folder, "model"),
        )
        finetune(arguments.folder, [job], reports.append, device="cpu", threads=arguments.threads)
    return {"tokens/s": reports[-1].tokens_per_second, "loss": reports[-1].loss or 0.0}


def plain_loop(arguments: Arguments) -> Figures:
    """A plain torch loop over the same rows."""
    import torch
    from torch.nn.functional import cross_entropy

    from undertow.training.forward import padded

    model, _, tokens = model_and_rows(arguments)
    trained = [value for value in model.parameters() if value.requires_grad]
    inner = model.get_base_model() if arguments.trainable == "lora" else model
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    seconds = loss = 0.0
    for _ in range(2):
        start, losses = time.perf_counter(), []
        for first in range(0, len(tokens), arguments.batch):
            batch = tokens[first : first + arguments.batch]
            ids, keep = padded(batch)
            hidden = inner.model(input_ids=ids, use_cache=False).last_hidden_state
            targets = torch.cat([torch.from_numpy(row.ids[row.start :]) for row in batch])
            step = cross_entropy(inner.lm_head(hidden[keep]).float(), targets)
            step.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(step.detach()))
        seconds, loss = time.perf_counter() - start, sum(losses) / len(losses)
    return {"tokens/s": sum(len(row.ids) for row in tokens) / seconds, "loss": loss}


def trainer(arguments: Arguments, *, sft: bool) -> Figures:
    """transformers' Trainer or TRL's SFTTrainer."""
    return plain_trainers.train(
        *model_and_rows(arguments),
        sft=sft,
        limit=LONGEST,
        per_device_train_batch_size=arguments.batch,
        learning_rate=1e-5,
        lr_scheduler_type="constant",
        bf16=arguments.precision == "bf16",
        use_cpu=True,
    )


def sampling(arguments: Arguments) -> Figures:
    """The platform's engine, without Ray."""
    from undertow.engines.protocol import Request
    from undertow.engines.vllm import VLLMEngine

    engine = VLLMEngine(str(arguments.folder), precision=arguments.precision, threads=arguments.threads)
    asked = enumerate(Numbers().prompts(arguments.prompts, seed=0))
    requests = [Request(prompt, seed=i, system=NO_SYSTEM) for i, prompt in asked]
    engine.generate(requests, SAMPLED)
    start = time.perf_counter()
    tokens = sum(len(answer.token_ids) for answer in engine.generate(requests, SAMPLED))
    return {"tokens/s": tokens / (time.perf_counter() - start)}


def plain_sampling(arguments: Arguments) -> Figures:
    """vLLM alone, with the same options and one seed per request."""
    from benchmarks.plain_vllm import PlainEngine

    engine = PlainEngine.start(arguments.folder, threads=arguments.threads, precision=arguments.precision)
    prompts = engine.prompts(Numbers().prompts(arguments.prompts, seed=0), NO_SYSTEM)
    seconds, tokens = engine.second_call(prompts, SAMPLED.max_tokens)
    return {"tokens/s": tokens / seconds}


Side = Callable[[Arguments], Figures]
TRAINING: dict[str, Side] = {
    "training": training,
    "plain loop": plain_loop,
    "Trainer": partial(trainer, sft=False),
    "SFTTrainer": partial(trainer, sft=True),
}
SAMPLING: dict[str, Side] = {"sampling": sampling, "vLLM alone": plain_sampling}


def compared(runs: Runs) -> list[list[str]]:
    """One row per side, relative to the platform's, which is the first."""
    ours, *others = runs
    rows = [[ours, f"{paired.median(runs, ours, 'tokens/s'):,.0f}", "", ""]]
    for side in others:
        speed = f"{paired.median(runs, side, 'tokens/s'):,.0f}"
        figure = paired.ratio(runs, "tokens/s", over=ours, under=side)
        least = LEAST.get(side)
        verdict = f"≥ {least:g}: {paired.goal(figure.median >= least)}" if least else ""
        rows.append([side, speed, str(figure), verdict])
    return rows


def main(arguments: Arguments) -> None:
    quiet()
    if arguments.side:
        paired.answer((TRAINING | SAMPLING)[arguments.side](arguments))
        return
    tables, every = [], []
    with tempfile.TemporaryDirectory() as folder:
        place = str(prepare(reference(arguments.model, arguments.precision), Store(folder)))
        for title, sides in (("Training", dict(TRAINING)), ("Sampling", dict(SAMPLING))):
            if "SFTTrainer" in sides and find_spec("trl") is None:
                print("TRL is not installed: SFTTrainer is left out", file=sys.stderr)
                del sides["SFTTrainer"]
            calls = {side: partial(paired.in_process, side, "--folder", place) for side in sides}
            runs = paired.alternate(calls, arguments.repeats)
            columns = ("", "tokens per second", "platform / this", "goal")
            tables.append(Table(f"{title}, {arguments.precision}", columns, compared(runs)))
            every.append(paired.table_of_runs(runs, f"Every run of {title.lower()}"))
    paired.publish(__doc__, [*tables, *every], arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
