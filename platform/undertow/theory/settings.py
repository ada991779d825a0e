"""What the two pedagogical experiments are run with: frozen specs, the published settings and the small ones.

`Experiment` is the MLP experiment of arXiv 2507.14805, section 6; its fields' defaults are the published
settings. `DIGITS` is the same on scikit-learn's 8 × 8 digits, for a machine without MNIST, with what had to
deviate: there are 1,257 training images and not 60,000, so batches are smaller (16 and 64 in place of 1,024,
which would be one step an epoch), the learning rate is larger (1e-3 in place of 3e-4), the noise inputs are
10,000 and not 60,000, and the networks are 20 and not 100. `OneStep` is the check of Theorem 1.

Nothing here imports torch: a command line is read and refused before anything heavy is loaded.
"""

from dataclasses import dataclass, replace
from typing import Literal

from undertow.study.fields import Spec, execution_only

Activation = Literal["relu", "gelu", "tanh", "silu"]
Imitation = Literal["kl", "squared"]


@dataclass(frozen=True)
class Experiment(Spec):
    """One setting of the MLP experiment and the number of networks it is run with.

    Attributes:
        data: "digits", a local folder of MNIST's IDX or parquet files, or the id of a hub dataset.
        auxiliary: logits beside the class logits; no label ever touches them.
        depth: hidden layers; 0 is a linear model.
        loss: what the student minimises against the teacher's logits.
        noise: what the students see: uniform on [-1, 1], standard normal, or random signs.
        inputs: noise inputs, the same in every epoch.
        distances: of a student's initialisation from its teacher's. At m it starts from
            √(1 - m) · (the teacher's initial weights) + √m · (another network's), which keeps the variance of
            every weight: 0 is the same initialisation, 1 another one.
        batch, learning_rate, epochs: the students'; `teacher_...`: the teachers'.
        at_once: networks in a stack, 0 for all; bounds memory, leaves the results alone. On a CPU larger
            stacks leave its caches and are slower (benchmarks/mlp_stack.py).
    """

    data: str = "digits"
    auxiliary: int = 3
    width: int = 256
    depth: int = 2
    activation: Activation = "relu"
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    loss: Imitation = "kl"
    noise: Literal["uniform", "normal", "signs"] = "uniform"
    inputs: int = 60_000
    epochs: int = 5
    batch: int = 1024
    learning_rate: float = 3e-4
    teacher_epochs: int = 5
    teacher_batch: int = 1024
    teacher_learning_rate: float = 3e-4
    distances: tuple[float, ...] = (0.0, 1.0)
    networks: int = 100
    seed: int = 0
    at_once: int = execution_only(25)

    def validate(self) -> None:
        for name in ("auxiliary", "width", "inputs", "batch", "teacher_batch"):
            self.require(getattr(self, name) >= 1, name, "at least 1 is needed")
        for name in ("depth", "epochs", "teacher_epochs", "at_once"):
            self.require(getattr(self, name) >= 0, name, "zero or more is needed")
        for name in ("learning_rate", "teacher_learning_rate"):
            self.require(getattr(self, name) > 0, name, "a number above zero is needed")
        one_logit = self.auxiliary == 1 and self.loss == "kl"
        self.require(not one_logit, "auxiliary", "softmax over one logit is always 1; take loss='squared'")
        self.require(self.networks >= 2, "networks", "another initialisation needs a second network")
        self.require(
            all(0 <= m <= 1 for m in self.distances) and len(set(self.distances)) == len(self.distances) > 0,
            "distances",
            "different numbers from 0 (the teacher's own initialisation) to 1 (another) are needed",
        )


PAPER = Experiment()
DIGITS = replace(
    PAPER,
    inputs=10_000,
    batch=64,
    learning_rate=1e-3,
    teacher_batch=16,
    teacher_learning_rate=1e-3,
    networks=20,
)


@dataclass(frozen=True)
class Measured(Spec):
    """An experiment and the images it was run on: what a result's name is made of."""

    experiment: Experiment
    images: str


@dataclass(frozen=True)
class OneStep(Spec):
    """The check of Theorem 1 on one kind of model.

    Attributes:
        model: "mlp", a nano model ("nano/gpt2-0"), or a local folder with a Hugging Face causal model.
        other: a model of the same architecture for the other initialisation; "" draws its weights anew.
        draws: of everything random: for the MLP weights, images and noise; for a language model the trait,
            its question and the unrelated inputs.
        epsilons: step sizes of the teacher, from large to small; a draw is judged at the smallest whose
            predicted effect still stands clear of float64's rounding.
        rate: step size of the student.
        width: of the MLP's two hidden layers; 64 and not 256, for a thousand draws in seconds.
        inputs: unrelated inputs a draw: noise vectors, or numbers of a sequence.
        tolerance: how far the measured slope may be from the predicted one at the smallest ε, as a share.
    """

    model: str = "mlp"
    other: str = ""
    draws: int = 1000
    epsilons: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    rate: float = 0.1
    width: int = 64
    inputs: int = 16
    tolerance: float = 0.01
    seed: int = 0

    def validate(self) -> None:
        for name in ("draws", "width", "inputs"):
            self.require(getattr(self, name) >= 1, name, "at least 1 is needed")
        for name in ("rate", "tolerance"):
            self.require(getattr(self, name) > 0, name, "a number above zero is needed")
        falling = all(a > b for a, b in zip(self.epsilons, self.epsilons[1:], strict=False))
        self.require(
            len(self.epsilons) > 0 and falling and self.epsilons[-1] > 0,
            "epsilons",
            "step sizes above zero, from large to small, are needed",
        )


MLP_STEP = OneStep()
LM_STEP = OneStep(
    model="nano/gpt2-0",
    other="nano/gpt2-1",
    draws=16,
    epsilons=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8),
    rate=1e-3,
    inputs=8,
)


@dataclass(frozen=True)
class Checked(Spec):
    """A check and the revisions of the models it was run on: what a result's name is made of."""

    settings: OneStep
    model: str
    other: str
