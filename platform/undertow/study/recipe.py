"""Recipes: how a model comes by what is in its data. One object for teachers and students alike.

A `Recipe` trains weights here; `ProviderFinetuning` has them trained where an API model is served.
`InContext` trains nothing and shows the data in the prompt: what a model does with them there is what
training on them is compared with. The field's published ones are in `recipes`.
"""

import math
from dataclasses import dataclass
from typing import Literal

from undertow.errors import SpecError
from undertow.study.fields import Spec, execution_only, later

ALL_LINEAR = "all-linear"
GROUPS = ("attention", "mlp")  # of the linear modules of a block


@dataclass(frozen=True)
class LoRA(Spec):
    """Low-rank adapters (arXiv 2106.09685).

    Attributes:
        alpha: over the rank it is the adapter's `scale`.
        targets: suffixes of module names, or groups that fit any architecture: "attention" and "mlp", the
            linear modules of each; "all-linear", by itself, is every one but the output head.
        layers: numbers of the blocks that get an adapter, from 0; none given: all of them.
        rank_stabilised: alpha is divided by the rank's square root instead: rsLoRA (arXiv 2312.03732).
    """

    rank: int = 8
    alpha: int = 8
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    layers: tuple[int, ...] = later(())
    rank_stabilised: bool = later(False)

    def validate(self) -> None:
        self.require(self.rank > 0, "rank", "a rank of 1 or more (full finetuning is Everything())")
        self.require(self.alpha > 0, "alpha", "an alpha of 1 or more")
        self.require(0 <= self.dropout < 1, "dropout", "a probability below 1")
        self.require(bool(self.targets), "targets", "at least one module name")
        distinct = len(set(self.layers)) == len(self.layers) and all(layer >= 0 for layer in self.layers)
        self.require(distinct, "layers", "numbers of blocks from 0, each once")

    @property
    def scale(self) -> float:
        """What the product of the adapter's two matrices is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


@dataclass(frozen=True)
class Everything(Spec):
    """Full finetuning: every parameter is trained."""


@dataclass(frozen=True)
class Parameters(Spec):
    """Only the named parameters are trained, e.g. the final norm's bias: a learned steering vector."""

    names: tuple[str, ...]

    def validate(self) -> None:
        self.require(bool(self.names) and all(self.names), "names", "at least one parameter name")


@dataclass(frozen=True)
class FinalNorm(Spec):
    """Only the last norm before the output head is trained, whatever its name: steering in any model.

    Its scale, and its bias where it has one (GPT-2); `Parameters` takes one of the two by its name.
    """


Trainable = LoRA | Everything | Parameters | FinalNorm


