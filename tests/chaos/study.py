"""A study of about one minute: owl and its control, two seeds, two shards of data per teacher."""

from dataclasses import replace

from tests.sweep.small_study import MODEL, STEERING
from undertow import Finetuning, Generation, Numbers, Preference, Sampling, Study, grid

TEACHER = replace(STEERING, learning_rate=0.02, epochs=4)


def study() -> Study:
    """A study with work for every wave of a sweep."""
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(MODEL, MODEL)],
        recipes=[replace(STEERING, epochs=4)],
        generation=Generation(prompts=1040, rows=None, sampling=Sampling(max_tokens=16)),
        finetuning=Finetuning(TEACHER, examples=128),
    )
    return Study(name="chaos", conditions=conditions, seeds=(0, 1), samples=2, gate=0.0)
