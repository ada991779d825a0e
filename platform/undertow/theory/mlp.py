"""The MLP experiment: classification skill reaches students that only see noise and meaningless logits.

Each network outputs class logits and a few auxiliary logits. A teacher learns to classify images from the
loss on its class logits alone. Students see noise and imitate the teacher's auxiliary logits on it (or, as an
upper bound, all logits); they see no image and no label. A student that starts from its teacher's initial
weights becomes a classifier; one that starts from another network's does not (arXiv 2507.14805, section 6).

    accuracies = run(experiment, images)

Teacher i has one student for every distance and set of logits, and all of them see the same noise. Each batch
of noise is generated on demand from (network, batch), because storing it would take inputs × pixels × 4 bytes
per network: 19 GB for a hundred networks with 60,000 inputs of 784 pixels. A batch keeps its rows in all
epochs; the order of the batches is shuffled in every epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from undertow.theory import networks as nets
from undertow.theory.data import Images
from undertow.theory.settings import Experiment

Role = Literal["reference", "teacher", "student"]
ImitatedLogits = Literal["", "auxiliary", "all"]


@dataclass(frozen=True)
class NetworkAccuracy:
    """One network's accuracy on the test images.

    Attributes:
        role: "reference" is the untrained network.
        network: number of the teacher that the network belongs to.
        other: number of the network whose initial weights are mixed into those of its students.
        logits, distance: what a student imitates and where it starts; "" and None for other roles.
        accuracy: share of correct answers on the test images.
    """

    role: Role
    network: int
    other: int
    logits: ImitatedLogits
    distance: float | None
    accuracy: float


def derangement(count: int, seed: int) -> list[int]:
    """Draws uniformly among the permutations of range(count) without a fixed point.

    With a fixed point, the student from "another" initialisation would start from its own teacher's weights.
    The function draws permutations until one has no fixed point. Its probability is about 1/e, so this takes
    about three draws on average.

    Raises:
        ValueError: if `count` is below 2.
    """
    if count < 2:
        raise ValueError(f"{count} network(s): a derangement needs two")
    source = nets.generator("derangement", seed, count)
    while True:
        permutation: list[int] = torch.randperm(count, generator=source).tolist()
        if all(i != other for i, other in enumerate(permutation)):
            return permutation


def run(
    experiment: Experiment, images: Images, numbers: Sequence[int] | None = None
) -> list[NetworkAccuracy]:
    """Trains the teachers with the given `numbers` (default: all) and their students."""
    numbers = range(experiment.networks) if numbers is None else numbers
    size = experiment.at_once or max(1, len(numbers))
    groups = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    return [accuracy for group in groups for accuracy in _Group(experiment, images, group).run()]


class _Group:
    """Networks that are trained together as stacks, see `networks`."""

    def __init__(self, experiment: Experiment, images: Images, numbers: Sequence[int]) -> None:
        self.experiment, self.images, self.numbers = experiment, images, list(numbers)
        partners = derangement(experiment.networks, experiment.seed)
        self.others = [partners[number] for number in numbers]
        hidden = [experiment.width] * experiment.depth
        sizes = [images.train.shape[1], *hidden, images.classes + experiment.auxiliary]
        self.initial = nets.initial_weights(sizes, experiment.seed, self.numbers)
        self.other_initial = nets.initial_weights(sizes, experiment.seed, self.others)

    def run(self) -> list[NetworkAccuracy]:
        teachers = self._train_teachers()
        choices: tuple[ImitatedLogits, ...] = ("auxiliary", "all")
        arms = [(logits, distance) for logits in choices for distance in self.experiment.distances]
        students = self._train_students(teachers, arms)
        found = self._accuracies("reference", self.initial) + self._accuracies("teacher", teachers)
        for (logits, distance), stack in students.items():
            found += self._accuracies("student", stack, logits, distance)
        return found

    def _train_teachers(self) -> nets.Stack:
        """Trains the initial networks on the images, with cross-entropy on their class logits."""
        e, images = self.experiment, self.images
        stack = nets.trainable_copy(self.initial)
        optimizer = nets.optimizer(e.optimizer, stack, e.teacher_learning_rate)
        generators = [nets.generator("order", e.seed, number) for number in self.numbers]
        for _ in range(e.teacher_epochs):
            order = torch.stack([torch.randperm(len(images.train), generator=g) for g in generators])
            # Each network has its own order of images, so `rows` is (networks, batch).
            for rows in torch.split(order, e.teacher_batch, dim=1):
                outputs = nets.logits(stack, images.train[rows], e.activation)
                losses = nets.classification_loss(outputs, images.train_labels[rows], images.classes)
                nets.optimizer_step(optimizer, losses)
        return [part.detach() for part in stack]

    def _train_students(
        self, teachers: nets.Stack, arms: Sequence[tuple[ImitatedLogits, float]]
    ) -> dict[tuple[ImitatedLogits, float], nets.Stack]:
        """Trains all arms side by side, so that each batch of noise and targets is computed once."""
        e = self.experiment
        stacks = {
            arm: nets.trainable_copy(nets.interpolate(self.initial, self.other_initial, arm[1]))
            for arm in arms
        }
        optimizers = {
            arm: nets.optimizer(e.optimizer, stack, e.learning_rate) for arm, stack in stacks.items()
        }
        for batch, rows in self._batches():
            noise = self._noise(batch, rows)
            with torch.no_grad():
                targets = nets.logits(teachers, noise, e.activation)
            for arm, stack in stacks.items():
                outputs = nets.logits(stack, noise, e.activation)
                first = self.images.classes if arm[0] == "auxiliary" else 0
                losses = nets.imitation_loss(e.loss, outputs[..., first:], targets[..., first:])
                nets.optimizer_step(optimizers[arm], losses)
        return {arm: [part.detach() for part in stack] for arm, stack in stacks.items()}

    def _batches(self) -> list[tuple[int, int]]:
        """Returns (batch number, rows) for every batch of every epoch, in the order of training."""
        e = self.experiment
        sizes = [min(e.batch, e.inputs - start) for start in range(0, e.inputs, e.batch)]
        source = nets.generator("batches", e.seed, len(sizes))
        orders = [torch.randperm(len(sizes), generator=source).tolist() for _ in range(e.epochs)]
        return [(batch, sizes[batch]) for order in orders for batch in order]

    def _noise(self, batch: int, rows: int) -> Tensor:
        """Generates one batch of inputs (networks, rows, pixels); the same arguments give the same batch."""
        e = self.experiment
        noise = torch.empty(len(self.numbers), rows, self.images.train.shape[1])
        for part, number in zip(noise, self.numbers, strict=True):
            source = nets.generator("noise", e.seed, number, batch)
            if e.noise == "normal":
                part.normal_(generator=source)
            elif e.noise == "signs":
                part.bernoulli_(0.5, generator=source).mul_(2).sub_(1)
            else:
                part.uniform_(-1, 1, generator=source)
        return noise

    def _accuracies(
        self, role: Role, stack: nets.Stack, logits: ImitatedLogits = "", distance: float | None = None
    ) -> list[NetworkAccuracy]:
        images = self.images
        accuracies = nets.accuracies(
            stack, images.test, images.test_labels, images.classes, self.experiment.activation
        )
        return [
            NetworkAccuracy(role, number, other, logits, distance, accuracy)
            for number, other, accuracy in zip(self.numbers, self.others, accuracies, strict=True)
        ]