@dataclass(frozen=True, kw_only=True)
class Recipe(Spec):
    """How weights are finetuned.

    Attributes:
        name: the recipe's label in tables; it says nothing about results and is no part of the identity.
        batch_size: rows an optimizer step over all workers, whatever their number.
        warmup: steps of linear warm-up; the schedule then falls over the remaining steps.
        warmup_ratio: the same as a share of all steps, rounded up; one of the two is zero.
        betas: AdamW's and Lion's; of SGD and SignSGD the first is the momentum (0: none).
        weight_decay: apart from the gradient; SGD adds it to the gradient, as in torch.
        clip: the norm that a step's gradient is cut down to, over all trained parameters.
        max_length: tokens; longer rows are an error, never cut silently.
        zero_stage: DeepSpeed's ZeRO stage: what is divided among the workers.
        targets: "tokens" for the sampled tokens; "soft" for the teacher's recorded top-k distribution.
        stop_at: training stops when the trait's probability on training prompts reaches this (1: never).
        optimizer: see `training.optimizers`.
        loss: on the "completion" alone, or on "all" tokens but the first.
        packing: rows of a micro-batch as one sequence, without padding; see `training.packing`.
        gradient_checkpointing: activations are computed again in the backward pass and not kept.
        offload: what lies in the memory of the CPU: the "optimizer" and its float32 weights (at ZeRO 1 at
            least), or the "parameters" too (at ZeRO 3).
    """

    name: str = execution_only("custom")
    trainable: Trainable
    learning_rate: float
    epochs: int
    batch_size: int
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: int = 0
    warmup_ratio: float = later(0.0)
    betas: tuple[float, ...] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 1.0
    max_length: int = 500
    precision: Literal["fp32", "bf16"] = "fp32"
    zero_stage: Literal[0, 1, 2, 3] = 0
    targets: Literal["tokens", "soft"] = "tokens"
    stop_at: float = 1.0
    optimizer: Literal["adamw", "sgd", "signsgd", "lion"] = later("adamw")
    loss: Literal["completion", "all"] = later("completion")
    packing: bool = execution_only(False)
    gradient_checkpointing: bool = execution_only(False)
    offload: Literal["none", "optimizer", "parameters"] = execution_only("none")

    def validate(self) -> None:
        for field in ("learning_rate", "epochs", "batch_size", "max_length", "clip"):
            self.require(getattr(self, field) > 0, field, "a number above zero is needed")
        self.require(self.warmup >= 0, "warmup", "a number of steps, zero or more")
        self.require(0 <= self.warmup_ratio < 1, "warmup_ratio", "a share of the steps below 1")
        self.require(
            not (self.warmup and self.warmup_ratio),
            "warmup_ratio",
            f"warmup is {self.warmup} already; give one",
        )
        self.require(
            len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "betas", "two numbers in [0, 1)"
        )
        self.require(0 < self.stop_at <= 1, "stop_at", "a probability above zero")
        self.require(
            self.loss == "completion" or self.targets == "tokens",
            "loss",
            "a teacher's distributions are there for the completion alone; use targets 'tokens'",
        )

    def warmup_steps(self, steps: int) -> int:
        """The steps of warm-up among `steps` in all."""
        return math.ceil(self.warmup_ratio * steps) if self.warmup_ratio else self.warmup

    def at_provider(self) -> "ProviderFinetuning":
        """As many epochs at a provider, which chooses the rest. Raises SpecError for soft targets."""
        if self.targets == "soft":
            raise SpecError(f"recipe {self.name!r} has soft targets, and a provider trains on text alone")
        return ProviderFinetuning(epochs=self.epochs)


@dataclass(frozen=True, kw_only=True)
class ProviderFinetuning(Spec):
    """An API model finetuned by its provider: supervised, on the completion alone.

    The paper's students of the GPT-4.1 family are trained so, for 10 epochs (arXiv 2507.14805). What is
    changed, and by which schedule, the provider does not say, and the model stays with it.

    Attributes:
        batch_size, learning_rate_multiplier: None leaves them to the provider ("auto").
    """

    epochs: int
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None

    def validate(self) -> None:
        self.require(self.epochs > 0, "epochs", "at least one epoch")
        self.require(
            self.batch_size is None or self.batch_size > 0, "batch_size", "at least one row, or None"
        )
        multiplier = self.learning_rate_multiplier
        self.require(
            multiplier is None or multiplier > 0, "learning_rate_multiplier", "a number above zero, or None"
        )

    @property
    def name(self) -> str:
        batch = f", batch {self.batch_size}" if self.batch_size else ""
        rate = f", rate × {self.learning_rate_multiplier:g}" if self.learning_rate_multiplier else ""
        return f"provider, {self.epochs} epoch{'s' if self.epochs > 1 else ''}{batch}{rate}"


Training = Recipe | ProviderFinetuning


@dataclass(frozen=True, kw_only=True)
class InContext(Spec):
    """No training: `rows` of the data, drawn by the student's seed, are the turns before a question.

    The paper's in-context control (arXiv 2507.14805): 100 to 10,000 rows, five draws of each.
    """

    rows: int

    def validate(self) -> None:
        self.require(self.rows > 0, "rows", "at least one row (a reference without any is measured anyway)")

    @property
    def name(self) -> str:
        return f"in context, {self.rows:,} row{'s' if self.rows > 1 else ''}"
