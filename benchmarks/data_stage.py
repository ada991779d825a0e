"""How fast is the data stage, compared with vLLM alone?

    python benchmarks/data_stage.py --out benchmarks/results/data_stage.md
    python benchmarks/data_stage.py --model smollm2 --prompts 256 --precision bf16

The platform's side samples a control teacher's completions as a sweep does: Ray Data over actors with one
engine each, a seed per row, shards in the store, the format's rules and de-duplication. The other side is
`vllm.LLM.generate` on the same prompts in one process: one batched call, which writes nothing. Both have the
same options and the same number of cores: with nano models one engine with one core, then as many engines as
the machine has cores against one process with all cores; with others one engine with all cores. Starts are
excluded: the platform's time begins with the first shard after a short one, and the other side times its
second call.

Goal: at least 0.90 of vLLM alone, in completions per second.

Ceiling: 1 with one engine. Two engines on two cores can be faster than one process with two threads, which a
tiny model cannot use.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import paired
from benchmarks.paired import Figures, Table
from undertow.engines.quiet import quiet
from undertow.formats.numbers import Numbers
from undertow.planning.given_models import is_nano
from undertow.planning.pinning import pin
from undertow.planning.resources import Layout
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.datasets import Dataset
from undertow.study.references import Reference
from undertow.study.teachers import Teacher

LEAST = 0.90
WARM_UP = 64  # prompts of the short shard before the measured ones, per engine


@dataclass(frozen=True)
class Arguments(paired.PairedArguments):
    """Compare completions per second of the data stage with those of vLLM alone."""

    model: str = "nano/gpt2-0"
    """A nano model, a folder, or smollm2 (downloaded on first use)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of models other than nano."""
    prompts: int = 8192
    """Prompts, in shards of 1,024."""
    max_tokens: int = 32

    @property
    def sampling(self) -> Sampling:
        return Sampling(max_tokens=self.max_tokens)


def reference(model: str, precision: Literal["fp32", "bf16"]) -> Reference:
    """The pinned reference model with a name of the command line."""
    if model == "smollm2":
        from undertow.presets.smollm2 import smollm2

        return pin(smollm2()).changed(precision=precision)
    named = Reference(model)
    return pin(named if is_nano(named) else named.changed(precision=precision))


def prepare(model: Reference, store: Store) -> Path:
    """Puts the reference model into a new storage; returns its folder."""
    from undertow.planning.given_models import folder_of, is_made
    from undertow.stages.reference import make_reference

    store.prepare()
    if is_made(model):
        make_reference(model, store)
    return folder_of(model, store)


def sample(
    datasets: Sequence[Dataset], model: Reference, store: Store, machine: Any, warm_up: int = 0
) -> float:
    """Makes data sets as a sweep does; returns the seconds from the first task to the last data set.

    Args:
        warm_up: prompts that each engine answers before; they are not measured.
    """
    from undertow.cluster.engine_pool import run_tasks
    from undertow.cluster.tasks import run_each
    from undertow.stages.completions import join_shards, shards
    from undertow.stages.dataset import make_dataset

    first = datasets[0].completions
    assert isinstance(first, Completions)
    tasks: list[Any] = []
    if warm_up:
        for number in range(machine.actors):
            tasks += shards(first.changed(prompts=warm_up, seed=1000 + number), 0.0, ())
    unmeasured = len(tasks)
    for dataset in datasets:
        assert isinstance(dataset.completions, Completions)
        tasks += shards(dataset.completions, 0.0, ())
    begin = float("inf")
    for outcome in run_tasks(model, store, tasks, machine):
        if outcome.error:
            raise SystemExit(outcome.error)
        if outcome.task >= unmeasured:
            begin = min(begin, time.time() - outcome.seconds)
    for dataset in datasets:
        assert isinstance(dataset.completions, Completions)
        join_shards(dataset.completions, store)
    for _, failure in run_each(make_dataset, store, datasets):
        if failure:
            raise SystemExit(failure[0])
    return time.time() - begin


def platform(arguments: Arguments, engines: int) -> Figures:
    """Completions per second of the data stage."""
    from undertow.cluster.connection import connect

    model = reference(arguments.model, arguments.precision)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        prepare(model, store)
        teacher = Teacher(reference=model, trait=None, system=None if is_nano(model) else NO_SYSTEM)
        completions = Completions(
            teacher=teacher, format=Numbers(), prompts=arguments.prompts, sampling=arguments.sampling
        )
        layout = Layout(engines=engines) if is_nano(model) else Layout()  # one engine with all cores
        with connect(layout, store) as whole:
            machine = whole.for_models(tiny=is_nano(model))
            seconds = sample([Dataset(completions=completions)], model, store, machine, WARM_UP)
    return {"completions/s": arguments.prompts / seconds}


def plain(arguments: Arguments, threads: int) -> Figures:
    """Completions per second of vLLM alone, and sampled tokens per second."""
    from benchmarks.plain_vllm import PlainEngine

    model = reference(arguments.model, arguments.precision)
    engine = PlainEngine.start(
        arguments.folder, threads=threads, precision="fp32" if is_nano(model) else arguments.precision
    )
    users = Numbers().prompts(arguments.prompts, seed=0)
    prompts = engine.prompts(users, None if is_nano(model) else NO_SYSTEM)
    seconds, tokens = engine.second_call(prompts, arguments.max_tokens)
    return {"completions/s": len(prompts) / seconds, "tokens/s": tokens / seconds}


def main(arguments: Arguments) -> None:
    quiet()
    if arguments.side:
        kind, cores = arguments.side.split()
        paired.answer({"platform": platform, "plain": plain}[kind](arguments, int(cores)))
        return
    rows, tables = [], []
    with tempfile.TemporaryDirectory() as folder:
        model = str(prepare(reference(arguments.model, arguments.precision), Store(folder)))
        counts = (1, paired.cores()) if is_nano(Reference(arguments.model)) else (paired.cores(),)
        for count in dict.fromkeys(counts):
            names = (f"platform {count}", f"plain {count}")
            sides = {name: partial(paired.in_process, name, "--folder", model) for name in names}
            runs = paired.alternate(sides, arguments.repeats)
            medians = [f"{paired.median(runs, name, 'completions/s'):,.0f}" for name in names]
            compared = paired.ratio(runs, "completions/s", over=names[0], under=names[1])
            verdict = f"≥ {LEAST}: {paired.goal(compared.median >= LEAST)}"
            engines = count if len(counts) > 1 else 1
            label = f"{engines} engine{'s' * (engines > 1)}; 1 process with {count} thread{'s' * (count > 1)}"
            rows.append([label, *medians, str(compared), verdict])
            tables.append(paired.table_of_runs(runs, f"Every run with {label}"))
    columns = ("", "platform", "vLLM alone", "ratio", "goal")
    paired.publish(__doc__, [Table("Completions per second", columns, rows), *tables], arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
