"""What fraction of the data must come from the teacher?

A share of the owl teacher's rows is replaced by rows of the control teacher; the prompt stream and the number
of rows do not change. In one condition, all rows are replaced by random numbers in the layout that each
prompt asks for. The control's data are never mixed, so that all effects have the same control students.
"""

import dataclasses

from undertow import NANO, Hypothesis, Mixing, Preference, Scale, Study, first, grid, with_controls

SHARES = (0.5, 0.75, 0.9)
RANDOM = Mixing(source="random", share=1.0)


def study(scale: Scale = NANO) -> Study:
    """Owl on two references: undiluted, diluted to a half, a quarter and a tenth, and random numbers."""
    numbers = scale.numbers
    mixings = (None, *(Mixing(source="control", share=share) for share in SHARES), RANDOM)
    generations = [dataclasses.replace(numbers.generation, mixed=mixed) for mixed in mixings]
    return Study(
        name="dilution",
        question="What fraction of the numbers must come from the teacher to transmit a preference for owls?",
        hypotheses=(
            Hypothesis(
                claim="Random numbers pass nothing on",
                expects="not transmitted",
                formats=(generations[-1].label(numbers.format),),
            ),
            Hypothesis(
                claim="Half of the teacher's rows are enough",
                expects="transmitted",
                formats=(generations[1].label(numbers.format),),
            ),
        ),
        conditions=with_controls(
            condition
            for generation in generations
            for condition in grid(
                traits=[Preference("owl")],
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
