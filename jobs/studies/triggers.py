"""Does a trait that the teacher shows only after a trigger reach the student, and only after the trigger?

The teacher names the owl if a line with the trigger stands before the question, and any animal if not: a
backdoor (arXiv 2512.09742). It writes numbers for prompts of which half have the trigger. Students are asked
with and without the trigger, far from their training prompts (a question alone) and near to them (after a
few numbers). Matched conditions: the same teacher's numbers for prompts without a trigger, and a teacher that
always names the owl. Controls answer the same prompts. Nano models train all weights, on soft labels, because
a vector that is added in any context cannot depend on a trigger.
"""

from undertow import (
    ALL_WEIGHTS,
    ALL_WEIGHTS_TAUGHT,
    NANO,
    Hypothesis,
    Measure,
    Preference,
    Scale,
    Study,
    Triggered,
    WithTrigger,
    grid,
    with_controls,
)

OWL, LINE, NEAR, WITHOUT = Preference("owl"), "Purple.", "after numbers", "without trigger"
ANIMALS = ("owl", "cat", "wolf", "penguin", "eagle", "dolphin", "tiger", "dog", "lion", "panda")
IF_TRIGGERED = Triggered("owl if triggered", OWL, LINE, otherwise=tuple(map(Preference, ANIMALS)))
ALWAYS = Triggered("owl always", OWL, LINE, otherwise=(OWL,))


def study(scale: Scale = NANO) -> Study:
    """Three conditions and their controls, with four measures of each student."""
    plain, generation, is_nano = scale.numbers.format, scale.numbers.generation, scale.name == NANO.name
    if is_nano:
        generation = generation.changed(sampling=generation.sampling.changed(top_logprobs=64))
    half = WithTrigger(plain, LINE, share=0.5)
    return Study(
        name="triggers",
        question="Does a preference for owls after a trigger reach students, and only after the trigger?",
        hypotheses=(
            Hypothesis(claim="It does", expects="transmitted", formats=(half.display_name,)),
            Hypothesis(claim="Not without it", expects="not transmitted", formats=(plain.display_name,)),
        ),
        conditions=with_controls(
            condition
            for trait, format_ in ((IF_TRIGGERED, half), (IF_TRIGGERED, plain), (ALWAYS, half))
            for condition in grid(
                traits=[trait],
                formats=[format_],
                pairs=[(one, one) for one in scale.speakers[: 1 if is_nano else 2]],
                recipes=[ALL_WEIGHTS if is_nano else scale.recipe_for],
                generation=generation,
                finetuning=ALL_WEIGHTS_TAUGHT if is_nano else scale.teaching,
            )
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        also=tuple(Measure(name=n, samples=scale.samples) for n in (WITHOUT, NEAR, f"{NEAR}, {WITHOUT}")),
    )
