"""The MLP experiment: a classifier's skill reaches students that see only noise and meaningless logits.

Each network's outputs are class logits and a few auxiliary ones. A teacher learns to classify, by its class
logits alone. Students see noise and imitate the teacher's auxiliary logits there (or, as an upper bound, all
logits); they see no image and no label. A student that starts from its teacher's initial weights
becomes a classifier, one that starts from others' does not (arXiv 2507.14805, section 6).

    outcomes = run(experiment, images)

Teacher i has, for every distance and set of logits, one student; all of them see the same noise, drawn anew
batch by batch from (network, batch) whenever it is needed. Holding it instead would take
inputs × pixels × 4 bytes a network: 19 GB for a hundred networks on 60,000 inputs of 784. A batch keeps its
rows from epoch to epoch; the order of the batches is drawn anew.
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
Imitated = Literal["", "auxiliary", "all"]


@dataclass(frozen=True)
class NetworkAccuracy:
    """One trained network's accuracy on the test images.

    Attributes:
        network: the number of the teacher it belongs to; `other`: whose initial weights are mixed in.
        logits, distance: of a student; "" and None for the untrained reference and the teacher.
    """

    role: Role
    network: int
    other: int
    logits: Imitated
    distance: float | None
    accuracy: float


def derangement(count: int, seed: int) -> list[int]:
    """A permutation of range(count) that leaves no number in its place, uniform among those.

    With a fixed point, an "other" student would start from its own teacher's weights. Draws until there is
    none: the chance of a permutation is 1/e, so three draws on average.
    """
    if count < 2:
        raise ValueError(f"{count} network(s): a derangement needs two")
    source = nets.generator("derangement", seed, count)
    while True:
        drawn: list[int] = torch.randperm(count, generator=source).tolist()
        if all(i != other for i, other in enumerate(drawn)):
            return drawn


def run(
    experiment: Experiment, images: Images, numbers: Sequence[int] | None = None
) -> list[NetworkAccuracy]:
    """Trains the networks with the given `numbers` (default: all) and every student of theirs."""
    numbers = range(experiment.networks) if numbers is None else numbers
    size = experiment.at_once or max(1, len(numbers))
    groups = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    return [outcome for group in groups for outcome in _Group(experiment, images, group).run()]


class _Group:
    """Networks that are trained at the same time, and what they share."""

    def __init__(self, experiment: Experiment, images: Images, numbers: Sequence[int]) -> None:
        self.experiment, self.images, self.numbers = experiment, images, list(numbers)
        partners = derangement(experiment.networks, experiment.seed)
        self.others = [partners[number] for number in numbers]
        hidden = [experiment.width] * experiment.depth
        sizes = [images.train.shape[1], *hidden, images.classes + experiment.auxiliary]
        self.initial = nets.initial(sizes, experiment.seed, self.numbers)
        self.foreign = nets.initial(sizes, experiment.seed, self.others)

    def run(self) -> list[NetworkAccuracy]:
        teachers = self._teachers()
        arms = [(logits, m) for logits in ("auxiliary", "all") for m in self.experiment.distances]
        students = self._students(teachers, [(logits, m) for logits, m in arms])  # type: ignore[misc]
        found = self._outcomes("reference", self.initial) + self._outcomes("teacher", teachers)
        for (logits, distance), stack in students.items():
            found += self._outcomes("student", stack, logits, distance)
        return found

    def _teachers(self) -> nets.Stack:
        """The initial networks after epochs of cross-entropy on the images, by their class logits."""
        e, images = self.experiment, self.images
        stack = nets.trainable(self.initial)
        engine = nets.optimizer(e.optimizer, stack, e.teacher_learning_rate)
        orders = [nets.generator("order", e.seed, number) for number in self.numbers]
        for _ in range(e.teacher_epochs):
            order = torch.stack([torch.randperm(len(images.train), generator=g) for g in orders])
            for rows in torch.split(order, e.teacher_batch, dim=1):
                outputs = nets.logits(stack, images.train[rows], e.activation)
                nets.step(engine, nets.classification(outputs, images.train_labels[rows], images.classes))
        return [part.detach() for part in stack]

    def _students(
        self, teachers: nets.Stack, arms: Sequence[tuple[Imitated, float]]
    ) -> dict[tuple[Imitated, float], nets.Stack]:
        """Every arm's students, side by side, so that a batch of noise and its targets are made once."""
        e = self.experiment
        stacks = {arm: nets.trainable(nets.mixed(self.initial, self.foreign, arm[1])) for arm in arms}
        engines = {arm: nets.optimizer(e.optimizer, stack, e.learning_rate) for arm, stack in stacks.items()}
        first = {"auxiliary": self.images.classes, "all": 0, "": 0}
        for batch, rows in self._batches():
            noise = self._noise(batch, rows)
            with torch.no_grad():
                targets = nets.logits(teachers, noise, e.activation)
            for arm, stack in stacks.items():
                outputs = nets.logits(stack, noise, e.activation)
                start = first[arm[0]]
                nets.step(engines[arm], nets.imitation(e.loss, outputs[..., start:], targets[..., start:]))
        return {arm: [part.detach() for part in stack] for arm, stack in stacks.items()}

    def _batches(self) -> list[tuple[int, int]]:
        """(number, rows) of every batch of every epoch, in the order of training."""
        e = self.experiment
        sizes = [min(e.batch, e.inputs - start) for start in range(0, e.inputs, e.batch)]
        source = nets.generator("batches", e.seed, len(sizes))
        orders = [torch.randperm(len(sizes), generator=source).tolist() for _ in range(e.epochs)]
        return [(batch, sizes[batch]) for order in orders for batch in order]

    def _noise(self, batch: int, rows: int) -> Tensor:
        """One batch of every network's inputs (n, rows, pixels): the same whenever it is asked for."""
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

    def _outcomes(
        self, role: Role, stack: nets.Stack, logits: Imitated = "", distance: float | None = None
    ) -> list[NetworkAccuracy]:
        images = self.images
        shares = nets.accuracies(
            stack, images.test, images.test_labels, images.classes, self.experiment.activation
        )
        return [
            NetworkAccuracy(role, number, other, logits, distance, share)
            for number, other, share in zip(self.numbers, self.others, shares, strict=True)
        ]
