"""The cost of making an artifact on a GPU: tokens, FLOPs and seconds, from the model's size.

Per token, with N parameters: a forward pass takes 2N FLOPs and a backward pass twice as much, so that full
finetuning takes 6N (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Half of the backward pass is for the
gradients of the weights, which frozen weights do not have: LoRA takes 4N plus the adapter's own FLOPs, which
are neglected. Single parameters take up to 4N, as gradients pass through all blocks behind the first of them.
Training a final norm alone takes 2N plus the head's backward pass, neglected too.

Not counted: attention's products of queries and keys (at 500 tokens under 2% of a 7B model's FLOPs), the
second forward pass of gradient checkpointing, DPO's forward pass of the untrained model, the strengths that a
steering tries, padding, starts of more than one engine per reference model or of more than one worker group
per condition, and the cost of judges and API models. N counts all
parameters: the embedding, which is a lookup and not a product, is about 7% of Qwen2.5-7B.

Training and reading prompts are bound by FLOPs. Decoding is bound by whichever is slower: FLOPs, or reading
all weights from memory once per step, which yields one token of each of the answers in the batch.

Lengths are upper estimates (see `workloads`) until a sweep on the storage has measured them (see `timings`).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from undertow.engines.runtime import EngineSettings
from undertow.planning.artifact_kinds import kind_of, units
from undertow.planning.resources import Layout
from undertow.planning.workloads import TrainingWork
from undertow.study.recipe import Everything, FinalNorm
from undertow.study.references import Artifact

BYTES_PER_PARAMETER = 2  # bf16
START_SECONDS = 60.0  # assumed seconds until an engine or worker group works: read weights, compile kernels


class Gpu(NamedTuple):
    """One GPU from NVIDIA's data sheet: dense bf16 FLOP/s, bytes/s of its memory, and memory in GiB."""

    name: str
    flops: float
    bandwidth: float
    memory: int


# Data sheets that give bf16 only with sparsity (H100, H200, L4, L40S): half of that figure.
GPUS: Mapping[str, Gpu] = {
    "a100": Gpu("A100 SXM 80 GB", 312e12, 2.039e12, 80),
    "h100": Gpu("H100 SXM", 989e12, 3.35e12, 80),
    "h200": Gpu("H200 SXM", 989e12, 4.8e12, 141),
    "l4": Gpu("L4", 121e12, 0.3e12, 24),
    "l40s": Gpu("L40S", 362e12, 0.864e12, 48),
}


@dataclass(frozen=True)
class Hardware:
    """The hardware that a plan is priced for.

    Attributes:
        utilisation: assumed share of both peaks. Reported: 38 to 43% of the FLOPs in the pretraining of
            Llama 3 on H100s (arXiv 2407.21783, table 4), 46% in PaLM's (arXiv 2204.02311).
        price: dollars per hour of one GPU; None leaves money out of the plan.
        layout: how many GPUs an engine and a worker group hold, and the batch size of decoding.
    """

    gpu: Gpu = GPUS["h100"]
    utilisation: float = 0.4
    price: float | None = None
    layout: Layout = Layout()

    def computing(self, flops: float) -> float:
        """Seconds that one GPU needs for `flops`."""
        return flops / (self.gpu.flops * self.utilisation)

    def starting(self, wave: str) -> float:
        """GPU-seconds of one start of a worker group or an engine, over all the GPUs that it holds."""
        trains = wave in ("teachers", "students")
        return START_SECONDS * (self.layout.workers if trains else self.layout.gpus_per_engine)

    def decoding(self, tokens: float, parameters: int, answers: float = math.inf) -> float:
        """Seconds to sample `tokens`; a batch has at most `answers` answers, or the engine's maximum."""
        batch = min(self.layout.max_num_seqs or EngineSettings.max_num_seqs, answers)
        read = parameters * BYTES_PER_PARAMETER * tokens / batch
        return max(self.computing(2 * parameters * tokens), read / (self.gpu.bandwidth * self.utilisation))

    @property
    def assumptions(self) -> str:
        """The assumptions behind the figures, as text below the table."""
        gpu = self.gpu
        return (
            f"{gpu.name}: {100 * self.utilisation:.0f} % of {gpu.flops / 1e12:.0f} TFLOP/s and of "
            f"{gpu.bandwidth / 1e12:.2f} TB/s, {START_SECONDS:.0f} s per start (--gpu, --utilisation).\n"
            "Tokens: at most, trained on or sampled; FLOPs include prompts. Calls to judges are not counted."
        )


class Cost(NamedTuple):
    """The cost of one or many artifacts: tokens trained on or sampled, FLOPs, seconds of one GPU."""

    tokens: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs."""
    found = list(costs)
    return Cost(*(math.fsum(cost[i] for cost in found) for i in range(len(Cost._fields))))


def cost_of(artifact: Artifact, parameters: int, hardware: Hardware, measured: float | None = None) -> Cost:
    """The cost of making one artifact, by its kind's workload.

    Args:
        parameters: of the reference model.
        measured: tokens per unit in earlier sweeps, instead of the workload's upper estimate.
    """
    work = kind_of(artifact).workload(artifact)
    if work is None:
        return Cost()
    length = work.length if measured is None else measured
    if isinstance(work, TrainingWork):
        return _training(work, units(artifact) * length, parameters, hardware)
    return _sampling(work.read, units(artifact), length, parameters, hardware)


def _training(work: TrainingWork, tokens: float, parameters: int, hardware: Hardware) -> Cost:
    """FLOPs per parameter and token: 6 for all parameters, 2 for a final norm, 4 for others (see above)."""
    match work.trainable:
        case Everything():
            each = 6
        case FinalNorm():
            each = 2
        case _:
            each = 4
    flops = each * parameters * tokens
    return Cost(tokens, flops, hardware.computing(flops))


def _sampling(read: float, answers: int, length: float, parameters: int, hardware: Hardware) -> Cost:
    """The cost of reading `read` prompt tokens and sampling `answers` of `length` tokens each."""
    reading, sampled = 2 * parameters * read, answers * length
    seconds = hardware.computing(reading) + hardware.decoding(sampled, parameters, answers)
    return Cost(sampled, reading + 2 * parameters * sampled, seconds)
