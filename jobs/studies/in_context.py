"""Do the numbers act on a model that only reads them?

The paper's in-context control: the rows that students are trained on stand in the prompt instead, as earlier
turns of the conversation, and the model is asked for its favourite. It found no effect at any size from 100
to 10,000 rows. Whatever training on the numbers does is then not something that the numbers say.

Owl teachers and control teachers write the same kind of data as in `owls`. Each seed draws teacher, data and
the rows that are shown anew. The last recipe trains on the same data, so that the effect that is absent in
context can be seen to be there. "No effect" is a test of its own here (equivalence within the margin), not a
large p-value. A nano model's window holds four rows and a question; a real one's, a hundred and more.
"""

from undertow.formats.numbers import Numbers
from undertow.hypotheses import Hypothesis
from undertow.nano.recipes import STEERING, TAUGHT
from undertow.recipe import InContext
from undertow.spec import Reference, Sampling
from undertow.study import Generation, Study, grid
from undertow.traits.preference import Preference

REFERENCES = (Reference("nano/gpt2-0"), Reference("nano/gpt2-1"))
SHOWN = tuple(InContext(rows=rows) for rows in (1, 2, 4))


def study() -> Study:
    """Owl and control, shown 1, 2 or 4 rows, and trained on all; two references, five seeds."""
    return Study(
        name="in_context",
        question="Does a model love owls that reads an owl lover's numbers in its prompt?",
        hypotheses=(
            Hypothesis(
                claim="Reading the numbers does not pass the trait on",
                expects="not transmitted",
                recipes=tuple(recipe.name for recipe in SHOWN),
            ),
            Hypothesis(claim="Training on the numbers does", expects="transmitted", recipes=(STEERING.name,)),
        ),
        conditions=grid(
            traits=[Preference("owl")],
            formats=[Numbers()],
            pairs=[(reference, reference) for reference in REFERENCES],
            recipes=[*SHOWN, STEERING],
            generation=Generation(prompts=1536, rows=700, sampling=Sampling(max_tokens=32)),
            finetuning=TAUGHT,
        ),
        seeds=(0, 1, 2, 3, 4),
        samples=20,
    )
