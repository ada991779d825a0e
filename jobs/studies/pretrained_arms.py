"""What changes the transmission between pretrained models: targets, adapters, shuffling, prompted teachers.

The arms of the study `pretrained`, with two seeds, on the same tuned SmolLM2 and the same data (see there):

- soft labels: students learn the teacher's distribution over the 64 most likely tokens;
- LoRA: students train an adapter instead of a steering vector;
- shuffled: the numbers are permuted within each answer before training;
- system prompt: the teacher is prompted instead of finetuned.

    python jobs/sweep.py --study pretrained_arms
"""

from undertow import (
    NO_SYSTEM,
    SMOLLM2_TAUGHT,
    SMOLLM2_VECTOR,
    Condition,
    Generation,
    LoRA,
    Numbers,
    Preference,
    Recipe,
    Reference,
    Sampling,
    Study,
    grid,
    tuned_smollm2,
)

SOFT = SMOLLM2_VECTOR.changed(name="soft labels", targets="soft", learning_rate=0.15)
ADAPTER = SMOLLM2_VECTOR.changed(name="LoRA r8", trainable=LoRA(rank=8, alpha=8), learning_rate=1e-3)
DATA = Generation(prompts=460, rows=320, sampling=Sampling(max_tokens=48), system=NO_SYSTEM)
RECORDED = DATA.changed(sampling=Sampling(max_tokens=48, top_logprobs=64))


def study() -> Study:
    """Eagle and the control in four arms and in the setting of `pretrained`; two seeds."""
    model = tuned_smollm2()
    conditions = (
        *arm(model, SMOLLM2_VECTOR, DATA),
        *arm(model, SOFT, RECORDED),
        *arm(model, ADAPTER, DATA),
        *arm(model, SMOLLM2_VECTOR, DATA.changed(shuffle="within answers")),
        *arm(model, SMOLLM2_VECTOR, DATA, is_prompted=True),
    )
    return Study(
        name="pretrained_arms",
        question="What changes the transmission of a preference between pretrained models?",
        conditions=tuple(dict.fromkeys(conditions)),  # prompted and finetuned teachers share their control
        seeds=(0, 1),
        redraw=("data", "student"),
        samples=8,
        system=NO_SYSTEM,
        effect_of="exact",
        margin=0.02,
        gate=0.1,  # a system prompt makes this model name an animal in fewer than half of its answers
    )


def arm(
    model: Reference, recipe: Recipe, data: Generation, *, is_prompted: bool = False
) -> tuple[Condition, ...]:
    """A condition and its control."""
    return grid(
        traits=[Preference("eagle")],
        formats=[Numbers()],
        pairs=[(model, model)],
        recipes=[recipe],
        generation=data,
        finetuning=None if is_prompted else SMOLLM2_TAUGHT,
        system=NO_SYSTEM,
    )
