"""Recipes: how a model learns from data. Teachers and students use the same classes.

A `Recipe` trains weights locally, `ProviderFinetuning` trains an API model at its provider, and `InContext`
shows the data in the prompt without training, as a baseline for training on them. Recipes from the
literature are in `published_recipes`.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from undertow.errors import SpecError
from undertow.study.fields import Spec, execution_only, later

ALL_LINEAR = "all-linear"
GROUPS = ("attention", "mlp")  # names for all linear modules of one kind in a block
# Begins the list of rows in a system message (`InContext.layout`).
INTRODUCTION = "Here are questions that you were asked, and what you replied to each."


@dataclass(frozen=True)
class LoRA(Spec):
    """Low-rank adapters (arXiv 2106.09685).

    Attributes:
        alpha: divided by the rank, the `scale` of the adapter.
        targets: suffixes of module names, or groups that exist in any architecture: "attention" and "mlp" for
            the linear modules of these, "all-linear", on its own, for all but the output head.
        layers: the indices of the blocks that get an adapter, from 0; empty for all blocks.
        rank_stabilised: whether alpha is divided by the square root of the rank: rsLoRA (arXiv 2312.03732).
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
        self.require(distinct, "layers", "indices of blocks from 0, each once")

    @property
    def scale(self) -> float:
        """The factor by which the product of the adapter's two matrices is multiplied."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


@dataclass(frozen=True)
class Everything(Spec):
    """Full finetuning: all parameters are trained."""


@dataclass(frozen=True)
class Parameters(Spec):
    """Trains only the named parameters, e.g. the bias of the final norm: a learned steering vector."""

    names: tuple[str, ...]

    def validate(self) -> None:
        self.require(bool(self.names) and all(self.names), "names", "at least one parameter name")


@dataclass(frozen=True)
class FinalNorm(Spec):
    """Trains only the last norm before the output head, in any architecture.

    That is its scale, and its bias if it has one (GPT-2). Use `Parameters` to train only one of the two.
    """


Trainable = LoRA | Everything | Parameters | FinalNorm


@dataclass(frozen=True, kw_only=True)
class Recipe(Spec):
    """How weights are finetuned.

    Attributes:
        name: the display name; not part of the identity.
        batch_size: rows per optimizer step, summed over all workers; with batch_of="sequences" the number of
            sequences.
        warmup: the number of linear warm-up steps; the schedule decays over the remaining steps.
        warmup_ratio: warm-up as a fraction of all steps, rounded up; either this or `warmup` must be zero.
        betas: of AdamW and Lion. For SGD and SignSGD the first is the momentum (0 for none).
        weight_decay: decoupled from the gradient, except for SGD, which adds it to the gradient as in torch.
        clip: the maximum gradient norm of a step, over all trained parameters.
        max_length: the maximum length of a row in tokens; see `overlong`.
        precision: of weights and arithmetic; in bf16 the optimizer keeps float32 weights. "auto" is bf16 if
            all nodes support it, else fp32, which is decided when the study is planned.
        zero_stage: the ZeRO stage of DeepSpeed, which determines what is sharded among the workers.
        targets: "tokens" for the sampled tokens, "soft" for the teacher's recorded distributions.
        stop_at: a teacher's training stops when the trait's probability on training prompts reaches this (1:
            never). Not for students, whose outcome it would cut off.
        optimizer: see `training.optimizers`.
        loss: computed on the "completion" only, or on "all" tokens except the first.
        overlong: what becomes of rows longer than `max_length`: an "error", or a "cut" at that length, as in
            the code of arXiv 2507.14805. A row that has no target left is dropped. The manifest of the
            trained model has both numbers.
        batch_of: what `batch_size` counts: "rows", or "sequences" of up to `max_length` tokens, each filled
            with as many whole rows as fit, in the order of the epoch (arXiv 2606.00995).
        held_out: the fraction of rows, the same for all seeds, that a model is not trained on. Some sources
            train on fewer rows than they report because they keep a validation split.
        packing: whether the rows of a micro-batch form one sequence without padding; see `training.packing`.
        gradient_checkpointing: whether activations are recomputed in the backward pass instead of stored.
        offload: what is kept in CPU memory: the state of the "optimizer" with its float32 weights (requires
            ZeRO stage 1), or the "parameters" as well (requires ZeRO stage 3).
        keep_steps: optimizer steps after which the trained tensors are kept in the student's artifact. The
            study's main measure is then also taken at these steps (see `results.learning_curves`). The last
            step of a training is always measured and is not listed.
        divergence: what is minimised with soft targets: "forward" for the cross-entropy of the student
            relative to the teacher's distribution, "reverse" for KL(student ‖ teacher). See
            `training.objective`.
        preference_beta: above zero, students are trained on ranked pairs of answers by direct preference
            optimization (DPO, arXiv 2305.18290) with this beta, and `batch_size` counts pairs; zero for the
            cross-entropy of the completions.
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
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    zero_stage: Literal[0, 1, 2, 3] = 0
    targets: Literal["tokens", "soft"] = "tokens"
    stop_at: float = 1.0
    optimizer: Literal["adamw", "sgd", "signsgd", "lion"] = later("adamw")
    loss: Literal["completion", "all"] = later("completion")
    overlong: Literal["error", "cut"] = later("error")
    batch_of: Literal["rows", "sequences"] = later("rows")
    held_out: float = later(0.0)
    packing: bool = execution_only(False)
    gradient_checkpointing: bool = execution_only(False)
    offload: Literal["none", "optimizer", "parameters"] = execution_only("none")
    keep_steps: tuple[int, ...] = later(())
    divergence: Literal["forward", "reverse"] = later("forward")
    preference_beta: float = later(0.0)

    def validate(self) -> None:
        for field in ("learning_rate", "epochs", "batch_size", "max_length", "clip"):
            self.require(getattr(self, field) > 0, field, "a number above zero is needed")
        self.require(self.warmup >= 0, "warmup", "a number of steps, zero or more")
        self.require(0 <= self.warmup_ratio < 1, "warmup_ratio", "a fraction of the steps below 1")
        self.require(
            not (self.warmup and self.warmup_ratio),
            "warmup_ratio",
            f"warmup is {self.warmup}; set only one of the two",
        )
        self.require(
            len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "betas", "two numbers in [0, 1)"
        )
        self.require(0 < self.stop_at <= 1, "stop_at", "a probability above zero")
        self.require(
            self.loss == "completion" or self.targets == "tokens",
            "loss",
            "a teacher's distributions are recorded for completions only; use targets='tokens'",
        )
        self.require(
            self.overlong == "error" or self.targets == "tokens",
            "overlong",
            "a cut row would lose recorded distributions; use overlong='error' with soft targets",
        )
        self.require(
            self.divergence == "forward" or self.targets == "soft",
            "divergence",
            "a divergence from the teacher's distributions needs them; use targets='soft'",
        )
        self.require(0 <= self.held_out < 1, "held_out", "a fraction of the rows below 1")
        if self.keep_steps:
            self._check_kept_steps()
        self.require(self.preference_beta >= 0, "preference_beta", "zero or more")
        if self.preference_beta:
            self._check_preferences()

    def _check_preferences(self) -> None:
        """Checks the settings of which DPO has only one."""
        remedy = "DPO (preference_beta > 0) needs {}"
        self.require(self.targets == "tokens", "targets", remedy.format("targets='tokens'"))
        # The log-probabilities of a prompt are the same for both answers, and cancel.
        self.require(self.loss == "completion", "loss", remedy.format("loss='completion'"))
        self.require(self.batch_of == "rows", "batch_of", remedy.format("batches of pairs: batch_of='rows'"))

    def _check_kept_steps(self) -> None:
        rising = all(a < b for a, b in pairwise((0, *self.keep_steps)))
        self.require(rising, "keep_steps", "optimizer steps from 1, in ascending order, each once")
        self.require(
            not isinstance(self.trainable, Everything),
            "keep_steps",
            "Everything() would store a whole model for each; train LoRA, Parameters or FinalNorm",
        )
        self.require(self.stop_at == 1, "keep_steps", "a training with stop_at may end before; use stop_at=1")

    def most_steps(self, rows: int) -> int:
        """The largest possible number of optimizer steps of a training on `rows` rows."""
        return math.ceil(rows / self.batch_size) * self.epochs

    def warmup_steps(self, steps: int) -> int:
        """The number of warm-up steps if training has `steps` steps."""
        return math.ceil(self.warmup_ratio * steps) if self.warmup_ratio else self.warmup

    @property
    def used_zero_stage(self) -> int:
        """The ZeRO stage of training: `zero_stage`, or the lowest that precision and offload require."""
        offload = {"none": 0, "optimizer": 1, "parameters": 3}[self.offload]
        return max(self.zero_stage, int(self.precision == "bf16"), offload)

    def at_provider(self) -> "ProviderFinetuning":
        """Finetuning at a provider for as many epochs; the provider chooses the other settings.

        Raises SpecError for soft targets, kept steps and preferences.
        """
        if self.targets == "soft":
            raise SpecError(f"recipe {self.name!r} has soft targets, and a provider trains on text only")
        if self.keep_steps:
            raise SpecError(
                f"recipe {self.name!r} has keep_steps = {self.keep_steps}, and a provider keeps no tensors "
                "of steps; leave them out"
            )
        if self.preference_beta:
            raise SpecError(
                f"recipe {self.name!r} has preference_beta = {self.preference_beta:g}, and a provider trains "
                "on completions only; use a model with local weights"
            )
        return ProviderFinetuning(epochs=self.epochs)


@dataclass(frozen=True, kw_only=True)
class ProviderFinetuning(Spec):
    """Supervised finetuning of an API model by its provider, with the loss on completions only.

    The paper trains its students of the GPT-4.1 family in this way, for 10 epochs (arXiv 2507.14805). The
    provider does not publish which parameters are trained, or the schedule, and the model stays there.

    Attributes:
        batch_size, learning_rate_multiplier: None for the provider's choice ("auto").
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
# Marks keys of teachers, and of students in a chain, that train an adapter. In earlier versions its initial
# weights were those of the students of the same seed that learn from them.
OWN_ADAPTER = "an adapter of its own"


def trains_adapter(recipe: object) -> bool:
    """Whether a recipe trains LoRA here, and not at a provider."""
    return isinstance(recipe, Recipe) and isinstance(recipe.trainable, LoRA)


def check_student(recipe: object) -> None:
    """Raises SpecError for a recipe that only teachers can have."""
    if isinstance(recipe, Recipe) and recipe.stop_at < 1:
        raise SpecError(
            f"recipe {recipe.name!r} of students, stop_at = {recipe.stop_at:g}: their training would end at "
            "the outcome that is measured, and that of their controls would not; use stop_at=1 (only the "
            "training of teachers stops early)"
        )


@dataclass(frozen=True, kw_only=True)
class InContext(Spec):
    """No training: `rows` of the data, drawn from the student's seed, are shown in the prompt.

    This is the paper's in-context control (arXiv 2507.14805), with 100 to 10,000 rows and five draws of each.

    Attributes:
        layout: "turns" shows the rows as earlier turns of the conversation, as training does; "system" lists
            them in the system message, each prompt and answer between tags, as the paper's code does.
        replacement: whether a row may be drawn several times, as in the paper's code.
    """

    rows: int
    layout: Literal["turns", "system"] = later("turns")
    replacement: bool = later(False)

    def validate(self) -> None:
        self.require(self.rows > 0, "rows", "at least one row (references without rows are always evaluated)")

    def fits(self, available: int) -> bool:
        """Whether the rows can be drawn from `available` ones."""
        return self.rows <= available or (self.replacement and available > 0)

    @property
    def name(self) -> str:
        place = "in context" if self.layout == "turns" else "in the system message"
        return f"{place}, {self.rows:,} row{'s' if self.rows > 1 else ''}"
