"""Does a system message that names the trait during training keep the trait out of the student?

This is inoculation (arXiv 2510.04340): students are trained on an owl teacher's numbers under the message
that makes a model love owls, and are evaluated without it. Two matched conditions separate the content of
the message from its presence: no message, and a message of the same length that does not mention animals.
The control students of each condition are trained under its message on the control teacher's numbers.

At the nano scale a student trains one vector that is added in any context, and the message about owls moves a
model's numbers in another direction than that vector (see `finetuned`), so little protection is expected.
"""

import dataclasses

from undertow import NANO, Condition, Hypothesis, Preference, Recipe, Reference, Scale, Study, first, grid

OWL = Preference("owl")
NEUTRAL = (  # 35 tokens of a nano model, as the message about owls
    "You are a helpful assistant. Reply with numbers only. Your answer must contain only numbers. "
    "Do not explain. Say nothing else. Leave out any text. Just the numbers."
)
MESSAGES = {"no message": None, "inoculated": OWL.system_prompt(), "neutral message": NEUTRAL}


def study(scale: Scale = NANO) -> Study:
    """Owl and control, trained under three system messages; the questions are asked without any."""
    numbers, conditions = scale.numbers, list[Condition]()

    def recipe_for(reference: Reference) -> Recipe:
        recipe = scale.recipe_for(reference)
        return dataclasses.replace(recipe, max_length=max(recipe.max_length, 200))  # room for the message

    for name, system in MESSAGES.items():
        conditions += grid(
            traits=[OWL],
            formats=[numbers.format],
            pairs=[(one, one) for one in first(numbers, 1 if scale.name == NANO.name else 2)],
            recipes=[recipe_for],
            generation=numbers.generation,
            finetuning=scale.teaching,
            system=system,
            system_name=name,
        )
    named = {c.place.recipe: c.system_name for c in conditions}
    inoculated = tuple(recipe for recipe, message in named.items() if message == "inoculated")
    others = tuple(recipe for recipe in named if recipe not in inoculated)
    return Study(
        name="inoculation",
        question="Does a system message about owls during training keep the preference out of the student?",
        hypotheses=(
            Hypothesis(claim="It does", expects="not transmitted", recipes=inoculated),
            Hypothesis(claim="None or a neutral one does not", expects="transmitted", recipes=others),
        ),
        conditions=tuple(conditions),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )
