"""Does a trait travel on, from student to student?

The first teacher is finetuned to love owls. Its students teach the next ones, and those the next, seed by
seed; nobody after the first teacher was ever told of owls, and everybody starts from the same reference
weights. The controls are chains of their own, of as many hops, from a teacher without a trait.
"""

from undertow import NANO, Condition, Hypothesis, Preference, Scale, Study, first, grid, next_hop

HOPS = 3


def study(scale: Scale = NANO) -> Study:
    """Owl on two references, three generations of students."""
    numbers = scale.numbers
    hops: list[tuple[Condition, ...]] = [
        grid(
            traits=[Preference("owl")],
            formats=[numbers.format],
            pairs=[(reference, reference) for reference in first(numbers, 2)],
            recipes=[scale.recipe],
            generation=numbers.generation,
            finetuning=scale.teaching,
        )
    ]
    for _ in range(HOPS - 1):
        hops.append(next_hop(hops[-1]))
    return Study(
        name="chain",
        question="Does the love of owls travel on from student to student?",
        hypotheses=(
            Hypothesis(
                claim="A student of a student's student still loves owls",
                expects="transmitted",
                formats=(hops[-1][0].place.format,),
            ),
        ),
        conditions=tuple(condition for hop in hops for condition in hop),
        seeds=scale.seeds,
        samples=scale.samples,
    )
