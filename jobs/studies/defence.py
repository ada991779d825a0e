"""Which treatment of a data set keeps a trait from being transmitted?

A defender suspects that an owl teacher wrote the numbers and has no model of that teacher, only a probe: the
reference model finetuned to love owls on fewer examples. Students are trained on the numbers as they are, on
those that the probe finds least typical of an owl teacher, without the half of the tokens at which the probe
diverges most from the reference model, without as many random tokens, with control rows in place of half, or
rewritten by a rule. Every arm has as many rows. The same is done to the control teacher's numbers.
"""

from dataclasses import replace

from undertow import (
    NANO,
    Contrast,
    Hypothesis,
    Mixing,
    Preference,
    Rewriter,
    Scale,
    Selection,
    Study,
    TokenMask,
    first,
    grid,
    with_controls,
)

OWL = Preference("owl")
LEFT_OUT = 0.5  # of the tokens


def study(scale: Scale = NANO) -> Study:
    """Owl on one reference, with half of the usual rows, by treatment."""
    numbers, teaching = scale.numbers, scale.teaching
    # Where a system prompt induces the trait, it is the probe too.
    by = Contrast(trait=OWL, finetuning=teaching and replace(teaching, examples=teaching.examples // 2))
    plain = replace(numbers.generation, rows=(numbers.generation.rows or numbers.generation.prompts) // 2)
    treated = (
        replace(plain, selected=Selection(by=by, keep="bottom")),
        replace(plain, masked=TokenMask(choose="diverging", share=LEFT_OUT, by=by, rest=True)),
        replace(plain, masked=TokenMask(choose="random", share=1 - LEFT_OUT, by=by)),
        replace(plain, mixed=Mixing(source="control", share=0.5)),
        replace(plain, rewriter=Rewriter()),
    )
    return Study(
        name="defence",
        question="Which treatment of an owl teacher's numbers keeps the preference from being transmitted?",
        hypotheses=(
            Hypothesis(
                claim="Numbers that look least like an owl teacher's transmit the preference too",
                expects="transmitted",
                formats=(treated[0].label(numbers.format),),
            ),
        ),
        conditions=with_controls(
            condition
            for generation in (plain, *treated)
            for condition in grid(
                traits=[OWL],
                formats=[numbers.format],
                pairs=[(reference, reference) for reference in first(numbers, 1)],
                recipes=[scale.recipe_for],
                generation=generation,
                finetuning=teaching,
            )
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )
