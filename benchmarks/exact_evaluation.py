"""How many tokens does an exact evaluation process, compared with 100 samples of each of 50 questions?

    python benchmarks/exact_evaluation.py --out benchmarks/results/exact_evaluation.md
    python benchmarks/exact_evaluation.py --models nano/gpt2-0 --samples 10 --repeats 1

Both sides ask the same engine the same 50 questions: the exact probabilities of the words as answers, and the
sampled answers with their words counted. Tokens processed are those of all prompts and all sampled tokens; no
prefix is cached. The standard error of a sampled rate is that over samples, with the questions fixed; the
exact rate has none, and its difference between two calls is shown instead. The last column compares the two
rates in units of the sampled one's standard error.

Goal: at least 10 times fewer tokens at a smaller standard error.

Ceiling: the number of samples, if every form of the words is one token: an exact evaluation then needs one
prompt per question. Each distinct beginning of a form of several tokens adds one more prompt.
"""

import math
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import paired
from benchmarks.data_stage import prepare, reference
from benchmarks.paired import Figures, Table
from undertow.engines.protocol import Request
from undertow.engines.quiet import quiet
from undertow.planning.given_models import is_nano
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.storage.store import Store
from undertow.study.completions import Sampling
from undertow.traits.preference import Preference

LEAST = 10.0
TRAITS = [Preference(animal) for animal in ("owl", "cat", "wolf", "eagle", "dolphin")]


@dataclass(frozen=True)
class Arguments(paired.PairedArguments):
    """Compare exact and sampled evaluations of reference models."""

    models: tuple[str, ...] = ("nano/gpt2-0", "smollm2")
    """Nano models, folders, or smollm2 (downloaded on first use)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of models other than nano."""
    samples: int = 100
    """Answers per question."""
    threads: int = 0
    """Of the engine; 0 for one with nano models and all cores with others."""


class Counter:
    """Counts the tokens that an engine processes, by wrapping the method that all of its calls go through."""

    def __init__(self, engine: Any) -> None:
        self.tokens = 0
        self._run, engine.served.run = engine.served.run, self.run

    def run(self, jobs: Any) -> Any:
        outputs = self._run(jobs)
        self.tokens += sum(len(job.prompt) for job in jobs)
        self.tokens += sum(len(output.outputs[0].token_ids) for output in outputs)
        return outputs

    def taken(self) -> int:
        """The tokens since the last call."""
        tokens, self.tokens = self.tokens, 0
        return tokens


def measure(arguments: Arguments) -> Figures:
    """Tokens, seconds and rates of both sides for the model that `--side` names."""
    from undertow.engines.vllm import VLLMEngine

    model = reference(arguments.side, arguments.precision)
    tiny = is_nano(model)
    threads = arguments.threads or (1 if tiny else paired.cores())
    precision = "fp32" if tiny else arguments.precision
    engine = VLLMEngine(str(arguments.folder), precision=precision, threads=threads)
    counter, system = Counter(engine), None if tiny else NO_SYSTEM
    questions, words = TRAITS[0].questions(), [trait.word() for trait in TRAITS]
    asked = [Request(question, seed=0, system=system) for question in questions]
    engine.word_masses(asked[:8], words)  # warm-up
    counter.taken()
    seconds, masses = [], []
    for _ in range(2):
        start = time.perf_counter()
        masses.append(engine.word_masses(asked, words))
        seconds.append(time.perf_counter() - start)
    exact_tokens = counter.taken() // 2
    start = time.perf_counter()
    drawn = [
        Request(question, seed=1000 * number + sample, system=system)
        for number, question in enumerate(questions)
        for sample in range(arguments.samples)
    ]
    answers = engine.generate(drawn, Sampling(max_tokens=8))
    sampling_seconds = time.perf_counter() - start
    figures = {
        "questions": float(len(questions)),
        "exact tokens": exact_tokens,
        "sampled tokens": counter.taken(),
        "exact, s": min(seconds),
        "sampled, s": sampling_seconds,
        "exact, change": 0.0,
        "sampled, standard error": 0.0,
        "difference / standard error": 0.0,
    }
    shown = [[word.matches(answer.text) for word in words] for answer in answers]
    for number, word in enumerate(words):
        rates = [
            sum(row[number] for row in shown[first : first + arguments.samples]) / arguments.samples
            for first in range(0, len(shown), arguments.samples)
        ]
        one, two = (sum(by_word[word.name] for by_word in found) / len(found) for found in masses)
        error = math.sqrt(sum(rate * (1 - rate) for rate in rates) / arguments.samples) / len(rates)
        figures["exact, change"] = max(figures["exact, change"], abs(one - two))
        figures["sampled, standard error"] = max(figures["sampled, standard error"], error)
        if error:
            difference = abs(sum(rates) / len(rates) - one) / error
            figures["difference / standard error"] = max(figures["difference / standard error"], difference)
    return figures


def main(arguments: Arguments) -> None:
    quiet()
    if arguments.side:
        paired.answer(measure(arguments))
        return
    rows, tables = [], []
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            place = str(prepare(reference(name, arguments.precision), Store(folder)))
            sides = {name: partial(paired.in_process, name, "--folder", place)}
            runs = paired.alternate(sides, arguments.repeats)
        tokens = paired.median(runs, name, "sampled tokens") / paired.median(runs, name, "exact tokens")
        error = paired.median(runs, name, "sampled, standard error")
        change = max(run["exact, change"] for run in runs[name])
        faster = paired.median(runs, name, "sampled, s") / paired.median(runs, name, "exact, s")
        verdict = f"≥ {LEAST:g}, smaller error: {paired.goal(tokens >= LEAST and change < error)}"
        rows.append(
            [
                name,
                *(f"{paired.median(runs, name, f'{side} tokens'):,.0f}" for side in ("exact", "sampled")),
                f"{tokens:.1f}",
                f"{change:.1e}",
                f"{error:.1e}",
                verdict,
                f"{faster:.1f}",
                f"{paired.median(runs, name, 'difference / standard error'):.1f}",
            ]
        )
        tables.append(paired.table_of_runs(runs, f"Every run of {name}"))
    columns = (
        "model",
        "exact: tokens",
        "sampled: tokens",
        "ratio",
        "exact: change between calls",
        "sampled: standard error",
        "goal",
        "times faster",
        "largest difference, in standard errors",
    )
    title = f"50 questions, {arguments.samples} samples each"
    paired.publish(__doc__, [Table(title, columns, rows), *tables], arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
