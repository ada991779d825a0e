"""Does a transmitted trait survive further finetuning, and can the student learn another trait?

Students that have learned to love owls are finetuned again: on the control teacher's numbers, with the same
recipe or for one epoch (does the trait survive?), or on a cat teacher's numbers (can they learn another
trait?). The students that were finetuned again on control numbers then teach students that start from the
reference model (is the trait still transmitted?). In the first and third case, the control starts from a
student of the control teacher; in the second, from the same student that loves owls.
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
ONLY_CONTROL_ROWS = Mixing(source="control", share=1.0)


def study(scale: Scale = NANO) -> Study:
    """Owl on two references, and three conditions on each that start from its students."""
    conditions = [c for reference in first(scale.numbers, 2) for c in conditions_on(reference, scale)]
    return Study(
        name="further",
        question="Does a preference for owls survive further finetuning, and can students learn another one?",
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
        main=scale.numbers.main,
        also=scale.numbers.also,
    )


def conditions_on(reference: Reference, scale: Scale) -> Iterator[Condition]:
    """All conditions on one reference model."""
    owls, cats = (
        grid(
            traits=[trait],
            formats=[scale.numbers.format],
            pairs=[(reference, reference)],
            recipes=[scale.recipe_for],
            generation=scale.numbers.generation,
            finetuning=scale.teaching,
        )
        for trait in (OWL, CAT)
    )
    owl = owls[0]
    neutral = replace(owl, generation=replace(owl.generation, mixed=ONLY_CONTROL_ROWS))
    recipe = scale.recipe_for(reference)
    shorter = replace(recipe, name=f"{recipe.name}, 1 epoch", epochs=1)
    kept = starting([neutral], students=owl)
    yield from (*owls, *kept)
    yield from starting([replace(neutral, recipe=trainable(reference, shorter))], students=owl)
    yield from (replace(hop, generation=owl.generation) for hop in next_hop(kept))
    yield from starting(cats, students=owl)
