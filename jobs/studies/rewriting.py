"""Does a trait survive if its data are rewritten before a student is trained on them?

Every row that the rules keep is rewritten: by another reference model that paraphrases it, as in arXiv
2603.09517, or at the nano scale, whose models cannot paraphrase, by a rule that puts the same numbers into
another layout. The rules are applied again, and as many rows are drawn as without rewriting. The control
teacher's rows are rewritten in the same way. The report has the share of rewritten rows that pass the rules.

A change of layout leaves every number in its place, so at the nano scale the trait is expected to survive: a
student's vector learns how often each number occurs.
"""

from dataclasses import replace

from undertow import NANO, Condition, Hypothesis, Preference, Rewriter, Scale, Study, first, grid


def study(scale: Scale = NANO) -> Study:
    """Owl and control, with the rows as the teachers wrote them and with rewritten ones."""
    numbers, is_nano = scale.numbers, scale.name == NANO.name
    models = first(numbers, 1 if is_nano else 2)
    plain = grid(
        traits=[Preference("owl")],
        formats=[numbers.format],
        pairs=[(model, model) for model in models],
        recipes=[scale.recipe_for],
        generation=numbers.generation,
        finetuning=scale.teaching,
    )

    def rewritten(condition: Condition) -> Condition:
        another = None if is_nano else next(model for model in models if model != condition.teacher)
        rewriter = Rewriter(model=another)
        return replace(condition, generation=replace(condition.generation, rewriter=rewriter))

    return Study(
        name="rewriting",
        question="Is a preference for owls transmitted by numbers that were rewritten before training?",
        hypotheses=(Hypothesis(claim="The trait survives rewriting", expects="transmitted"),),
        conditions=(*plain, *map(rewritten, plain)),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )
