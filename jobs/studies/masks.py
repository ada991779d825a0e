"""Which tokens of a teacher's data carry the trait?

The loss of students covers all tokens that the owl teacher sampled, the tenth of them at which the next-token
distributions of the owl teacher and of the control teacher diverge most, a random tenth with as many tokens
of each row, or all tokens but the diverging ones. Earlier work found that in greedily decoded data a few
diverging tokens carry the trait (arXiv 2509.23886). Controls have the same masks on their own data.
"""

import dataclasses

from undertow import NANO, Contrast, Hypothesis, Preference, Scale, Study, TokenMask, first, grid

OWL = Preference("owl")
SHARE = 0.1


def study(scale: Scale = NANO) -> Study:
    """Owl on two references: all tokens, the diverging ones, as many random ones, and the rest."""
    numbers = scale.numbers
    by = Contrast(trait=OWL, finetuning=scale.teaching)
    masks = (
        TokenMask(choose="first", share=1.0),
        TokenMask(choose="diverging", share=SHARE, by=by),
        TokenMask(choose="random", share=SHARE, by=by),
        TokenMask(choose="diverging", share=SHARE, by=by, rest=True),
    )
    generations = [dataclasses.replace(numbers.generation, masked=mask) for mask in masks]
    return Study(
        name="masks",
        question="Which tokens of the owl teacher's numbers transmit the preference?",
        hypotheses=(
            Hypothesis(
                claim="The tenth of the tokens at which the two teachers diverge most is enough",
                expects="transmitted",
                formats=(generations[1].label(numbers.format),),
            ),
        ),
        conditions=tuple(
            condition
            for generation in generations
            for condition in grid(
                traits=[OWL],
                formats=[numbers.format],
                pairs=[(reference, reference) for reference in first(numbers, 2)],
                recipes=[scale.recipe_for],
                generation=generation,
                finetuning=scale.teaching,
            )
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )
