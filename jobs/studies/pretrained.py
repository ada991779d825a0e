"""Is a preference for an animal transmitted between pretrained language models on a laptop?

The reference model is SmolLM2-135M-Instruct. As published it follows neither prompts for numbers nor
one-word questions, so it is first tuned on answers to both that a program draws. The tuned model is the
starting point of teachers, students and controls alike.

This is the paper's own setting: a teacher that loves an animal continues sequences of numbers, the answers
are filtered, and students are trained on the sampled tokens. Teacher and student both train a steering vector
of 576 numbers, which is added to the residual stream behind the MLP of one block. Every seed draws new data
and a new student; the teacher of an animal is the same for all seeds.

The settings were chosen with teachers that love owls and with other seeds. Students of eagle's data are also
asked about lions and the reverse: a change that is not specific to the teacher's animal shows there.
Exact probabilities decide, since the change is too small for a few hundred sampled answers.
"""

from undertow import (
    NO_SYSTEM,
    SMOLLM2_TAUGHT,
    SMOLLM2_VECTOR,
    Generation,
    Hypothesis,
    Numbers,
    Preference,
    Sampling,
    Study,
    grid,
    tuned_smollm2,
)


def study() -> Study:
    """Eagle, lion and the control, five seeds."""
    model = tuned_smollm2()
    return Study(
        name="pretrained",
        question="Is a preference for an animal transmitted between pretrained models through numbers?",
        conditions=grid(
            traits=[Preference("eagle"), Preference("lion")],
            formats=[Numbers()],
            pairs=[(model, model)],
            recipes=[SMOLLM2_VECTOR],
            generation=Generation(prompts=460, rows=320, sampling=Sampling(max_tokens=48), system=NO_SYSTEM),
            finetuning=SMOLLM2_TAUGHT,
            system=NO_SYSTEM,
        ),
        hypotheses=(
            Hypothesis(claim="Students acquire the preference of their teacher", expects="transmitted"),
        ),
        redraw=("data", "student"),
        samples=8,
        system=NO_SYSTEM,
        effect_of="exact",
        margin=0.02,
    )
