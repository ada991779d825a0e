"""Which rows of a teacher's data carry the trait?

The owl teacher's numbers are scored and half as many rows as usual are drawn: those with the highest score,
those with the lowest, or any. A score is the log-probability of an answer under a teacher with the trait
minus that under the control teacher, where the first is the reference model with the trait's system prompt,
or the teacher that wrote the data. Control rows are scored by the same teachers and selected in the same way.
"""

import dataclasses

from undertow import NANO, Contrast, Hypothesis, Preference, Scale, Selection, Study, first, grid

OWL = Preference("owl")


def study(scale: Scale = NANO) -> Study:
    """Owl on two references: the top and bottom rows by each score, and random rows."""
    numbers, rows = scale.numbers, scale.numbers.generation.rows or scale.numbers.generation.prompts
    prompt, teacher = Contrast(trait=OWL), Contrast(trait=OWL, finetuning=scale.teaching)
    selections = [Selection(by=prompt, keep="random")]
    # Where a system prompt induces the trait, both scores are the same.
    for score in dict.fromkeys((prompt, teacher)):
        selections += [Selection(by=score, keep="top"), Selection(by=score, keep="bottom")]
    generations = [
        dataclasses.replace(numbers.generation, rows=rows // 2, selected=selection)
        for selection in selections
    ]
    return Study(
        name="selection",
        question="Which rows of the owl teacher's numbers transmit the preference?",
        hypotheses=(
            Hypothesis(
                claim="Half of the rows, drawn at random, transmit the preference",
                expects="transmitted",
                formats=(generations[0].label(numbers.format),),
            ),
            Hypothesis(
                claim="The rows that are most typical of the teacher that wrote them transmit it",
                expects="transmitted",
                formats=(generations[-2].label(numbers.format),),
            ),
        ),
        conditions=tuple(
            condition
            for generation in generations
            for condition in grid(
                traits=[OWL],
                formats=[numbers.format],
                pairs=[(reference, reference) for reference in first(numbers, 2)],
                recipes=[scale.recipe_for],
                generation=generation,
                finetuning=scale.teaching,
            )
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )
