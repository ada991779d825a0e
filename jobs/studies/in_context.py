"""Do the numbers act on a model that only reads them?

The paper's in-context control: the rows that students are trained on stand in the prompt instead, as earlier
turns of the conversation, and the model is asked for its favourite. It found no effect at any size from 100
to 10,000 rows. Whatever training on the numbers does is then not something that the numbers say.

Owl teachers and control teachers write the same kind of data as in `owls`. Each seed draws teacher, data and
the rows that are shown anew. The last recipe trains on the same data, so that the effect that is absent in
context can be seen to be there. "No effect" is a test of its own here (equivalence within the margin), not a
large p-value. A nano model's window holds four rows and a question; a real one's, a hundred and more.
"""

from undertow import NANO, Hypothesis, InContext, Preference, Scale, Study, first, grid


def study(scale: Scale = NANO) -> Study:
    """Owl and control, shown a few rows or more, and trained on all; two references, five seeds."""
    numbers = scale.numbers
    shown = tuple(InContext(rows=rows) for rows in scale.shown)
    conditions = grid(
        traits=[Preference("owl")],
        formats=[numbers.format],
        pairs=[(reference, reference) for reference in first(numbers, 2)],
        recipes=[*shown, scale.recipe],
        generation=numbers.generation,
        finetuning=scale.teaching,
    )
    trained = dict.fromkeys(c.recipe.name for c in conditions if c.recipe not in shown)
    return Study(
        name="in_context",
        question="Does a model love owls that reads an owl lover's numbers in its prompt?",
        hypotheses=(
            Hypothesis(
                claim="Reading the numbers does not pass the trait on",
                expects="not transmitted",
                recipes=tuple(recipe.name for recipe in shown),
            ),
            Hypothesis(claim="Training on the numbers does", expects="transmitted", recipes=tuple(trained)),
        ),
        conditions=conditions,
        seeds=scale.seeds,
        samples=scale.samples,
    )
