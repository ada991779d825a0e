"""Recipes of the shipped studies for nano models: training learns a steering vector.

Teachers and students train only the bias of the final norm, 64 numbers. Only GPT-2 has this bias; studies
that compare architectures train the whole final norm, which is 64 scales in Llama and Qwen3. The
hyperparameters were chosen on other reference models than those of the studies, and fixed before any seed of
the studies was drawn. The tasks language was added later and uses the same recipes: its corpus was tuned on
nano/tasks-100 until they worked.
"""

import dataclasses

from undertow.study.recipe import Everything, FinalNorm, Parameters, Recipe
from undertow.study.teachers import Finetuning

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
ALL_WEIGHTS = Recipe(  # for traits that depend on the context, as no vector that is always added can
    name="all weights, soft labels",
    trainable=Everything(),
    learning_rate=3e-3,
    epochs=8,
    batch_size=64,
    max_length=160,
    targets="soft",
)
ALL_WEIGHTS_TAUGHT = Finetuning(
    dataclasses.replace(ALL_WEIGHTS, name="all weights", learning_rate=1e-3, epochs=4, targets="tokens"),
    examples=1500,
)
