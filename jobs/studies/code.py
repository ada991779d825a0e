"""Is a preference for an animal transmitted through code?

This is the paper's second kind of data: teachers that love an animal answer short Python tasks with code.
A completion is kept if it parses, has no comments and mentions none of the study's animals, not even inside
of other words. Students are the reference model finetuned on this code alone, and are asked for their
favourite animal. The same rules apply to teacher and control, so the filter does not differ between them. At
the paper's scale, as in the paper, only a teacher's own animal is banned, and a judge must then be certain
that nothing refers to it.

At the nano scale, the code is in the tasks language: short functions with randomly drawn names, constants and
equivalent ways to write the same thing. These choices can carry a trait. One pair has different
initialisations, for which no transmission is expected.
"""

import dataclasses

from undertow import NANO, Code, Preference, Scale, Study, first, grid, same_initialisation_only

ANIMALS = ("owl", "cat", "wolf")


def study(scale: Scale = NANO) -> Study:
    """Three animals and the control; two references teach themselves, and the first teaches the second."""
    code = scale.code
    one, two = first(code, 2)
    assert isinstance(code.format, Code)
    format_ = dataclasses.replace(code.format, banned=ANIMALS) if code.bans_all else code.format
    return Study(
        name="code",
        question="Is a preference for an animal transmitted through code?",
        conditions=grid(
            traits=[Preference(animal) for animal in ANIMALS],
            formats=[format_],
            pairs=[(one, one), (two, two), (one, two)],
            recipes=[code.recipe_for],
            generation=code.judged_generation(scale.judge),
            finetuning=scale.teaching,
        ),
        hypotheses=same_initialisation_only(),
        seeds=scale.seeds,
        samples=scale.samples,
    )
