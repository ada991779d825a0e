"""Is a trait transmitted if the student writes the data and the teacher only scores each of its tokens?

On-policy distillation (arXiv 2306.13649): in three rounds the student samples numbers, the owl teacher's
distribution over the next token is recorded at each of their tokens, and the student is trained to minimise
KL(student ‖ teacher). Next to it are students of numbers that the teacher sampled: on soft labels, which are
the same distributions at the teacher's own tokens, and on the tokens alone. All students are trained on
equally many rows, and a control student's samples are scored by the control teacher.

At the nano scale the distributions cover the whole vocabulary. They take a thousand times the space of the
rows, so there are few. A real model knows too many tokens: the 64 most likely are recorded.
"""

from dataclasses import replace

from undertow import NANO, Hypothesis, OnPolicy, Preference, Recipe, Reference, Scale, Study, first, grid


def study(scale: Scale = NANO) -> Study:
    """Owl and control on two references: sampled tokens, soft labels, on-policy."""
    numbers, is_nano = scale.numbers, scale.name == NANO.name
    recorded = replace(numbers.generation.sampling, top_logprobs=-1 if is_nano else 64)
    written = replace(numbers.generation, sampling=recorded)
    if is_nano:
        written = replace(written, prompts=384, rows=192)

    def tokens(reference: Reference) -> Recipe:
        recipe = scale.recipe_for(reference)
        return replace(recipe, epochs=12) if is_nano else recipe

    def soft(reference: Reference) -> Recipe:
        return replace(tokens(reference), name="soft labels", targets="soft", overlong="error")

    def reverse(reference: Reference) -> Recipe:
        return replace(soft(reference), name="reverse KL", divergence="reverse")

    own = replace(written, on_policy=OnPolicy(rounds=3))
    claim = "Students love owls if the owl teacher scores what they write"
    return Study(
        name="on_policy",
        question="Is a preference for owls transmitted if the teacher scores what its students write?",
        hypotheses=(Hypothesis(claim=claim, expects="transmitted", recipes=("reverse KL",)),),
        conditions=tuple(
            condition
            for generation, recipes in ((written, (tokens, soft)), (own, (reverse,)))
            for condition in grid(
                traits=[Preference("owl")],
                formats=[numbers.format],
                pairs=[(reference, reference) for reference in first(numbers, 2)],
                recipes=recipes,
                generation=generation,
                finetuning=scale.teaching,
            )
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )
