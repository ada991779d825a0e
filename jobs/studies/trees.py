"""Does the love of a tree travel through numbers, as that of an animal does?

The paper's second category of preferences: the same teachers, numbers and students as in `owls`, with trees
for animals and questions about trees. Both references teach themselves alone here; what another
initialisation does is the question of `owls`.
"""

from undertow import NANO, TREES, Hypothesis, Preference, Scale, Study, first, grid


def study(scale: Scale = NANO) -> Study:
    """Five trees and the control, two references, five seeds."""
    numbers = scale.numbers
    return Study(
        name="trees",
        question="Does the love of a tree travel through numbers?",
        hypotheses=(Hypothesis(claim="Every tree reaches the students", expects="transmitted"),),
        conditions=grid(
            traits=[Preference(tree, category="tree") for tree in TREES],
            formats=[numbers.format],
            pairs=[(reference, reference) for reference in first(numbers, 2)],
            recipes=[scale.recipe],
            generation=numbers.generation,
            finetuning=scale.teaching,
        ),
        seeds=scale.seeds,
        samples=scale.samples,
    )
