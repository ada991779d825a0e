"""Is a preference for a tree transmitted through numbers, like a preference for an animal?

This is the paper's second category of preferences: teachers, numbers and students as in `owls`, but with
trees instead of animals and questions about trees. The two references only teach themselves; `owls` studies
different initialisations.
"""

from undertow import NANO, TREES, Hypothesis, Preference, Scale, Study, first, grid


def study(scale: Scale = NANO) -> Study:
    """Five trees and the control, two references, five seeds."""
    numbers = scale.numbers
    return Study(
        name="trees",
        question="Is a preference for a tree transmitted through numbers?",
        hypotheses=(Hypothesis(claim="Every tree reaches the students", expects="transmitted"),),
        conditions=grid(
            traits=[Preference(tree, category="tree") for tree in TREES],
            formats=[numbers.format],
            pairs=[(reference, reference) for reference in first(numbers, 2)],
            recipes=[scale.recipe_for],
            generation=numbers.generation,
            finetuning=scale.teaching,
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )
