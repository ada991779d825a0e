"""How long does the evaluation of 32 students take?

    python benchmarks/evaluation_of_students.py --out benchmarks/results/evaluation_of_students.md
    python benchmarks/evaluation_of_students.py --students 4 --repeats 1

The students are adapters of rank 8 with random weights, of one nano model. Each is asked 50 questions, with
sampled answers and the exact probabilities of three animals. The platform's side runs the evaluations as a
sweep does: Ray Data over engines, one per core, and one artifact per student. Compared, with vLLM alone and
the first token of each animal only:

- one engine per student: a process for each student, one after the other;
- one adapter at a time: one process, one engine, one call per student;
- all adapters in one call: the same with one call for all students.

All times are those of whole processes; the second figure leaves imports and starts out.

Goal: at least 8 times faster than one engine per student, and 2 times faster than one adapter at a time.

Ceiling: two cores have two engines. On a CPU vLLM applies adapters token by token, and the platform as matrix
products (`undertow.engines.cpu_adapters`).
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import paired
from benchmarks.data_stage import prepare, reference
from benchmarks.paired import Figures, Table
from undertow.engines.quiet import quiet
from undertow.formats.numbers import Numbers
from undertow.planning.resources import Layout
from undertow.storage.store import Store
from undertow.study.completions import Written
from undertow.study.datasets import Dataset
from undertow.study.measurements import Evaluation
from undertow.study.recipe import LoRA, Recipe
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.traits.preference import Preference

MODEL = "nano/qwen3-0"
LEAST = {"one engine per student": 8.0, "one adapter at a time": 2.0}
SIDES = ("platform", *LEAST, "all adapters in one call")
ADAPTER = LoRA(rank=8, alpha=8, targets=("o_proj", "down_proj"))
RECIPE = Recipe(trainable=ADAPTER, learning_rate=0.02, epochs=1, batch_size=64, max_length=128)
TRAITS = [Preference(animal) for animal in ("owl", "cat", "wolf")]


@dataclass(frozen=True)
class Arguments(paired.PairedArguments):
    """Compare the evaluation of many students with plain ways to do it."""

    students: int = 32
    samples: int = 20
    """Answers per question."""
    threads: int = 1
    """Threads of the engines that are not the platform's; tiny models are slower with two."""


def evaluations(model: Reference, arguments: Arguments) -> list[Evaluation]:
    """One evaluation per student."""
    students = [
        Student(
            reference=model,
            dataset=Dataset(completions=Written(format=Numbers(), prompts=1, seed=seed)),
            recipe=RECIPE,
            seed=seed,
        )
        for seed in range(arguments.students)
    ]
    words = tuple(trait.word() for trait in TRAITS)
    return [
        Evaluation(subject=student, questions=TRAITS[0].questions(), words=words, samples=arguments.samples)
        for student in students
    ]


def write_students(some: Sequence[Evaluation], folder: Path, store: Store) -> None:
    """Commits an adapter with random weights for each student."""
    import torch
    from transformers import AutoModelForCausalLM

    from undertow.training.trainable import prepare as with_adapter

    model = with_adapter(AutoModelForCausalLM.from_pretrained(folder), ADAPTER, MODEL)
    for evaluation in some:
        torch.manual_seed(evaluation.subject.seed if isinstance(evaluation.subject, Student) else 0)
        with torch.no_grad():
            for value in model.parameters():
                if value.requires_grad:
                    value.normal_(std=0.05)
        with store.new(evaluation.subject, {}) as place:
            model.save_pretrained(place, save_embedding_layers=False)


def platform(arguments: Arguments) -> Figures:
    """All evaluations, as a sweep makes them; on a copy of the storage, which has none."""
    from undertow.cluster.connection import connect
    from undertow.cluster.engine_pool import run_tasks
    from undertow.stages.evaluation import Evaluate

    model = reference(MODEL, "fp32")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(arguments.folder, folder, dirs_exist_ok=True)
        store, begin = Store(folder), float("inf")
        tasks = [Evaluate(evaluation) for evaluation in evaluations(model, arguments)]
        with connect(Layout(), store) as machine:
            for outcome in run_tasks(model, store, tasks, machine):
                if outcome.error:
                    raise SystemExit(outcome.error)
                begin = min(begin, time.time() - outcome.seconds)
            seconds = time.time() - begin
    return {"evaluation, s": seconds}


def engine_alone(arguments: Arguments, numbers: Sequence[int], *, at_once: bool) -> Figures:
    """Evaluates students with vLLM alone.

    Args:
        numbers: of the students.
        at_once: all of them in one call.
    """
    from benchmarks.plain_vllm import PlainEngine
    from undertow.planning.given_models import folder_of
    from undertow.stages.weights import weights_of

    model, store = reference(MODEL, "fp32"), Store(str(arguments.folder))
    chosen = [evaluations(model, arguments)[number] for number in numbers]
    engine = PlainEngine.start(folder_of(model, store), threads=arguments.threads, max_lora_rank=ADAPTER.rank)
    from vllm.lora.request import LoRARequest  # after the start, which sets vLLM's environment

    prompts = engine.prompts(TRAITS[0].questions())
    words = [trait.name for trait in TRAITS]
    adapters = []
    for number, evaluation in enumerate(chosen, 1):
        weights = weights_of(evaluation.subject, store)
        assert weights is not None
        adapters.append(LoRARequest(weights.key, number, weights.folder))
    start = time.perf_counter()
    for some in [adapters] if at_once else [[adapter] for adapter in adapters]:
        asked = [(prompt, adapter) for adapter in some for prompt in prompts]
        drawn = [one for one in asked for _ in range(arguments.samples)]
        seeds = [*range(arguments.samples)] * len(asked)
        tokens = chosen[0].sampling.max_tokens
        engine.generate([p for p, _ in drawn], tokens, seeds, lora_request=[a for _, a in drawn])
        engine.first_tokens([p for p, _ in asked], words, lora_request=[a for _, a in asked])
    return {"evaluation, s": time.perf_counter() - start}


def one_engine_per_student(arguments: Arguments, folder: str) -> Figures:
    """A process for each student, one after the other."""
    total: Figures = {"evaluation, s": 0.0, "process seconds": 0.0}
    for number in range(arguments.students):
        done = paired.in_process(f"student {number}", "--folder", folder)
        total = {name: total[name] + done[name] for name in total}
    return total


def measure(arguments: Arguments) -> Figures:
    """The side that `--side` names."""
    if arguments.side == "platform":
        return platform(arguments)
    if arguments.side.startswith("student"):
        return engine_alone(arguments, [int(arguments.side.split()[1])], at_once=False)
    students = range(arguments.students)
    return engine_alone(arguments, students, at_once=arguments.side == "all adapters in one call")


def main(arguments: Arguments) -> None:
    quiet()
    if arguments.side:
        paired.answer(measure(arguments))
        return
    with tempfile.TemporaryDirectory() as folder:
        model, store = reference(MODEL, "fp32"), Store(folder)
        write_students(evaluations(model, arguments), prepare(model, store), store)
        sides = {side: partial(paired.in_process, side, "--folder", folder) for side in SIDES}
        sides["one engine per student"] = partial(one_engine_per_student, arguments, folder)
        runs = paired.alternate(sides, arguments.repeats)
    rows = []
    for side in SIDES:
        whole, alone = (paired.median(runs, side, name) for name in ("process seconds", "evaluation, s"))
        compared = paired.ratio(runs, "process seconds", over=side, under="platform")
        without = paired.ratio(runs, "evaluation, s", over=side, under="platform")
        least = LEAST.get(side)
        verdict = f"≥ {least:g}: {paired.goal(compared.median >= least)}" if least else ""
        rows.append([side, f"{whole:.1f}", str(compared), verdict, f"{alone:.1f}", str(without)])
    columns = ("", "whole, s", "times the platform's", "goal", "without starts, s", "times the platform's")
    title = f"{arguments.students} students, {arguments.samples} answers to each of 50 questions"
    paired.publish(__doc__, [Table(title, columns, rows), paired.table_of_runs(runs)], arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
