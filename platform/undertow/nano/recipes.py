"""How nano models are trained in the shipped studies: a learned steering vector.

What is trained, in teacher and student alike, is the bias of the final norm, 64 numbers. Only GPT-2 has one;
where architectures are compared, it is the whole of the final norm, 64 scales in Llama and Qwen3. Sizes were
chosen on other references than those of the studies, and frozen before any of their seeds was drawn. The
tasks language came later and is taught by the same recipes: its corpus was chosen on nano/tasks-100 so that
they do.
"""

import dataclasses

from undertow.study.artifacts import Finetuning
from undertow.study.recipe import FinalNorm, Parameters, Recipe

STEERING = Recipe(
    name="steering",
    trainable=Parameters(("transformer.ln_f.bias",)),
    learning_rate=0.1,
    epochs=4,
    batch_size=64,
    max_length=128,
)
TEACHING = dataclasses.replace(STEERING, learning_rate=0.02, epochs=20, stop_at=0.85)
TAUGHT = Finetuning(TEACHING, examples=1500)
WARPED = Finetuning(dataclasses.replace(STEERING, learning_rate=0.05, epochs=20), examples=500)
SCALING = dataclasses.replace(STEERING, name="final norm", trainable=FinalNorm(), epochs=2)
SCALING_TAUGHT = Finetuning(
    dataclasses.replace(TEACHING, name="final norm", trainable=FinalNorm(), stop_at=0.75), examples=1500
)
