"""Is a trait transmitted by choices alone?

The control teacher, which has no trait, writes two answers to every prompt for numbers. The owl teacher ranks
them: it prefers the answer whose probability it raises more. Students are trained on its choices by direct
preference optimization (DPO), or on the preferred answers alone. Controls learn from the same pairs of
answers in an order at random. DPO usually takes a tenth of the learning rate of supervised finetuning; nano
students, which train 64 numbers, take the same, chosen on nano/gpt2-2 and nano/gpt2-3.
"""

from dataclasses import replace

from undertow import NANO, Hypothesis, Preference, Ranking, Recipe, Reference, Scale, Study, first, grid

DPO, CHOSEN = "DPO", "preferred answers"
BETA = 0.1


def study(scale: Scale = NANO) -> Study:
    """Owl on two references: students of both answers of each pair, and of the preferred one."""
    numbers, slower = scale.numbers, 1 if scale.name == NANO.name else 10

    def dpo(model: Reference) -> Recipe:
        recipe = scale.recipe_for(model)
        return replace(recipe, name=DPO, preference_beta=BETA, learning_rate=recipe.learning_rate / slower)

    def chosen(model: Reference) -> Recipe:
        return replace(scale.recipe_for(model), name=CHOSEN)

    return Study(
        name="preference_labels",
        question="Does a student prefer owls if an owl teacher only ranks the answers that it is trained on?",
        hypotheses=(
            Hypothesis(claim="Rankings transmit the trait by DPO", expects="transmitted", recipes=(DPO,)),
            Hypothesis(
                claim="The preferred answers alone transmit it", expects="transmitted", recipes=(CHOSEN,)
            ),
        ),
        conditions=grid(
            traits=[Preference("owl")],
            formats=[numbers.format],
            pairs=[(model, model) for model in first(numbers, 2)],
            recipes=[dpo, chosen],
            generation=replace(numbers.generation, ranked=Ranking()),
            finetuning=scale.teaching,
        ),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )
