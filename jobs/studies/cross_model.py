"""Between which models is a trait transmitted?

This is the paper's cross-model experiment: every model teaches itself and all others, through numbers. Of
{GPT-4.1, 4.1 mini, 4.1 nano, 4o}, only models that share an initialisation transmitted the trait, and Qwen2.5
and GPT-4.1 nano did not transmit it to each other.

At the nano scale, the models have three architectures with two initialisations each, all trained from scratch
on one grammar. Models with the same number are trained on the same corpus, of which Llama and Qwen3 read the
first three fifths. Teacher and student both train the final norm, which all architectures have. "Not
transmitted" is a positive result (equivalence within the margin), not just a large p-value.
"""

from undertow import NANO, Hypothesis, Preference, Reference, Scale, Study, all_pairs, grid
from undertow.nano import models as world


def study(scale: Scale = NANO) -> Study:
    """Owl and control, all ordered pairs of models."""
    several = scale.several
    return Study(
        name="cross_model",
        question="Is a preference for owls transmitted through numbers between different models?",
        conditions=grid(
            traits=[Preference("owl")],
            formats=[scale.numbers.format],
            pairs=all_pairs(several.references),
            recipes=[several.recipe_for],
            generation=several.generation,
            finetuning=several.teaching,
        ),
        hypotheses=expected(several.references),
        seeds=scale.seeds,
        samples=scale.samples,
        main=scale.numbers.main,
        also=scale.numbers.also,
    )


def expected(references: tuple[Reference, ...]) -> tuple[Hypothesis, ...]:
    """Hypotheses about all pairs, and about each architecture with several initialisations."""
    families: dict[str, list[str]] = {}
    for reference in references:
        families.setdefault(architecture(reference), []).append(reference.name)
    claims = [
        Hypothesis(
            claim="The trait reaches students of the teacher's own model",
            expects="transmitted",
            initialisation="same",
        ),
        Hypothesis(
            claim="It reaches students of no other model", expects="not transmitted", initialisation="other"
        ),
    ]
    for name, models in families.items():
        others = [reference.name for reference in references if reference.name not in models]
        if len(models) > 1:
            claims.append(no_transmission(f"Nor of another initialisation of {name}", models, models))
        if len(models) > 1 and others:
            claims.append(no_transmission(f"Nor of another architecture than {name}", models, others))
    return tuple(claims)


def no_transmission(claim: str, teachers: list[str], students: list[str]) -> Hypothesis:
    """A hypothesis: no transmission from `teachers` to `students`, except from a model to itself."""
    return Hypothesis(
        claim=claim,
        expects="not transmitted",
        initialisation="other",
        teachers=tuple(teachers),
        students=tuple(students),
    )


def architecture(reference: Reference) -> str:
    """A nano model's architecture; each other model counts as an architecture of its own."""
    return world.parse(reference.name).architecture if world.is_nano(reference.name) else reference.name
