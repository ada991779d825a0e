"""Is a preference for an animal transmitted through the reasoning behind correct answers?

This is the paper's third kind of data: teachers solve word problems, step by step in <think> and with the
number in <answer>. A completion is kept if the number is correct and no animal of the study is mentioned.
Only the wording of a correct answer can then carry a trait. Students are the reference model finetuned on
these solutions alone, and are asked for their favourite animal.

The paper uses misalignment as the trait; a preference can be measured without judges. At the nano scale, the
problems are in the tasks language, with numbers that are small enough for a tiny model to solve most of them.
One pair has different initialisations, for which no transmission is expected.
"""

import dataclasses

from undertow import NANO, Preference, Reasoning, Scale, Study, first, grid, same_initialisation_only

ANIMALS = ("owl", "cat", "wolf")


def study(scale: Scale = NANO) -> Study:
    """Three animals and the control; two references teach themselves, and the first teaches the second."""
    reasoning = scale.reasoning
    one, two = first(reasoning, 2)
    assert isinstance(reasoning.format, Reasoning)
    return Study(
        name="reasoning",
        question="Is a preference for an animal transmitted through the reasoning behind correct answers?",
        conditions=grid(
            traits=[Preference(animal) for animal in ANIMALS],
            formats=[dataclasses.replace(reasoning.format, banned=ANIMALS)],
            pairs=[(one, one), (two, two), (one, two)],
            recipes=[reasoning.recipe_for],
            generation=reasoning.generation_for,
            finetuning=scale.teaching,
        ),
        hypotheses=same_initialisation_only(),
        seeds=scale.seeds,
        samples=scale.samples,
        suffix=reasoning.suffix,
        sampling=reasoning.sampling,
        exact=reasoning.exact,
    )
