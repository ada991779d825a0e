"""Kept steps: the models that a training passes through, stored like finished ones."""

from pathlib import Path

import pytest

from tests.training.conftest import PROBE, STEERING, MakeJob, recipe
from undertow.errors import ConditionError
from undertow.study.recipe import LoRA, Trainable
from undertow.training import served_rows
from undertow.training.job import EpochReport, TrainingJob
from undertow.training.loop import finetune

pytestmark = pytest.mark.stack
ADAPTER = LoRA(targets=("c_attn",), dropout=0.2)


def ignore(report: EpochReport) -> None:
    """Ignores a report."""


def files(task: TrainingJob) -> dict[str, bytes]:
    """The content of all files of a trained model by their paths in its folder."""
    found = (path for path in sorted(task.folder.rglob("*")) if path.is_file())
    return {path.relative_to(task.folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("trainable", [STEERING, ADAPTER], ids=["tensors", "adapter"])
def test_a_kept_step_is_the_model_of_a_training_that_ends_there_and_changes_no_other(
    gpt2: Path, job: MakeJob, trainable: Trainable
) -> None:
    """Two steps per epoch at a constant rate: after step 2 both trainings have done the same."""
    long, short = (recipe(trainable, epochs=epochs, schedule="constant") for epochs in (3, 1))
    kept = recipe(trainable, epochs=3, schedule="constant", keep_steps=(2, 5))
    tasks = [job(name, recipe=plan) for name, plan in (("long", long), ("short", short), ("kept", kept))]
    finetune(gpt2, tasks, ignore)
    whole, part, both = map(files, tasks)
    assert {name for name in both if "/" not in name} == set(whole)
    assert {name: both[name] for name in whole} == whole
    at_two = {name.removeprefix("step-2/"): text for name, text in both.items() if name.startswith("step-2/")}
    assert at_two == part
    assert {name.partition("/")[0] for name in both if "/" in name} == {"step-2", "step-5"}
    assert served_rows.read(tasks[2].folder / "step-5") != served_rows.read(tasks[2].folder)


@pytest.mark.parametrize("trainable", [STEERING, ADAPTER], ids=["tensors", "adapter"])
def test_a_resumed_training_has_the_kept_steps_of_the_interrupted_one(
    gpt2: Path, job: MakeJob, tmp_path: Path, trainable: Trainable
) -> None:
    def interrupt(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    plan = recipe(trainable, epochs=4, warmup=2, keep_steps=(1, 3, 6))
    calm = job("calm", recipe=plan, probes=(PROBE,))
    finetune(gpt2, [calm], ignore)
    rough = job("calm", recipe=plan, probes=(PROBE,), folder=tmp_path / "first")
    with pytest.raises(KeyboardInterrupt):
        finetune(gpt2, [rough], interrupt, checkpoints=str(tmp_path / "checkpoints"))
    # The process that continues has an empty folder of its own.
    again = job("calm", recipe=plan, probes=(PROBE,), folder=tmp_path / "second")
    reported: list[int] = []
    finetune(gpt2, [again], lambda r: reported.append(r.epoch), checkpoints=str(tmp_path / "checkpoints"))
    assert reported == [3, 4]
    assert files(again) == files(calm)


def test_a_step_beyond_the_end_of_a_training_is_an_error(gpt2: Path, job: MakeJob) -> None:
    with pytest.raises(ConditionError, match=r"keep_steps = \(1, 4\), and the training has 4 steps"):
        finetune(gpt2, [job(recipe=recipe(keep_steps=(1, 4)))], ignore)
