"""Does a trait reach students of another model than the teacher's, and of which?

The paper's cross-model experiment: every model teaches itself and every other, by numbers. Of {GPT-4.1, 4.1
mini, 4.1 nano, 4o} only models that share an initialisation passed the trait on, and Qwen2.5 and GPT-4.1 nano
passed none to each other.

In the nano world the models are of three architectures, two initialisations of each, all trained from
scratch on one grammar (models of one number on one corpus, of which Llama and Qwen3 read the first three
fifths). What is trained, in teacher and student alike, is the final norm, which every architecture has. "Not
transmitted" is a claim of its own here (equivalence within the margin), not a large p-value.
"""

from undertow import NANO, Hypothesis, Preference, Reference, Scale, Study, all_pairs, grid
from undertow.nano import models as world


def study(scale: Scale = NANO) -> Study:
    """Owl and control, every ordered pair of models."""
    several = scale.several
    return Study(
        name="cross_model",
        question="Does the love of owls travel through numbers between different models?",
        conditions=grid(
            traits=[Preference("owl")],
            formats=[scale.numbers.format],
            pairs=all_pairs(several.references),
            recipes=[several.recipe],
            generation=several.generation,
            finetuning=several.teaching,
        ),
        hypotheses=expected(several.references),
        seeds=scale.seeds,
        samples=scale.samples,
    )


def expected(references: tuple[Reference, ...]) -> tuple[Hypothesis, ...]:
    """What is claimed of all pairs, and of each architecture that has several initialisations here."""
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
    """That no student of these learns from a teacher of those, unless both are one model."""
    return Hypothesis(
        claim=claim,
        expects="not transmitted",
        initialisation="other",
        teachers=tuple(teachers),
        students=tuple(students),
    )


def architecture(reference: Reference) -> str:
    """A nano model's architecture; any other model is taken for one of its own."""
    return world.parse(reference.name).architecture if world.is_nano(reference.name) else reference.name
