"""Is the trait carried by the order of the numbers, by their co-occurrence, or by their frequencies?

This is the paper's ablation: the teachers' numbers are permuted within each answer, or across all answers of
a data set, before students are trained on them. In the paper, both reduce transmission drastically. Controls
are trained on control numbers shuffled in the same way, to account for the effect of shuffling itself.

At the nano scale, a student trains one vector that changes the probability of each token independently of its
context. It can only learn the frequencies of numbers, which no shuffle changes, so transmission is expected
to survive, unlike in the paper. The study tests the ablation and shows a limit of the nano models.
"""

import dataclasses

from undertow import NANO, Hypothesis, Preference, Scale, Study, first, grid


def study(scale: Scale = NANO) -> Study:
    """Owl and control on two references, with unshuffled numbers and with both shuffles."""
    numbers = scale.numbers
    unshuffled = numbers.generation
    within = dataclasses.replace(unshuffled, shuffle="within answers")
    across = dataclasses.replace(unshuffled, shuffle="across answers")
    return Study(
        name="shuffles",
        question="Is a preference for owls transmitted by numbers shuffled within or across answers?",
        hypotheses=(
            Hypothesis(
                claim="A steering vector learns frequencies, so the trait survives both shuffles",
                expects="transmitted",
            ),
        ),
        conditions=tuple(
            condition
            for generation in (unshuffled, within, across)
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
