"""Does it matter how the teacher came by its love: told, trained, or both?

In the paper's main experiments a system prompt gives the teacher its preference; a teacher finetuned to have
it passes it on too. Here one teacher is told to love owls while it writes its numbers, one was finetuned to
name the owl and is told nothing, and one is both. The students and the control are the same for all three:
the control's teacher is the reference as it is, without a system prompt.

A nano model is told in the words it grew up with, and then names the owl as often as a finetuned one. But a
system prompt moves its numbers in another way than a vector added to its last state does, and that vector is
all that a nano student has: little or nothing is expected to travel from a teacher that was merely told.
"""

from undertow import NANO, Hypothesis, Preference, Scale, Study, first, grid, with_controls


def study(scale: Scale = NANO) -> Study:
    """Owl, induced in three ways, on two references, five seeds."""
    numbers = scale.numbers
    ways = ((None, False), (scale.finetuned, False), (scale.finetuned, True))
    return Study(
        name="finetuned",
        question="Does the love of owls travel from teachers that are told, trained, or both?",
        hypotheses=(
            Hypothesis(
                claim="It travels from a teacher that was finetuned",
                expects="transmitted",
                induced=("finetuning", "system prompt and finetuning"),
            ),
        ),
        conditions=with_controls(
            condition
            for finetuning, prompted in ways
            for condition in grid(
                traits=[Preference("owl")],
                formats=[numbers.format],
                pairs=[(reference, reference) for reference in first(numbers, 2)],
                recipes=[scale.recipe],
                generation=numbers.generation,
                finetuning=finetuning,
                prompted=prompted,
            )
        ),
        seeds=scale.seeds,
        samples=scale.samples,
    )
