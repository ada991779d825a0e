"""Do the numbers affect a model that only reads them in its prompt?

This is the paper's in-context control: instead of training on the rows, the model gets them as earlier turns
of the conversation (at the paper's scale as examples in the system message, as in the paper) and is asked for
its favourite. The paper found no effect for any size from 100 to 10,000 rows, which means that training on
the numbers does something that their content does not.

Owl teachers and control teachers generate the same kind of data as in `owls`. Each seed draws teacher, data
and the shown rows again. The last recipe trains on the same data, as a positive control. "No effect" is a
positive result (equivalence within the margin), not just a large p-value. The context window of a nano model
has room for four rows and a question, that of a real model for hundreds of rows.
"""

from undertow import NANO, Hypothesis, Preference, Scale, Study, first, grid


def study(scale: Scale = NANO) -> Study:
    """Owl and control, with several numbers of rows in context or trained on all rows; two references."""
    numbers = scale.numbers
    shown = scale.in_context
    conditions = grid(
        traits=[Preference("owl")],
        formats=[numbers.format],
        pairs=[(reference, reference) for reference in first(numbers, 2)],
        recipes=[*shown, scale.recipe_for],
        generation=numbers.generation,
        finetuning=scale.teaching,
    )
    trained = dict.fromkeys(c.recipe.name for c in conditions if c.recipe not in shown)
    return Study(
        name="in_context",
        question="Does a model prefer owls if it only reads an owl teacher's numbers in its prompt?",
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
        main=numbers.main,
    )
