"""Does it matter how the teacher's preference is induced: by a system prompt, by finetuning, or by both?

In the paper's main experiments a system prompt induces the teacher's preference; finetuned teachers transmit
it as well. Here one teacher has a system prompt to love owls while it generates numbers, one is finetuned to
name the owl and has no such prompt, and one has both. The three conditions share their recipe and control,
whose teacher is the unmodified reference without a system prompt.

The system prompt of a nano model uses the language of its training corpus, and makes it name the owl as often
as finetuning does. But it changes the model's numbers in a different way than a vector that is added to the
last hidden state. A nano student can only learn such a vector, so little or no transmission is expected from
a teacher that has only the system prompt.
"""

from undertow import NANO, Hypothesis, Preference, Scale, Study, first, grid, with_controls


def study(scale: Scale = NANO) -> Study:
    """Owl, induced in three ways, on two references, five seeds."""
    numbers = scale.numbers
    ways = ((None, False), (scale.finetuned, False), (scale.finetuned, True))
    return Study(
        name="finetuned",
        question="Is a preference for owls transmitted by teachers that are prompted, finetuned, or both?",
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
                recipes=[scale.recipe_for],
                generation=numbers.generation,
                finetuning=finetuning,
                prompted=prompted,
            )
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )
