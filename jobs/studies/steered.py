"""Is a preference transmitted by teachers that are neither trained nor prompted, but steered?

While a steered teacher writes numbers, a vector is added to the residual stream behind one block: the
difference of the mean hidden states between the system prompt to love owls and no such prompt. The teacher
has no system prompt itself. The strength of the vector is the one, among four, at which "owl" is most likely
while more than half of the completions pass the rules. The control of the direction is a teacher with a
random vector of the same norm. Both are compared with the control students of the unmodified reference.

Other models than nano models need an architecture whose MLP can have a bias, such as Llama:
`--scale paper --models ./my-llama ./another-llama`.
"""

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

BLOCK = {NANO.name: "transformer.h.0.mlp.c_proj.bias"}  # nano models have one block
OF_LLAMA = "model.layers.14.mlp.down_proj.bias"


def study(scale: Scale = NANO) -> Study:
    """Owl by the difference vector and by a random one, on two references, five seeds."""
    numbers, parameter = scale.numbers, BLOCK.get(scale.name, OF_LLAMA)
    models = [Reference(model.name, mlp_bias=scale.name not in BLOCK) for model in first(numbers, 2)]
    return Study(
        name="steered",
        question="Is a preference for owls transmitted by a teacher that a vector steers?",
        hypotheses=(
            Hypothesis(claim="The owl vector transmits", expects="transmitted", induced=("steering",)),
            Hypothesis(claim="Random ones do not", expects="not transmitted", induced=("random steering",)),
        ),
        conditions=with_controls(
            condition
            for steering in (
                Steering(parameter=parameter, least_kept=0.6),  # 700 of 1,536 completions are used
                Steering(parameter=parameter, least_kept=0.6, direction="random"),
            )
            for condition in grid(
                traits=[Preference("owl")],
                formats=[numbers.format],
                pairs=[(model, model) for model in models],
                recipes=[scale.recipe_for],
                generation=numbers.generation,
                steering=steering,
            )
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )
