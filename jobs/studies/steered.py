"""Is a preference transmitted by teachers that are neither trained nor prompted, but steered?

While a steered teacher writes numbers, a vector is added to the residual stream behind one block: the
difference of the mean hidden states between the system prompt to love owls and no such prompt. The teacher
has no system prompt itself. The strength of the vector is the one, among four, at which the word "owl" is
most likely while more than half of the completions pass the rules of the format.

The control of the direction is a teacher with a random vector of the same norm, which should transmit
nothing. Both are compared with the same control students, whose teacher is the unmodified reference.

Models other than nano models need an architecture whose MLP can have a bias, such as Llama:
`--scale paper --models ./my-llama ./another-llama`.
"""

import dataclasses

from undertow import (
    NANO,
    Hypothesis,
    Preference,
    Reference,
    Scale,
    Steering,
    Study,
    first,
    grid,
    with_controls,
)

# Nano models have one block. More than half of the completions must pass: 700 of 1,536 are used.
OF_NANO = Steering(parameter="transformer.h.0.mlp.c_proj.bias", least_kept=0.6)
OF_LLAMA = Steering(parameter="model.layers.14.mlp.down_proj.bias")
DIRECTIONS = ("difference", "random")


def study(scale: Scale = NANO) -> Study:
    """Owl by the difference vector and by a random one, on two references, five seeds."""
    numbers, is_nano = scale.numbers, scale.name == NANO.name
    models = [model if is_nano else Reference(model.name, mlp_bias=True) for model in first(numbers, 2)]
    steering = OF_NANO if is_nano else OF_LLAMA
    return Study(
        name="steered",
        question="Is a preference for owls transmitted by a teacher that a vector steers?",
        hypotheses=(
            Hypothesis(claim="The owl vector transmits", expects="transmitted", induced=("steering",)),
            Hypothesis(
                claim="A random vector of its norm does not",
                expects="not transmitted",
                induced=("random steering",),
            ),
        ),
        conditions=with_controls(
            condition
            for direction in DIRECTIONS
            for condition in grid(
                traits=[Preference("owl")],
                formats=[numbers.format],
                pairs=[(model, model) for model in models],
                recipes=[scale.recipe_for],
                generation=numbers.generation,
                steering=dataclasses.replace(steering, direction=direction),
            )
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )
