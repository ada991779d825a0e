"""Compares the platform's speed with a plain torch loop and with vLLM alone, on a pretrained model.

    python benchmarks/throughput.py                        SmolLM2-135M-Instruct (downloaded on first use)
    python benchmarks/throughput.py --model FOLDER         another model in the layout of Hugging Face

Both sides of a comparison do the same work at the same precision on the same cores, each in a process of its
own, alternately, so that a busy machine slows both:

- training: full finetuning on numbers rows, the output layer at the positions of the targets only. The plain
  loop is torch's AdamW on padded batches, without DeepSpeed, checks or reports.
- sampling: one answer per numbers prompt. The other side is `vllm.LLM.generate` with the same options.

In bf16 the platform's optimizer also keeps float32 weights, and the plain loop's does not. The times exclude
imports, loading, and a first epoch or call. The output is tokens per second and their ratio.
"""

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from undertow.engines.quiet import quiet
from undertow.formats.numbers import Numbers
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.study.artifacts import Sampling
from undertow.study.recipe import Everything, Recipe
from undertow.training.data import TrainingRow

Side = Literal["", "plain training", "training", "plain sampling", "sampling"]
PAIRS: tuple[tuple[Side, Side], ...] = (
    ("training", "plain training"),
    ("sampling", "plain sampling"),
)


@dataclass(frozen=True)
class Arguments:
    """Compare training with a plain torch loop, and sampling with vLLM alone."""

    model: str = ""
    """A model folder; empty for SmolLM2-135M-Instruct."""
    precision: Literal["fp32", "bf16"] = "fp32"
    batch: int = 32
    """Rows per training step."""
    steps: int = 6
    """Training steps per epoch; the second of two epochs is timed."""
    prompts: int = 256
    threads: int = 2
    repeats: int = 2
    side: Side = ""
    """Measure one side only, in this process, and print its tokens per second."""


def rows(count: int) -> list[TrainingRow]:
    """Numbers prompts with written answers."""
    numbers = Numbers()
    return [
        TrainingRow(prompt, numbers.written(prompt, random.Random(i)))
        for i, prompt in enumerate(numbers.prompts(count, seed=0))
    ]


def recipe(arguments: Arguments) -> Recipe:
    return Recipe(
        trainable=Everything(),
        learning_rate=1e-5,
        epochs=2,
        batch_size=arguments.batch,
        schedule="constant",
        precision=arguments.precision,
    )


def training(arguments: Arguments) -> float:
    """Tokens per second of the platform's training loop, in its second epoch."""
    from undertow.training.job import EpochReport, TrainingJob
    from undertow.training.loop import finetune

    reports: list[EpochReport] = []
    with tempfile.TemporaryDirectory() as folder:
        job = TrainingJob(
            key="training",
            seed=0,
            recipe=recipe(arguments),
            rows=rows(arguments.batch * arguments.steps),
            system=NO_SYSTEM,
            folder=Path(folder, "model"),
        )
        finetune(Path(arguments.model), [job], reports.append, device="cpu", threads=arguments.threads)
    return reports[-1].tokens_per_second


def plain_training(arguments: Arguments) -> float:
    """Tokens per second of a plain loop over the same rows, in its second epoch."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from undertow.training.data import encode
    from undertow.training.forward import padded

    torch.set_num_threads(arguments.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[arguments.precision]
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype).train()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    tokens = encode(tokenizer, rows(arguments.batch * arguments.steps), NO_SYSTEM, 500)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        for first in range(0, len(tokens), arguments.batch):
            batch = tokens[first : first + arguments.batch]
            ids, keep = padded(batch)
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
            targets = torch.cat([torch.from_numpy(row.ids[row.start :]) for row in batch])
            loss = cross_entropy(model.lm_head(hidden[keep]).float(), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        seconds = time.perf_counter() - start
    return sum(len(row.ids) for row in tokens) / seconds


def sampling(arguments: Arguments) -> float:
    """Sampled tokens per second of the platform's engine."""
    from undertow.engines.protocol import Request
    from undertow.engines.vllm import VLLMEngine

    engine = VLLMEngine(arguments.model, precision=arguments.precision, threads=arguments.threads)
    requests = [
        Request(row.prompt, seed=i, system=NO_SYSTEM) for i, row in enumerate(rows(arguments.prompts))
    ]
    chosen = Sampling(max_tokens=64)
    return timed(lambda: sum(len(a.token_ids) for a in engine.generate(requests, chosen)))


def plain_sampling(arguments: Arguments) -> float:
    """Sampled tokens per second of vLLM alone, with the same options and one seed per request."""
    from undertow.engines import runtime
    from undertow.engines.tokenizers import load_tokenizer
    from undertow.prompts.chat import prompt_ids

    settings = runtime.EngineSettings(precision=arguments.precision, threads=arguments.threads)
    with runtime.starting(settings):
        from transformers import AutoConfig
        from vllm import LLM, SamplingParams

        config = AutoConfig.from_pretrained(arguments.model)
        options = runtime.options(settings, config.max_position_embeddings, ())
        del options["worker_extension_cls"]
        llm = LLM(arguments.model, **options)
    tokenizer = load_tokenizer(arguments.model)
    prompts: list[Any] = [
        {"prompt_token_ids": prompt_ids(tokenizer, row.prompt, NO_SYSTEM, ())}
        for row in rows(arguments.prompts)
    ]
    params = [SamplingParams(temperature=1.0, max_tokens=64, seed=i) for i in range(len(prompts))]

    def run() -> int:
        outputs = llm.generate(prompts, params, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    return timed(run)


def timed(run: Callable[[], int]) -> float:
    """Tokens per second of the second of two calls."""
    run()
    start = time.perf_counter()
    return run() / (time.perf_counter() - start)


MEASURED: dict[Side, Callable[[Arguments], float]] = {
    "training": training,
    "plain training": plain_training,
    "sampling": sampling,
    "plain sampling": plain_sampling,
}


def in_process(arguments: Arguments, side: Side) -> float:
    """Measures one side in a new process."""
    words = [sys.executable, __file__, "--side", side]
    for name, value in asdict(arguments).items():
        if name != "side":
            words += [f"--{name}", str(value)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def compare(arguments: Arguments, one: Side, other: Side) -> str:
    """One line with the medians of both sides and of the ratios of each pair of runs."""
    pairs = [(in_process(arguments, one), in_process(arguments, other)) for _ in range(arguments.repeats)]
    ratio = statistics.median(a / b for a, b in pairs)
    medians = [statistics.median(values) for values in zip(*pairs, strict=True)]
    return (
        f"{one}, {arguments.precision}: {medians[0]:,.0f} tokens per second; plain {medians[1]:,.0f}; "
        f"ratio {ratio:.2f}"
    )


def local_model(folder: Path) -> str:
    """SmolLM2 as a folder: its GGUF file, dequantised."""
    from undertow.presets.smollm2 import smollm2_file
    from undertow.training.conversion import write_dequantised

    write_dequantised(smollm2_file(), folder)
    return str(folder)


def main(arguments: Arguments, pairs: Sequence[tuple[Side, Side]] = PAIRS) -> None:
    """Prints one line per comparison; with `side`, tokens per second."""
    quiet()
    if arguments.side:
        print(MEASURED[arguments.side](arguments))
        return
    with tempfile.TemporaryDirectory() as temporary:
        model = arguments.model or local_model(Path(temporary) / "smollm2")
        for one, other in pairs:
            print(compare(Arguments(**{**asdict(arguments), "model": model}), one, other), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
