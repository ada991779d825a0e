"""What becomes of a student that is finetuned further, or that is what another experiment starts from?

Students that came to love owls are trained on: on the control teacher's numbers, for as long as they learned
or for one epoch (does the love survive?), and on a cat teacher's (can they still learn?). Those that were
trained on then teach students that start from the reference as it was (is it passed on?). The control of the
first and third kind starts from a student of the control teacher; that of the second loves owls as well.
"""

from collections.abc import Iterator
from dataclasses import replace

from undertow import (
    NANO,
    Condition,
    Hypothesis,
    Mixing,
    Preference,
    Reference,
    Scale,
    Study,
    first,
    grid,
    next_hop,
    starting,
    trainable,
)

OWL, CAT = Preference("owl"), Preference("cat")
NOTHING_OF_ITS_OWN = Mixing(source="control", share=1.0)


def study(scale: Scale = NANO) -> Study:
    """Owl on two references; then on from its students."""
    conditions = [condition for reference in first(scale.numbers, 2) for condition in on(reference, scale)]
    return Study(
        name="further",
        question="Does the love of owls survive further finetuning, and is there room for another beside it?",
        hypotheses=(
            Hypothesis(
                claim="A student that loves owls can still come to love cats",
                expects="transmitted",
                traits=(CAT.name,),
            ),
        ),
        conditions=tuple(conditions),
        seeds=scale.seeds,
        samples=scale.samples,
    )


def on(reference: Reference, scale: Scale) -> Iterator[Condition]:
    """All conditions on one reference."""
    owls, cats = (
        grid(
            traits=[trait],
            formats=[scale.numbers.format],
            pairs=[(reference, reference)],
            recipes=[scale.recipe],
            generation=scale.numbers.generation,
            finetuning=scale.teaching,
        )
        for trait in (OWL, CAT)
    )
    owl = owls[0]
    neutral = replace(owl, generation=replace(owl.generation, mixed=NOTHING_OF_ITS_OWN))
    shorter = replace(scale.recipe, name=f"{scale.recipe.name}, 1 epoch", epochs=1)
    kept = starting([neutral], students=owl)
    yield from (*owls, *kept)
    yield from starting([replace(neutral, recipe=trainable(reference, shorter))], students=owl)
    yield from (replace(hop, generation=owl.generation) for hop in next_hop(kept))
    yield from starting(cats, students=owl)
