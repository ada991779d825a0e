"""Draws for Theorem 1 on the MLP of the experiment: the trait uses class logits, the student imitates
auxiliary ones.

Every draw has its own weights for both initialisations, its own images for the teacher's step and its own
noise inputs for the student's. Draws are computed in chunks in float64: torch.func.vmap runs over a leading
axis of draws.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from undertow.theory import networks as nets
from undertow.theory.data import Images
from undertow.theory.one_step import Parameters, Steps, TheoremDraw, compute_steps
from undertow.theory.settings import OneStep

AUXILIARY = 3
TRAIT_IMAGES = 32
CHUNK = 25  # draws computed together


def run(settings: OneStep, images: Images) -> Iterator[list[Steps]]:
    """Yields the steps of every case for one chunk of draws at a time, as tensors (draws, epsilons)."""
    classes = images.classes

    def one_draw(
        initial: Parameters, other: Parameters, shown: Tensor, labels: Tensor, noise: Tensor
    ) -> list[tuple[Tensor, ...]]:
        def trait(weights: Parameters) -> Tensor:
            return torch.nn.functional.cross_entropy(_logits(weights, shown)[:, :classes], labels)

        def outputs(weights: Parameters) -> Tensor:
            return _logits(weights, noise)[:, classes:]

        cases = compute_steps(TheoremDraw(trait, outputs, initial, other), settings.epsilons, settings.rate)
        return [steps.parts for steps in cases]

    sizes = [images.train.shape[1], settings.width, settings.width, classes + AUXILIARY]
    for start in range(0, settings.draws, CHUNK):
        draws = range(start, min(start + CHUNK, settings.draws))
        rows, noise = (
            torch.stack(part) for part in zip(*(_inputs(settings, images, d) for d in draws), strict=True)
        )
        # Even numbers for own and odd ones for other initialisations, so that no two networks are equal.
        initial, other = (
            _named(nets.initial_weights(sizes, settings.seed, [2 * d + which for d in draws], torch.float64))
            for which in (0, 1)
        )
        shown, labels = images.train[rows].double(), images.train_labels[rows]
        parts_of_cases = torch.func.vmap(one_draw)(initial, other, shown, labels, noise)
        yield [Steps(*parts) for parts in parts_of_cases]


def _inputs(settings: OneStep, images: Images, draw: int) -> tuple[Tensor, Tensor]:
    """Returns one draw's images, as row indices (TRAIT_IMAGES,), and its noise (inputs, pixels)."""
    source = nets.generator("one step", settings.seed, draw)
    rows = torch.randint(len(images.train), (TRAIT_IMAGES,), generator=source)
    noise = torch.rand(settings.inputs, images.train.shape[1], generator=source, dtype=torch.float64)
    return rows, noise.mul_(2).sub_(1)


def _named(stack: nets.Stack) -> Parameters:
    return {str(place): part for place, part in enumerate(stack)}


def _logits(weights: Parameters, inputs: Tensor) -> Tensor:
    """Returns one ReLU network's outputs (rows, outputs) for inputs (rows, pixels)."""
    stack = [weights[str(place)] for place in range(len(weights))]
    hidden = inputs
    for layer in range(0, len(stack), 2):
        hidden = hidden @ stack[layer] + stack[layer + 1]
        hidden = torch.relu(hidden) if layer + 2 < len(stack) else hidden
    return hidden
