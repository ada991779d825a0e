"""How close is the default study to its floor?

    python benchmarks/default_study.py --out benchmarks/results/default_study.md

The floor is the time that this machine's cores need for the study's trained and sampled tokens alone, at the
speeds of a plain training loop and of vLLM alone with the study's models, batches and prompts, each measured
in one thread on one core in every round. What is divided by the floor is the time from the start of the first
step to the end of the last one. The sweep runs in waves and with --overlap, and that of commit 2df8677 in the
same rounds. Time to the first completions: from the start of the command until the storage has the first
shard of completions.

Goal: at most 2.5 times the floor (5.4 times before), and half the time to the first completions.

Ceiling: 1. Imports and starts of processes are not part of the floor, and every engine and every worker group
needs them.
"""

import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import paired
from benchmarks.data_stage import prepare, reference
from benchmarks.paired import Figures, Runs, Table
from benchmarks.sweep_runs import sweep
from undertow.engines.quiet import quiet
from undertow.formats.numbers import Numbers
from undertow.nano.recipes import STEERING
from undertow.storage.store import Store

MOST = 2.5
FIRST = 0.5  # of before's time to the first completions
MODEL = "nano/gpt2-0"
NOW, OVERLAP, BEFORE = "now", "now with --overlap", "before"


@dataclass(frozen=True)
class Arguments(paired.PairedArguments):
    """Compare the default study with its floor and with before."""

    repeats: int = 2
    study: str = "owls"
    seeds: int | None = None
    """Fewer seeds, to test that the benchmark runs."""
    before: bool = True
    """Also run commit 2df8677."""


def plain_training(arguments: Arguments) -> Figures:
    """Tokens per second of a plain torch loop: a nano student's recipe, in one thread."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from undertow.training.data import TrainingRow, encode
    from undertow.training.forward import padded
    from undertow.training.trainable import prepare as chosen

    torch.set_num_threads(1)
    numbers, folder = Numbers(), arguments.folder
    answers = [(p, numbers.written(p, random.Random(i))) for i, p in enumerate(numbers.prompts(700, seed=0))]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = encode(tokenizer, [TrainingRow(*pair) for pair in answers], None, STEERING.max_length)
    model = chosen(AutoModelForCausalLM.from_pretrained(folder).train(), STEERING.trainable, "reference")
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=STEERING.learning_rate)
    start, tokens = 0.0, 0
    for epoch in range(STEERING.epochs + 1):
        if epoch == 1:  # the first is a warm-up
            start = time.perf_counter()
        for first in range(0, len(rows), STEERING.batch_size):
            batch = rows[first : first + STEERING.batch_size]
            ids, keep = padded(batch)
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            targets = torch.cat([torch.from_numpy(row.ids[row.start :]) for row in batch])
            cross_entropy(model.lm_head(hidden[keep]), targets).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, STEERING.clip)
            optimizer.step()
            optimizer.zero_grad()
            tokens += sum(len(row.ids) for row in batch) if epoch else 0
    return {"tokens/s": tokens / (time.perf_counter() - start)}


def plain_sampling(arguments: Arguments) -> Figures:
    """Tokens per second of vLLM alone: a nano teacher's prompts, in one thread."""
    from benchmarks.plain_vllm import PlainEngine

    engine = PlainEngine.start(arguments.folder, threads=1)
    prompts = engine.prompts(Numbers().prompts(1536, seed=0))
    seconds, tokens = engine.second_call(prompts, max_tokens=32)
    return {"tokens/s": tokens / seconds}


SIDES = {"plain training": plain_training, "plain sampling": plain_sampling}


def measured(tree: Path, arguments: Arguments, *words: str) -> Figures:
    """A whole sweep on an empty storage."""
    words += () if arguments.seeds is None else ("--seeds", str(arguments.seeds))
    with tempfile.TemporaryDirectory(prefix="undertow-") as folder:
        done = sweep(tree, arguments.study, Path(folder) / "storage", *words)
    return {
        "command, s": done.seconds,
        "making, s": done.making_seconds,
        "first completions, s": done.first_completions,
        "trained tokens": done.tokens(trained=True),
        "sampled tokens": done.tokens(trained=False),
        **{f"{wave['name']}, s": float(wave["seconds"]) for wave in done.waves},
    }


def floor(runs: Runs, number: int, side: str) -> float:
    """The floor in seconds of a sweep, at the speeds that were measured in the same round."""
    done = runs[side][number]
    training, sampling = (runs[name][number]["tokens/s"] for name in SIDES)
    return (done["trained tokens"] / training + done["sampled tokens"] / sampling) / paired.cores()


def rows_of(runs: Runs, sides: tuple[str, ...]) -> list[list[str]]:
    """The figures of every sweep: seconds, floor and their ratio, time to the first completions."""
    rows = []
    for side in sides:
        floors = [floor(runs, number, side) for number in range(len(runs[side]))]
        pairs = zip(runs[side], floors, strict=True)
        middle = statistics.median(done["making, s"] / least for done, least in pairs)
        first = paired.median(runs, side, "first completions, s")
        verdicts = ["", ""]
        if side != BEFORE:
            verdicts[0] = f"≤ {MOST}: {paired.goal(middle <= MOST)}"
            if BEFORE in runs:
                earlier = paired.median(runs, BEFORE, "first completions, s")
                verdicts[1] = f"≤ {FIRST} × before: {paired.goal(first <= FIRST * earlier)}"
        rows.append(
            [
                side,
                f"{paired.median(runs, side, 'command, s'):.0f}",
                f"{paired.median(runs, side, 'making, s'):.0f}",
                f"{statistics.median(floors):.0f}",
                f"{middle:.2f}",
                verdicts[0],
                f"{first:.1f}",
                verdicts[1],
            ]
        )
    return rows


def main(arguments: Arguments) -> None:
    if arguments.side:
        quiet()  # only here: the sweeps must not inherit its environment variables
        paired.answer(SIDES[arguments.side](arguments))
        return
    with tempfile.TemporaryDirectory() as folder, paired.checkout() as before:
        model = str(prepare(reference(MODEL, "fp32"), Store(folder)))
        sweeps = {
            NOW: partial(measured, paired.ROOT, arguments),
            OVERLAP: partial(measured, paired.ROOT, arguments, "--overlap"),
        }
        if arguments.before:
            sweeps[BEFORE] = partial(measured, before, arguments)
        plain = {name: partial(paired.in_process, name, "--folder", model) for name in SIDES}
        runs = paired.alternate(plain | sweeps, arguments.repeats)
    columns = (
        "",
        "command, s",
        "making, s",
        "floor, s",
        "making / floor",
        "goal",
        "first completions, s",
        "goal",
    )
    table = Table("The sweep and its floor", columns, rows_of(runs, tuple(sweeps)))
    paired.publish(__doc__, [table, paired.table_of_runs(runs)], arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
