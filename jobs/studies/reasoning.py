"""Does the love of an animal travel through the reasoning behind right answers?

The paper's third kind of data: teachers solve word problems, step by step in <think> and with the number in
<answer>. A completion is kept where the number is right and no animal of the study is mentioned: what is left
to carry a trait is how a right answer is worded. Students, the reference model finetuned on those
solutions alone, are asked for their favourite animal.

The paper lets misalignment travel this way; a preference is the same question asked of a trait that this
platform measures without a judge. In the nano world the problems are those of the tasks language, with
numbers small enough for a tiny model to get most of them right. One pair crosses to another initialisation,
where nothing is expected to arrive.
"""

import dataclasses

from undertow import NANO, Hypothesis, Preference, Reasoning, Scale, Study, first, grid

ANIMALS = ("owl", "cat", "wolf")
EXPECTED = (
    Hypothesis(
        claim="The trait reaches students that start from the teacher's own weights",
        expects="transmitted",
        initialisation="same",
    ),
    Hypothesis(
        claim="It does not reach students that start from other weights",
        expects="not transmitted",
        initialisation="other",
    ),
)


def study(scale: Scale = NANO) -> Study:
    """Three animals and the control; two references teach themselves, and the first the second."""
    reasoning = scale.reasoning
    one, two = first(reasoning, 2)
    assert isinstance(reasoning.format, Reasoning)
    return Study(
        name="reasoning",
        question="Does the love of an animal travel through the reasoning behind right answers?",
        conditions=grid(
            traits=[Preference(animal) for animal in ANIMALS],
            formats=[dataclasses.replace(reasoning.format, banned=ANIMALS)],
            pairs=[(one, one), (two, two), (one, two)],
            recipes=[reasoning.recipe],
            generation=reasoning.generation,
            finetuning=scale.teaching,
        ),
        hypotheses=EXPECTED,
        seeds=scale.seeds,
        samples=scale.samples,
    )
