"""What making an artifact costs on a GPU: tokens, FLOPs and seconds, by the model's size.

Per token, with N parameters: a forward pass takes 2N FLOPs and a backward pass twice as much, so that full
finetuning takes 6N (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Half of the backward pass is for the
gradients of the weights, which frozen ones do not have: LoRA takes 4N and the adapter's own, which is left
out. Training a final norm alone takes 2N and the head's backward pass, left out too.

Not counted: attention's products of queries and keys (at 500 tokens under 2% of a 7B model's FLOPs), the
second forward pass of gradient checkpointing, padding, starts of more than one engine a reference model, and
what judges and API models cost. N is of all parameters: the embedding, which is looked up and not multiplied
by, is some 7% of Qwen2.5-7B.

Training and reading prompts are bound by FLOPs. Decoding is bound by whichever is slower: FLOPs, or reading
all weights from memory once a step, which yields one token of each of the answers decoded together.

Lengths are upper estimates until a sweep on the storage has measured them (see `timings`): answers as long as
allowed, three characters a token (English has about four; lists of numbers fewer, as some tokenizers split
numbers into digits).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from undertow.planning.plan import rows_of, units
from undertow.planning.resources import Layout
from undertow.study.artifacts import (
    Artifact,
    Completions,
    Dataset,
    Evaluation,
    Finetuning,
    Student,
    Subject,
    Teacher,
)
from undertow.study.extensions import Format, Trait, Word
from undertow.study.identity import by_object
from undertow.study.recipe import Everything, InContext, LoRA, Recipe

CHARACTERS_A_TOKEN = 3.0
TOKENS_OF_TEMPLATE = 20  # a chat template's own, of a user's and an assistant's turn
LOOKED_AT = 50  # prompts and examples whose mean length is taken for that of all
BYTES_A_PARAMETER = 2  # bf16
TOGETHER = 512  # answers decoded at the same time unless told: an engine's default (engines/runtime.py)
START = 60.0  # seconds until an engine or a worker group is at work: weights read, kernels compiled; assumed


class Gpu(NamedTuple):
    """One GPU's peaks by NVIDIA's data sheet: dense bf16 FLOP/s, and bytes/s of its memory."""

    name: str
    flops: float
    bandwidth: float


# Where a data sheet gives bf16 with sparsity alone (H100, H200, L4, L40S) half of it.
GPUS: Mapping[str, Gpu] = {
    "a100": Gpu("A100 SXM 80 GB", 312e12, 2.039e12),
    "h100": Gpu("H100 SXM", 989e12, 3.35e12),
    "h200": Gpu("H200 SXM", 989e12, 4.8e12),
    "l4": Gpu("L4", 121e12, 0.3e12),
    "l40s": Gpu("L40S", 362e12, 0.864e12),
}


@dataclass(frozen=True)
class Hardware:
    """What a plan is priced for.

    Attributes:
        utilisation: the share of both peaks that is reached, an assumption: 38 to 43% of the FLOPs in the
            pretraining of Llama 3 on H100s (arXiv 2407.21783, table 4), 46% in PaLM's (arXiv 2204.02311).
        price: dollars an hour of one GPU; None where no money is asked for.
        layout: how many GPUs an engine and a worker group hold, and the answers that are decoded together.
    """

    gpu: Gpu = GPUS["h100"]
    utilisation: float = 0.4
    price: float | None = None
    layout: Layout = Layout()

    def computing(self, flops: float) -> float:
        """Seconds for so many FLOPs."""
        return flops / (self.gpu.flops * self.utilisation)

    def starting(self, wave: str) -> float:
        """Seconds of all GPUs that one start in a wave holds: of a worker group or of an engine."""
        trains = wave in ("teachers", "students")
        return START * (self.layout.workers if trains else self.layout.gpus_per_engine)

    def decoding(self, tokens: float, parameters: int, answers: float = math.inf) -> float:
        """Seconds to sample so many tokens of so many answers, as many at a time as an engine takes."""
        read = parameters * BYTES_A_PARAMETER * tokens / min(self.layout.max_num_seqs or TOGETHER, answers)
        return max(self.computing(2 * parameters * tokens), read / (self.gpu.bandwidth * self.utilisation))

    @property
    def assumptions(self) -> str:
        """What the figures rest on, in words."""
        gpu = self.gpu
        return (
            f"{gpu.name}: {self.utilisation:.0%} of {gpu.flops / 1e12:.0f} TFLOP/s and of "
            f"{gpu.bandwidth / 1e12:.2f} TB/s, {START:.0f} s a start (--gpu, --utilisation).\n"
            "Tokens: trained on or sampled, at most; FLOPs: prompts' too. Calls to judges are not counted."
        )


class Cost(NamedTuple):
    """Of one artifact or many; `tokens` trained on or sampled, `seconds` of one GPU."""

    tokens: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs."""
    found = list(costs)
    return Cost(*(math.fsum(cost[i] for cost in found) for i in range(len(Cost._fields))))


def cost_of(artifact: Artifact, parameters: int, hardware: Hardware, measured: float | None = None) -> Cost:
    """What making one artifact costs. `measured`: tokens a unit that were seen before, where some were."""
    match artifact:
        case Student(recipe=Recipe() as recipe, dataset=dataset):
            length = _row(dataset) if measured is None else measured
            return _training(recipe, units(artifact) * length, parameters, hardware)
        case Teacher(finetuning=Finetuning(recipe=Recipe() as recipe, examples=examples), trait=trait) if (
            trait
        ):
            length = _example(trait, examples) if measured is None else measured
            return _training(recipe, units(artifact) * length, parameters, hardware)
        case Completions(teacher=teacher, sampling=sampling):
            read = artifact.prompts * (_prompt(artifact.format) + _text(teacher.system))
            length = sampling.max_tokens if measured is None else measured
            return _sampling(read, units(artifact), length, parameters, hardware)
        case Evaluation(questions=questions, sampling=sampling):
            asked = _mean(questions) + _text(artifact.system) + TOKENS_OF_TEMPLATE
            spelled = _spelled(artifact.words) if artifact.exact else 0.0
            # Samples of one question share its prefix, and questions what is shown before them.
            read = _shown(artifact.subject) + len(questions) * (asked + spelled)
            length = sampling.max_tokens if measured is None else measured
            return _sampling(read, units(artifact), length, parameters, hardware)
    return Cost()


def _training(recipe: Recipe, tokens: float, parameters: int, hardware: Hardware) -> Cost:
    """FLOPs a parameter and token: 6 for all of them, 4 for adapters, 2 for a last norm (see above)."""
    match recipe.trainable:
        case Everything():
            each = 6
        case LoRA():
            each = 4
        case _:
            each = 2
    flops = each * parameters * tokens
    return Cost(tokens, flops, hardware.computing(flops))


def _sampling(read: float, answers: int, length: float, parameters: int, hardware: Hardware) -> Cost:
    """`read`: tokens of prompts; `length`: of an answer."""
    reading, sampled = 2 * parameters * read, answers * length
    seconds = hardware.computing(reading) + hardware.decoding(sampled, parameters, answers)
    return Cost(sampled, reading + 2 * parameters * sampled, seconds)


def _text(text: str | None) -> float:
    return len(text) / CHARACTERS_A_TOKEN if text else 0.0


@by_object
def _mean(texts: tuple[str, ...]) -> float:
    """The mean number of tokens of texts."""
    return sum(map(_text, texts)) / len(texts)


@lru_cache(maxsize=1024)
def _prompt(format_: Format) -> float:
    """The tokens of a format's prompt, template included."""
    return _mean(tuple(format_.prompts(LOOKED_AT, seed=0))) + TOKENS_OF_TEMPLATE


def _row(dataset: Dataset) -> float:
    """The tokens of a row: a prompt and an answer, as long as allowed (a program's: as the prompt)."""
    completions = dataset.completions
    prompt = _prompt(completions.format)
    return prompt + (completions.sampling.max_tokens if isinstance(completions, Completions) else prompt)


@lru_cache(maxsize=1024)
def _example(trait: Trait, count: int) -> float:
    pairs = trait.examples(min(count, LOOKED_AT), seed=0)
    return _mean(tuple(pair.prompt + pair.answer for pair in pairs)) + TOKENS_OF_TEMPLATE


@by_object
def _spelled(words: tuple[Word, ...]) -> float:
    """The tokens of all spellings of words, each with and without a space before it."""
    return 2 * sum(max(1.0, _text(form)) for word in words for form in word.forms)


def _shown(subject: Subject) -> float:
    """The tokens of the rows that an in-context student is shown before every question."""
    if isinstance(subject, Student) and isinstance(subject.recipe, InContext):
        return min(subject.recipe.rows, rows_of(subject.dataset)) * _row(subject.dataset)
    return 0.0
