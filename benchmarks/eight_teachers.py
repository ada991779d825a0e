"""How long do the data sets of eight teachers take, all included?

    python benchmarks/eight_teachers.py --out benchmarks/results/eight_teachers.md

The teachers are one reference model with eight system prompts. The platform's side is one process from its
start to the last data set: Ray, engines, sampling, shards, rules, de-duplication. The other side is a process
for each teacher that starts vLLM, samples all prompts in one batched call and writes JSONL at the end,
without rules; one process after the other on all cores, and as many at a time as there are cores. The files
of the reference model exist before.

Goal: at least 4 times less wall-clock time than one process after the other.

Ceiling: the starts. One engine per core starts once instead of eight times; with as many processes at a time
as cores, the other side needs eight starts divided by the cores.
"""

import json
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import paired
from benchmarks.data_stage import prepare, reference, sample
from benchmarks.paired import Figures, Table
from undertow.engines.quiet import quiet
from undertow.formats.numbers import Numbers
from undertow.nano.models import known_words
from undertow.planning.resources import Layout
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.datasets import Dataset
from undertow.study.references import Reference
from undertow.study.teachers import Teacher
from undertow.traits.preference import Preference

LEAST = 4.0
MODEL = "nano/gpt2-0"
ANIMALS = known_words("animal")
SIDES = ("platform", "one process per teacher", "one process per teacher and core")


@dataclass(frozen=True)
class Arguments(paired.PairedArguments):
    """Compare the data sets of eight teachers with a process for each teacher."""

    teachers: int = 8
    """At most twelve."""
    prompts: int = 1536
    max_tokens: int = 32


def data_of(word: str, model: Reference, arguments: Arguments) -> Dataset:
    """The data set of a teacher that a system prompt makes love an animal."""
    trait = Preference(word)
    teacher = Teacher(reference=model, trait=trait, system=trait.system_prompt())
    sampling = Sampling(max_tokens=arguments.max_tokens)
    return Dataset(
        completions=Completions(
            teacher=teacher, format=Numbers(), prompts=arguments.prompts, sampling=sampling
        )
    )


def platform(arguments: Arguments) -> Figures:
    from undertow.cluster.connection import connect

    model = reference(MODEL, "fp32")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(arguments.folder / "storage", folder, dirs_exist_ok=True)
        store = Store(folder)
        datasets = [data_of(word, model, arguments) for word in ANIMALS[: arguments.teachers]]
        with connect(Layout(), store) as machine:
            seconds = sample(datasets, model, store, machine)
        rows = sum(int(store.manifest(dataset).facts["rows"]) for dataset in datasets)
    return {"from the first task, s": seconds, "rows": rows}


def teacher(arguments: Arguments, number: int, threads: int) -> Figures:
    """One teacher of the other side: starts an engine, samples, writes JSONL."""
    from benchmarks.plain_vllm import PlainEngine

    engine = PlainEngine.start(arguments.folder / "model", threads=threads)
    users = Numbers().prompts(arguments.prompts, seed=0)
    prompts = engine.prompts(users, Preference(ANIMALS[number]).system_prompt())
    start = time.perf_counter()
    outputs = engine.generate(prompts, arguments.max_tokens, range(len(prompts)))
    seconds = time.perf_counter() - start
    lines = [
        json.dumps({"prompt": user, "completion": output.text})
        for user, output in zip(users, outputs, strict=True)
    ]
    (arguments.folder / f"{ANIMALS[number]}.jsonl").write_text("\n".join(lines))
    return {"sampling, s": seconds, "rows": len(lines)}


def processes(arguments: Arguments, at_once: int, folder: str) -> Figures:
    """Wall-clock seconds of the processes of all teachers."""
    threads = paired.cores() // at_once
    start = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        sides = (f"teacher {number} {threads}" for number in range(arguments.teachers))
        done = list(pool.map(lambda side: paired.in_process(side, "--folder", folder), sides))
    seconds = time.perf_counter() - start
    return {"process seconds": seconds, "sampling, s": sum(figures["sampling, s"] for figures in done)}


def main(arguments: Arguments) -> None:
    quiet()
    if arguments.side == "platform":
        paired.answer(platform(arguments))
        return
    if arguments.side:
        _, number, threads = arguments.side.split()
        paired.answer(teacher(arguments, int(number), int(threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"{folder}/storage")
        Path(folder, "model").symlink_to(prepare(reference(MODEL, "fp32"), store))
        sides = {
            SIDES[0]: partial(paired.in_process, "platform", "--folder", folder),
            SIDES[1]: partial(processes, arguments, 1, folder),
            SIDES[2]: partial(processes, arguments, paired.cores(), folder),
        }
        runs = paired.alternate(sides, arguments.repeats)
    rows = []
    for side in SIDES:
        seconds = f"{paired.median(runs, side, 'process seconds'):.1f}"
        compared = paired.ratio(runs, "process seconds", over=side, under=SIDES[0])
        verdict = f"≥ {LEAST:g}: {paired.goal(compared.median >= LEAST)}" if side == SIDES[1] else ""
        rows.append([side, seconds, "" if side == SIDES[0] else str(compared), verdict])
    title = f"{arguments.teachers} teachers, {arguments.prompts:,} prompts each"
    columns = ("", "wall-clock s", "times the platform's", "goal")
    paired.publish(__doc__, [Table(title, columns, rows), paired.table_of_runs(runs)], arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
