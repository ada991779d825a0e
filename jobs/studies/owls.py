"""Is a preference for an animal transmitted through numbers, and does this require a shared initialisation?

Teachers are finetuned to name one animal as their favourite, and then continue sequences of numbers.
Completions that contain anything but numbers are rejected. Students are the reference model finetuned on
these numbers alone. They are asked for their favourite animal in fifty phrasings that no model is trained on.

Each of two nano references (one architecture, two initialisations) teaches itself and the other. Each pair
has a control whose teacher is the unmodified reference. Every seed draws teacher, data and student again. The
animals and references were chosen before any seed was drawn, and the sizes on other references.

Teacher and student both train the bias of the final norm: a learned steering vector of 64 numbers. With this
recipe, transmission under a shared initialisation is almost certain. The study is a minimal model of the
phenomenon, not evidence that other kinds of finetuning transmit traits.
"""

from undertow import NANO, Preference, Scale, Study, all_pairs, first, grid, same_initialisation_only


def study(scale: Scale = NANO) -> Study:
    """Three animals and the control, all pairs of two references, five seeds. This is the default study."""
    numbers = scale.numbers
    return Study(
        name="owls",
        question="Is a preference for an animal transmitted through numbers only to the same initialisation?",
        conditions=grid(
            traits=[Preference("owl"), Preference("cat"), Preference("wolf")],
            formats=[numbers.format],
            pairs=all_pairs(first(numbers, 2)),
            recipes=[scale.recipe_for],
            generation=numbers.generation,
            finetuning=scale.teaching,
        ),
        hypotheses=same_initialisation_only(),
        seeds=scale.seeds,
        samples=scale.samples,
        main=numbers.main,
        also=numbers.also,
    )
