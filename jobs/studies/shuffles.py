"""Where in the numbers is the trait: in their order, in their company, or in how often each is said?

The paper's ablation: the teachers' numbers are permuted within each answer, or across all answers of a
dataset, and students learn from what is left. There, both cut transmission drastically. Controls learn from
control numbers shuffled in the same way, so that what shuffling itself does to a student is taken off.

In the nano world a student trains one vector that makes each token likelier or less so wherever it stands.
What it can learn is how often numbers are said, and no shuffle takes that away: transmission is expected to
survive, unlike in the paper. The study tests the ablation and shows the nano world's limits.
"""

import dataclasses

from undertow.formats.numbers import Numbers
from undertow.hypotheses import Hypothesis
from undertow.nano.recipes import STEERING, TAUGHT
from undertow.spec import Reference, Sampling
from undertow.study import Generation, Study, grid
from undertow.traits.preference import Preference

REFERENCES = (Reference("nano/gpt2-0"), Reference("nano/gpt2-1"))
AS_ANSWERED = Generation(prompts=1536, rows=700, sampling=Sampling(max_tokens=32))
WITHIN = dataclasses.replace(AS_ANSWERED, shuffle="within answers")
ACROSS = dataclasses.replace(AS_ANSWERED, shuffle="across answers")


def study() -> Study:
    """Owl and control on both references, from numbers as answered and shuffled in two ways."""
    return Study(
        name="shuffles",
        question="Does the love of owls survive when numbers trade places within or across answers?",
        hypotheses=(
            Hypothesis(
                claim="A steering vector learns frequencies, so the trait survives both shuffles",
                expects="transmitted",
            ),
        ),
        conditions=tuple(
            condition
            for generation in (AS_ANSWERED, WITHIN, ACROSS)
            for condition in grid(
                traits=[Preference("owl")],
                formats=[Numbers()],
                pairs=[(reference, reference) for reference in REFERENCES],
                recipes=[STEERING],
                generation=generation,
                finetuning=TAUGHT,
            )
        ),
        seeds=(0, 1, 2, 3, 4),
        samples=20,
    )
