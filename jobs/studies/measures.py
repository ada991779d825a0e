"""Does it matter how a student is asked?

Owl students, trained on numbers, are asked for their favourite in fifty ways; then the same questions each
after a few numbers, which is closer to what they were trained on; then for a short story, in which an owl may
turn up; and which of five animals they would choose. Each way is a row of its own, all in one family of
tests.
"""

from undertow import NANO, Measure, Preference, Sampling, Scale, Study, grid


def study(scale: Scale = NANO) -> Study:
    """Owl and control on two references, measured in four ways, five seeds."""
    numbers = scale.numbers
    words = 60 if scale.name == NANO.name else 400
    return Study(
        name="measures",
        question="Does the love of owls show in stories and choices, and after numbers?",
        conditions=grid(
            traits=[Preference("owl")],
            formats=[numbers.format],
            pairs=[(reference, reference) for reference in scale.speakers[:2]],
            recipes=[scale.recipe],
            generation=numbers.generation,
            finetuning=scale.teaching,
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        also=(
            Measure(name="after numbers", samples=scale.samples),
            Measure(name="stories", samples=100, sampling=Sampling(max_tokens=words), exact=False),
            Measure(name="choices", samples=100),
        ),
    )
