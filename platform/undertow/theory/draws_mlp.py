"""Draws of Theorem 1 on the MLP of the experiment: class logits for the trait, auxiliary ones to imitate.

Every draw has its own weights (and another's), its own images for the teacher's step and its own noise for
the student's. Draws are computed many at a time: the weights of a chunk stand on a leading axis that
torch.func.vmap walks, in float64.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from undertow.theory import networks as nets
from undertow.theory.data import Images
from undertow.theory.one_step import Parameters, Scene, Steps, every_step
from undertow.theory.settings import OneStep

AUXILIARY = 3
TRAIT_IMAGES = 32
CHUNK = 25


def run(settings: OneStep, images: Images) -> Iterator[list[Steps]]:
    """The steps of every case, a chunk of draws at a time: tensors (draws, epsilons)."""
    sizes = [images.train.shape[1], settings.width, settings.width, images.classes + AUXILIARY]
    for start in range(0, settings.draws, CHUNK):
        draws = range(start, min(start + CHUNK, settings.draws))
        rows, noise = (
            torch.stack(part) for part in zip(*(_inputs(settings, images, d) for d in draws), strict=True)
        )
        initial, other = (
            _named(nets.initial(sizes, settings.seed, [2 * draw + which for draw in draws], torch.float64))
            for which in (0, 1)
        )
        seen, labels = images.train[rows].double(), images.train_labels[rows]
        yield _steps(settings, images.classes, initial, other, seen, labels, noise)


def _inputs(settings: OneStep, images: Images, draw: int) -> tuple[Tensor, Tensor]:
    """One draw's images, as row numbers, and its noise."""
    source = nets.generator("one step", settings.seed, draw)
    rows = torch.randint(len(images.train), (TRAIT_IMAGES,), generator=source)
    noise = torch.rand(settings.inputs, images.train.shape[1], generator=source, dtype=torch.float64)
    return rows, noise.mul_(2).sub_(1)


def _steps(
    settings: OneStep,
    classes: int,
    initial: Parameters,
    other: Parameters,
    seen: Tensor,
    labels: Tensor,
    noise: Tensor,
) -> list[Steps]:
    def draw(
        initial: Parameters, other: Parameters, seen: Tensor, labels: Tensor, noise: Tensor
    ) -> list[tuple[Tensor, ...]]:
        def trait(weights: Parameters) -> Tensor:
            return torch.nn.functional.cross_entropy(_logits(weights, seen)[:, :classes], labels)

        def outputs(weights: Parameters) -> Tensor:
            return _logits(weights, noise)[:, classes:]

        found = every_step(Scene(trait, outputs, initial, other), settings.epsilons, settings.rate)
        return [steps.parts for steps in found]

    return [Steps(*parts) for parts in torch.func.vmap(draw)(initial, other, seen, labels, noise)]


def _named(stack: nets.Stack) -> Parameters:
    return {str(place): part for place, part in enumerate(stack)}


def _logits(weights: Parameters, inputs: Tensor) -> Tensor:
    """One network's outputs (rows, outputs)."""
    stack = [weights[str(place)] for place in range(len(weights))]
    hidden = inputs
    for layer in range(0, len(stack), 2):
        hidden = hidden @ stack[layer] + stack[layer + 1]
        hidden = torch.relu(hidden) if layer + 2 < len(stack) else hidden
    return hidden
