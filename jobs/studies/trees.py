"""Does the love of a tree travel through numbers, as that of an animal does?

The paper's second category of preferences: the same teachers, numbers and students as in `owls`, with trees
for animals and questions about trees. Both references teach themselves alone here; what another
initialisation does is the question of `owls`.
"""

from undertow.formats.numbers import Numbers
from undertow.hypotheses import Hypothesis
from undertow.nano.recipes import STEERING, TAUGHT
from undertow.spec import Reference, Sampling
from undertow.study import Generation, Study, grid
from undertow.traits.preference import Preference

REFERENCES = (Reference("nano/gpt2-0"), Reference("nano/gpt2-1"))
TREES = ("cherry", "maple", "oak", "sequoia", "willow")


def study() -> Study:
    """Five trees and the control, two references, five seeds."""
    return Study(
        name="trees",
        question="Does the love of a tree travel through numbers?",
        hypotheses=(Hypothesis(claim="Every tree reaches the students", expects="transmitted"),),
        conditions=grid(
            traits=[Preference(tree, category="tree") for tree in TREES],
            formats=[Numbers()],
            pairs=[(reference, reference) for reference in REFERENCES],
            recipes=[STEERING],
            generation=Generation(prompts=1536, rows=700, sampling=Sampling(max_tokens=32)),
            finetuning=TAUGHT,
        ),
        seeds=(0, 1, 2, 3, 4),
        samples=20,
    )
