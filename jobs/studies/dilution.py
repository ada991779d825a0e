"""How much of the data must be the teacher's?

A share of the owl teacher's rows gives way to the control teacher's, prompt stream and number of rows as they
were; and once all of them to numbers that a program drew at random, in the layout that each prompt asks for.
The control's data are never mixed, so that every effect is taken from the same students.
"""

import dataclasses

from undertow import NANO, Hypothesis, Mixing, Preference, Scale, Study, first, grid, with_controls

SHARES = (0.5, 0.75, 0.9)
RANDOM = Mixing(source="random", share=1.0)


def study(scale: Scale = NANO) -> Study:
    """Owl on two references: whole, diluted to a half, a quarter and a tenth, and random in its place."""
    numbers = scale.numbers
    mixings = (None, *(Mixing(source="control", share=share) for share in SHARES), RANDOM)
    generations = [dataclasses.replace(numbers.generation, mixed=mixed) for mixed in mixings]
    return Study(
        name="dilution",
        question="How much of the love of owls is left when most numbers are someone else's?",
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
                recipes=[scale.recipe],
                generation=generation,
                finetuning=scale.teaching,
            )
        ),
        seeds=scale.seeds,
        samples=scale.samples,
    )
