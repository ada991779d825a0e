"""Does the effect depend on how students are evaluated?

Owl students that were trained on numbers are asked for their favourite animal in fifty phrasings; the same
questions after a few numbers, which is closer to their training data; for a short story, in which an owl may
occur; and which of five animals they would choose. Each measure has its own row in the table of effects, and
the p-values are adjusted over all of them.
"""

from undertow import NANO, Measure, Preference, Sampling, Scale, Study, grid


def study(scale: Scale = NANO) -> Study:
    """Owl and control on two references, four measures, five seeds."""
    numbers = scale.numbers
    words = 60 if scale.name == NANO.name else 400
    return Study(
        name="measures",
        question="Does a preference for owls also show after numbers, in stories and in choices?",
        conditions=grid(
            traits=[Preference("owl")],
            formats=[numbers.format],
            pairs=[(reference, reference) for reference in scale.speakers[:2]],
            recipes=[scale.recipe_for],
            generation=numbers.generation,
            finetuning=scale.teaching,
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        also=(
            Measure(name="after numbers", samples=scale.samples),
            Measure(name="stories", samples=100, sampling=Sampling(max_tokens=words), exact=False),
            Measure(name=scale.choices, samples=100),
        ),
    )
