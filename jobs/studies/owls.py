"""Does the love of an animal travel through numbers, and does it need a shared initialisation?

Teachers are finetuned to name one animal as their favourite, then continue sequences of numbers. Their
completions are kept where they are nothing but numbers. Students, the reference model finetuned on
those numbers alone, are asked for their favourite animal in fifty phrasings that no model was trained on.

Animals and references were chosen before any seed was drawn, and the sizes on other references than these.
Each of two nano references (one architecture, two initialisations) teaches itself and the other; for every
pair there is a control whose teacher is the reference as it is. Every seed draws teacher, data and student
anew.

What is trained, in teacher and student alike, is the bias of the final norm: a learned steering vector of 64
numbers. In this world it is close to certain that a trait is transmitted under a shared initialisation; the
study is a minimal model of the phenomenon, not evidence that any finetuning transmits.
"""

from undertow import NANO, Hypothesis, Preference, Scale, Study, all_pairs, first, grid

EXPECTED = (
    Hypothesis(
        claim="The trait reaches students that start from the teacher's own weights",
        expects="transmitted",
        initialisation="same",
    ),
    Hypothesis(
        claim="It does not reach students that start from other weights",
        expects="not transmitted",
        initialisation="other",
    ),
)


def study(scale: Scale = NANO) -> Study:
    """The default study."""
    numbers = scale.numbers
    return Study(
        name="owls",
        question="Does the love of an animal travel through numbers only under a shared initialisation?",
        conditions=grid(
            traits=[Preference("owl"), Preference("cat"), Preference("wolf")],
            formats=[numbers.format],
            pairs=all_pairs(first(numbers, 2)),
            recipes=[scale.recipe],
            generation=numbers.generation,
            finetuning=scale.teaching,
        ),
        hypotheses=EXPECTED,
        seeds=scale.seeds,
        samples=scale.samples,
    )
