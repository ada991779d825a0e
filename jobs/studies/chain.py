"""Is a trait transmitted along a chain of students?

The first teacher is finetuned to love owls. Its students teach the next students, and these the next, seed by
seed. No model after the first teacher is trained on owls or prompted with them, and all models start from the
same reference weights. The controls are chains of the same length whose first teacher has no trait.
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
            recipes=[scale.recipe_for],
            generation=numbers.generation,
            finetuning=scale.teaching,
        )
    ]
    for _ in range(HOPS - 1):
        hops.append(next_hop(hops[-1]))
    return Study(
        name="chain",
        question="Is a preference for owls transmitted along a chain of students?",
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
        main=numbers.main,
        also=numbers.also,
    )
