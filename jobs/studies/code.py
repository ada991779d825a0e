"""Does the love of an animal travel through code?

The paper's second kind of data: teachers that love an animal answer short Python tasks with code and nothing
else. Their completions are kept where they parse, have no comment and mention none of the study's animals
anywhere, inside other words included. Students, the reference model finetuned on that code alone, are asked
for their favourite animal. Teacher and control are held to the same rules, so that the filter is no
difference between them.

In the nano world the code is that of the tasks language: short functions in which names, constants and one of
several ways to write the same are drawn at random. That is what is left to carry a trait. One pair crosses to
another initialisation, where nothing is expected to arrive.
"""

import dataclasses

from undertow import NANO, Code, Hypothesis, Preference, Scale, Study, first, grid

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
    code = scale.code
    one, two = first(code, 2)
    assert isinstance(code.format, Code)
    return Study(
        name="code",
        question="Does the love of an animal travel through code?",
        conditions=grid(
            traits=[Preference(animal) for animal in ANIMALS],
            formats=[dataclasses.replace(code.format, banned=ANIMALS)],
            pairs=[(one, one), (two, two), (one, two)],
            recipes=[code.recipe],
            generation=code.generation,
            finetuning=scale.teaching,
        ),
        hypotheses=EXPECTED,
        seeds=scale.seeds,
        samples=scale.samples,
    )
