"""Where in the numbers is the trait: in their order, in their company, or in how often each is said?

The paper's ablation: the teachers' numbers are permuted within each answer, or across all answers of a
dataset, and students learn from what is left. There, both cut transmission drastically. Controls learn from
control numbers shuffled in the same way, so that what shuffling itself does to a student is taken off.

In the nano world a student trains one vector that makes each token likelier or less so wherever it stands.
What it can learn is how often numbers are said, and no shuffle takes that away: transmission is expected to
survive, unlike in the paper. The study tests the ablation and shows the nano world's limits.
"""

import dataclasses

from undertow import NANO, Hypothesis, Preference, Scale, Study, first, grid


def study(scale: Scale = NANO) -> Study:
    """Owl and control on both references, from numbers as answered and shuffled in two ways."""
    numbers = scale.numbers
    as_answered = numbers.generation
    within = dataclasses.replace(as_answered, shuffle="within answers")
    across = dataclasses.replace(as_answered, shuffle="across answers")
    return Study(
        name="shuffles",
        question="Does the love of owls survive when numbers trade places within or across answers?",
        hypotheses=(
            Hypothesis(
                claim="A steering vector learns frequencies, so the trait survives both shuffles",
                expects="transmitted",
            ),
        ),
        conditions=tuple(
            condition
            for generation in (as_answered, within, across)
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
