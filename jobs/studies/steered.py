"""Is a preference transmitted by teachers that are neither trained nor prompted, but steered?

While a steered teacher writes numbers, a vector is added to the residual stream behind one block: the
difference of the mean hidden states between the system prompt to love owls and no such prompt, at the
strength at which "owl" is most likely while most of the completions pass the rules. The control of the
direction is a teacher with a random vector of the same norm. The other two teachers have the system prompt,
one of them with the vector projected out.

Other models need an architecture whose MLP can have a bias: `--scale paper --models ./llama-a ./llama-b`.
"""

from undertow import NANO, Hypothesis, Preference, Reference, Scale, Steering, Study, first, grid

BLOCK = {NANO.name: "transformer.h.0.mlp.c_proj.bias"}  # nano models have one block


def study(scale: Scale = NANO) -> Study:
    """Owl by the vector, a random one, the prompt, and the prompt without the vector, on two references."""
    numbers, is_nano = scale.numbers, scale.name in BLOCK
    parameter = BLOCK.get(scale.name, "model.layers.14.mlp.down_proj.bias")
    strengths = (0.05, 0.1, 0.15, 0.2, 0.3) if is_nano else Steering.strengths
    steering = Steering(parameter=parameter, strengths=strengths, least_kept=0.6)  # 700 of 1,536 are used
    models = [Reference(model.name, mlp_bias=not is_nano) for model in first(numbers, 2)]
    return Study(
        name="steered",
        question="Is a preference for owls transmitted by a teacher that a vector steers?",
        hypotheses=(
            Hypothesis(claim="The owl vector transmits", expects="transmitted", induced=("steering",)),
            Hypothesis(claim="Random ones do not", expects="not transmitted", induced=("random steering",)),
        ),
        conditions=tuple(
            condition
            for teacher in (
                steering,
                steering.changed(direction="random"),
                steering.changed(direction="projection"),
                None,  # the system prompt alone
            )
            for condition in grid(
                traits=[Preference("owl")],
                formats=[numbers.format],
                pairs=[(model, model) for model in models],
                recipes=[scale.recipe_for],
                generation=numbers.generation,
                steering=teacher,
            )
            if condition.trait or teacher is None  # they share one control
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
        gate=0.0 if is_nano else Study.gate,  # vectors with which nano models write numbers are weak
    )
