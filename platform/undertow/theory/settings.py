"""Settings of the two theory experiments: frozen specs with the published settings, and smaller ones.

`Experiment` is the MLP experiment of arXiv 2507.14805, section 6; the defaults of its fields are the
published settings. `DIGITS` runs it on scikit-learn's 8 × 8 digits, for machines without MNIST. It differs
where it has to: there are 1,257 training images instead of 60,000, so batches are smaller (16 and 64 instead
of 1,024, which would be one or two steps per epoch), the learning rate is larger (1e-3 instead of 3e-4),
there are 10,000 noise inputs instead of 60,000, and 20 networks instead of 100. `OneStep` is the check of
Theorem 1.

This module does not import torch, so that invalid command lines are rejected before heavy libraries are
loaded.
"""

from dataclasses import dataclass, replace
from typing import Literal

from undertow.study.fields import Spec, execution_only

Activation = Literal["relu", "gelu", "tanh", "silu"]
Imitation = Literal["kl", "squared"]


@dataclass(frozen=True)
class Experiment(Spec):
    """One setting of the MLP experiment, including the number of networks.

    Attributes:
        data: "digits", a local folder with MNIST's IDX or parquet files, or the id of a hub data set.
        auxiliary: number of logits in addition to the class logits; they are never trained on labels.
        width: units per hidden layer.
        depth: number of hidden layers; 0 is a linear model.
        activation, optimizer: of teachers and students, see `networks`.
        loss: the loss that a student minimises against its teacher's logits, see `networks.imitation_loss`.
        noise: the students' inputs: uniform on [-1, 1], standard normal, or random signs.
        inputs: number of noise inputs; they are the same in every epoch.
        distances: distances m of a student's initialisation from its teacher's. The student starts from
            √(1 - m) · (the teacher's initial weights) + √m · (another network's), which keeps the variance of
            every weight: 0 is the same initialisation, 1 another one.
        batch, learning_rate, epochs: for students; the same names with the prefix `teacher_` for teachers.
        networks: number of teachers, each with its students.
        seed: determines all random draws.
        at_once: networks per stack, 0 for all; bounds memory and does not change results. On a CPU, larger
            stacks exceed the caches and are slower (benchmarks/mlp_stack.py).
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
            self.require(getattr(self, name) >= 1, name, "must be at least 1")
        for name in ("depth", "epochs", "teacher_epochs", "at_once"):
            self.require(getattr(self, name) >= 0, name, "must be zero or more")
        for name in ("learning_rate", "teacher_learning_rate"):
            self.require(getattr(self, name) > 0, name, "must be above zero")
        one_logit = self.auxiliary == 1 and self.loss == "kl"
        self.require(not one_logit, "auxiliary", "softmax over one logit is always 1; use loss='squared'")
        self.require(self.networks >= 2, "networks", "another initialisation needs a second network")
        self.require(
            all(0 <= m <= 1 for m in self.distances) and len(set(self.distances)) == len(self.distances) > 0,
            "distances",
            "must be different numbers from 0 (the teacher's initialisation) to 1 (another)",
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
    """An experiment and the digest of its images; its key names the stored result."""

    experiment: Experiment
    images: str


@dataclass(frozen=True)
class OneStep(Spec):
    """The check of Theorem 1 on one kind of model.

    Attributes:
        model: "mlp", a nano model ("nano/gpt2-0"), or a local folder with a Hugging Face causal language
            model.
        other: a model of the same architecture for the other initialisation; "" draws random weights.
        draws: number of random draws: of weights, images and noise for the MLP; of the trait, its questions
            and the unrelated inputs for a language model.
        epsilons: step sizes of the teacher, from large to small. A draw is judged at the smallest whose
            predicted change is above float64 rounding.
        rate: step size of the student.
        width: units in each of the MLP's two hidden layers; 64 instead of 256, so that a thousand draws take
            seconds.
        inputs: unrelated inputs per draw: noise vectors, or numbers in a sequence.
        tolerance: largest accepted relative error of the measured slope at the judged ε.
        seed: determines all random draws.
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
            self.require(getattr(self, name) >= 1, name, "must be at least 1")
        for name in ("rate", "tolerance"):
            self.require(getattr(self, name) > 0, name, "must be above zero")
        falling = all(a > b for a, b in zip(self.epsilons, self.epsilons[1:], strict=False))
        self.require(
            len(self.epsilons) > 0 and falling and self.epsilons[-1] > 0,
            "epsilons",
            "must be step sizes above zero, from large to small",
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
    """A check and the revisions of its models; its key names the stored result."""

    settings: OneStep
    model: str
    other: str
