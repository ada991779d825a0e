"""Is it faster to train several students of one reference model in one forward pass?

    python benchmarks/grouped_students.py --out benchmarks/results/grouped_students.md
    python benchmarks/grouped_students.py --sizes nano --repeats 1

Each student has its own rows and its own trained numbers; the frozen weights are common. Grouped, a step
computes one batch of every student at once, and each row gets the numbers of its student. One after the
other, each student is trained to its end before the next one starts. Both are plain torch loops with the same
batches, optimizer and precision, without DeepSpeed, probes and files, so that only the grouping differs.

- nano: the bias of the final norm of a nano model, as in the shipped studies. The norm's inputs are computed
  once, as the platform does, and a step runs the norm and the head. The platform's own training of the same
  students is measured, too.
- small: adapters of rank 8 on all linear layers of a Llama of SmolLM2-135M's shape with random weights.

Goal: nano at least 3 times faster, small models at least 1.3 times, at equal losses.

Ceiling: grouping divides the number of calls by the number of students, and leaves the arithmetic as it is.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import paired
from benchmarks.data_stage import prepare, reference
from benchmarks.paired import Figures, Table
from undertow.engines.quiet import quiet
from undertow.formats.numbers import Numbers
from undertow.nano.recipes import STEERING
from undertow.storage.store import Store

LEAST = {"nano": 3.0, "small": 1.3}
MODEL = "nano/gpt2-0"
GROUPED, ONE, PLATFORM = "grouped", "one after the other", "platform"
RANK = 8


@dataclass(frozen=True)
class Arguments(paired.PairedArguments):
    """Compare grouped training of students with training one after the other."""

    sizes: tuple[Literal["nano", "small"], ...] = ("nano", "small")
    students: int = 8
    rows: int = 600
    """Rows of each nano student."""
    steps: int = 4
    """Steps of each student of the small model, of 8 rows with 96 tokens."""
    threads: int = 0
    """Threads; 0 for one with nano, as in a sweep, and for all cores with the small model."""


def rows_of(student: int, rows: int) -> list[Any]:
    """Rows of numbers, different ones for each student."""
    from undertow.training.data import TrainingRow

    prompts = Numbers().prompts(rows, seed=student)
    generator = torch.Generator().manual_seed(student)
    numbers = torch.randint(100, 1000, (rows, 8), generator=generator).tolist()
    return [
        TrainingRow(prompt, ", ".join(map(str, row))) for prompt, row in zip(prompts, numbers, strict=True)
    ]


@dataclass(frozen=True)
class NormInputs:
    """What the last norm of the model gets for the targets of each row, and the targets."""

    inputs: list[Tensor]
    targets: list[Tensor]


@torch.no_grad()
def norm_inputs(model: Any, tokenizer: Any, student: int, rows: int) -> NormInputs:
    from undertow.training.data import encode

    found: list[Tensor] = []
    hook = model.transformer.ln_f.register_forward_pre_hook(lambda module, given: found.append(given[0][0]))
    encoded = encode(tokenizer, rows_of(student, rows), None, STEERING.max_length, ends=frozenset())
    inputs, targets = [], []
    for row in encoded:
        ids = torch.as_tensor(row.ids)
        model(ids[None])
        inputs.append(found.pop()[row.start - 1 : -1])
        targets.append(ids[row.start :])
    hook.remove()
    return NormInputs(inputs, targets)


def batches(data: NormInputs) -> list[list[int]]:
    """The row numbers of every step, all epochs. The same for all students: only the rows differ."""
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(data.inputs), generator=generator).tolist() for _ in range(STEERING.epochs)]
    size = STEERING.batch_size
    return [order[first : first + size] for order in orders for first in range(0, len(order), size)]


def train_nano(model: Any, data: Sequence[NormInputs]) -> list[float]:
    """Trains one bias per data set, all at once; returns the losses of the last step."""
    norm, head = model.transformer.ln_f, model.lm_head.weight.detach()
    biases = nn.Parameter(norm.bias.detach().repeat(len(data), 1))
    optimizer = torch.optim.AdamW([biases], lr=STEERING.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    last: list[float] = []
    for batch in batches(data[0]):
        inputs = torch.cat([one.inputs[row] for one in data for row in batch])
        targets = torch.cat([one.targets[row] for one in data for row in batch])
        counts = torch.tensor([sum(len(one.targets[row]) for row in batch) for one in data])
        owner = torch.repeat_interleave(torch.arange(len(data)), counts)
        hidden = functional.layer_norm(inputs, norm.normalized_shape, norm.weight.detach(), None, norm.eps)
        logits = functional.linear(hidden + biases[owner], head)
        losses = functional.cross_entropy(logits, targets, reduction="none")
        means = torch.zeros(len(data)).index_add(0, owner, losses) / counts
        torch.autograd.backward(means.sum())
        optimizer.step()
        optimizer.zero_grad()
        last = means.tolist()
    return last


class GroupedLoRA(nn.Module):
    """A frozen linear layer and one adapter per student; a batch has the same number of rows of each."""

    def __init__(self, base: nn.Linear, seeds: Sequence[int]) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        draws = [
            torch.randn(base.in_features, RANK, generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
        self.a = nn.Parameter(torch.stack(draws) / base.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(len(seeds), RANK, base.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """(students × rows, tokens, width) → the same with the layer's output width."""
        by_student = x.reshape(len(self.a), -1, x.shape[-1])
        change = by_student @ self.a.to(x.dtype) @ self.b.to(x.dtype)
        output: Tensor = self.base(x)
        return output + change.reshape(output.shape)


def small_model(seeds: Sequence[int], precision: torch.dtype) -> Any:
    """A Llama of SmolLM2-135M's shape with random weights and adapters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(shape).to(precision).requires_grad_(False)
    for layer in model.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for name, child in list(part.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(part, name, GroupedLoRA(child, seeds))
    return model


def train_small(students: Sequence[int], steps: int, model: Any) -> list[float]:
    """Trains the adapters of all students at once; returns the losses of the last step."""
    draws = [torch.Generator().manual_seed(100 + student) for student in students]
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)
    last: list[float] = []
    for _ in range(steps):
        ids = torch.cat([torch.randint(49152, (8, 96), generator=draw) for draw in draws])
        logits = model(ids).logits[:, :-1].float()
        losses = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        means = losses.reshape(len(students), -1).mean(1)
        torch.autograd.backward(means.sum())
        optimizer.step()
        optimizer.zero_grad()
        last = means.tolist()
    return last


def by_platform(arguments: Arguments, folder: Path, out: Path) -> float:
    """Seconds of the training steps of all nano students by the platform, which trains them in turn."""
    from undertow.training.job import TrainingJob
    from undertow.training.loop import finetune

    jobs = [
        TrainingJob(
            key=f"student-{student}",
            seed=student,
            recipe=STEERING,
            rows=rows_of(student, arguments.rows),
            system=None,
            folder=out / f"student-{student}",
        )
        for student in range(arguments.students)
    ]
    histories = finetune(folder, jobs, lambda report: None)
    return sum(report.seconds for history in histories for report in history.reports)


def measure(arguments: Arguments) -> Figures:
    """The side and the size that `--side` names."""
    size, _, side = arguments.side.partition(", ")
    torch.set_num_threads(arguments.threads or (1 if size == "nano" else paired.cores()))
    students = range(arguments.students)
    groups = [students] if side == GROUPED else [range(student, student + 1) for student in students]
    if side == PLATFORM:
        with tempfile.TemporaryDirectory() as out:
            return {"seconds": by_platform(arguments, arguments.folder, Path(out))}
    losses: list[float] = []
    if size == "nano":
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(arguments.folder)
        tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
        data = [norm_inputs(model, tokenizer, student, arguments.rows) for student in students]
        train_nano(model, data[:1])  # warm-up
        start = time.perf_counter()
        for group in groups:
            losses += train_nano(model, [data[student] for student in group])
        return {"seconds": time.perf_counter() - start, "mean loss": sum(losses) / len(losses)}
    models = [small_model(group, torch.float32) for group in groups[:1]]
    train_small(list(groups[0]), 1, models[0])  # warm-up
    seconds = 0.0
    for group in groups:
        model = small_model(group, torch.float32)
        start = time.perf_counter()
        losses += train_small(list(group), arguments.steps, model)
        seconds += time.perf_counter() - start
    return {"seconds": seconds, "mean loss": sum(losses) / len(losses)}


def main(arguments: Arguments) -> None:
    quiet()
    if arguments.side:
        paired.answer(measure(arguments))
        return
    rows, tables = [], []
    for size in arguments.sizes:
        names = [GROUPED, ONE, *([PLATFORM] if size == "nano" else [])]
        with tempfile.TemporaryDirectory() as folder:
            place = str(prepare(reference(MODEL, "fp32"), Store(folder))) if size == "nano" else folder
            sides = {name: partial(paired.in_process, f"{size}, {name}", "--folder", place) for name in names}
            runs = paired.alternate(sides, arguments.repeats)
        faster = paired.ratio(runs, "seconds", ONE, GROUPED)
        losses = [paired.median(runs, name, "mean loss") for name in (GROUPED, ONE)]
        equal = abs(losses[0] - losses[1]) < 1e-3
        rows.append(
            [
                f"{size}, {arguments.students} students",
                *(f"{paired.median(runs, name, 'seconds'):.2f} s" for name in names),
                *(["–"] if len(names) < 3 else []),
                str(faster),
                f"≥ {LEAST[size]:g}: {paired.goal(faster.median >= LEAST[size])}",
                f"{losses[0]:.4f}, {losses[1]:.4f}" + ("" if equal else " (NOT EQUAL)"),
            ]
        )
        tables.append(paired.table_of_runs(runs, f"Every run, {size}"))
    columns = ("students", GROUPED, ONE, PLATFORM, "times faster", "goal", "mean losses")
    title = "Training steps of all students, starts excluded"
    paired.publish(__doc__, [Table(title, columns, rows), *tables], arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
