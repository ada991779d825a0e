"""What the progress of trainings shows for the reports of worker groups, with a clock that tests advance."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from rich.console import Console

from tests.examples import RECIPE, REFERENCES, TEACHER
from undertow.formats.numbers import Numbers
from undertow.stages.training_group import Group
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.students import Student
from undertow.study.teachers import Finetuning, Teacher
from undertow.sweep.progress import Progress
from undertow.sweep.training_progress import TrainingProgress
from undertow.training.job import EpochReport, StepReport
from undertow.traits.preference import Preference

ROWS, TOKENS = 640, 40  # of each student; tokens per row
ONE_EPOCH = replace(RECIPE, epochs=1, batch_size=16)  # 40 steps
DATA = Dataset(
    completions=Completions(
        teacher=Teacher(reference=REFERENCES[0], trait=None), format=Numbers(), prompts=ROWS
    ),
    rows=ROWS,
)


def student(seed: int) -> Student:
    return Student(reference=REFERENCES[0], dataset=DATA, recipe=ONE_EPOCH, seed=seed)


@dataclass
class Watch:
    """A sweep's progress of trainings, its clock and the lines that it prints."""

    trainings: TrainingProgress
    progress: Progress
    file: io.StringIO
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def begins(self, model: Student | Teacher, at: float) -> None:
        """The report before training, `at` seconds after the start of the sweep's step."""
        self.now = at
        self.trainings.epoch(EpochReport(key(model), 0, 0, 0, None, 0.0, 0.0, {}, 0.0))

    def reaches(self, model: Student | Teacher, step: int, at: float, speed: float = 100.0) -> None:
        self.now = at
        steps, tokens = 40, ROWS * TOKENS
        report = StepReport(
            key(model), 0, step, steps, 1.0, 1e-3, None, tokens * step // steps, tokens, speed
        )
        self.trainings.step(report)

    def made(self, model: Student | Teacher, at: float) -> None:
        self.now = at
        self.trainings.made(key(model))

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


WatchOf = Callable[..., Watch]


@pytest.fixture
def watch_of(monkeypatch: pytest.MonkeyPatch) -> WatchOf:
    """Returns a function that follows groups of models, of which `slots` train at a time."""

    def make(*groups: tuple[Student | Teacher, ...], slots: int = 1) -> Watch:
        trainings = TrainingProgress([Group(models) for models in groups])
        file = io.StringIO()
        models = sum(map(len, groups))
        watch = Watch(trainings, None, file)  # type: ignore[arg-type]
        monkeypatch.setattr("undertow.sweep.progress.time", watch)
        monkeypatch.setattr("undertow.sweep.training_progress.time", watch)
        console = Console(file=file, width=200)
        watch.progress = trainings.progress = Progress(
            console, "students", models, "models", trainings.lanes, slots
        )
        return watch

    return make


def test_steps_of_a_long_training_give_an_estimate_long_before_a_model_ends(watch_of: WatchOf) -> None:
    watch = watch_of((student(0), student(1), student(2), student(3)))
    watch.begins(student(0), at=100)  # worker groups start slowly: not part of the estimate
    watch.reaches(student(0), 4, at=116)
    assert watch.lines == ["students: 0 of 4 models, step 4 of 160, 100 tok/s, about 10 min left"]
    watch.reaches(student(0), 40, at=260)
    watch.made(student(0), at=260)
    watch.begins(student(1), at=260)
    watch.reaches(student(1), 20, at=340)
    assert watch.lines[-1] == "students: 1 of 4 models, step 60 of 160, 100 tok/s, about 7 min left"


def test_the_speeds_of_concurrent_groups_add_up(watch_of: WatchOf) -> None:
    watch = watch_of((student(0),), (student(1),), (student(2),), slots=2)
    watch.begins(student(0), at=10)
    watch.begins(student(1), at=10)
    watch.reaches(student(0), 20, at=90, speed=100)
    watch.reaches(student(1), 20, at=110, speed=200)
    # 80 s for the rest of the first, then 180 s, the mean of both, for the third.
    assert watch.lines[-1] == "students: 0 of 3 models, step 40 of 120, 300 tok/s, about 4 min left"
    watch.made(student(0), at=170)
    watch.made(student(1), at=200)
    assert watch.lines[-1] == "students: 2 of 3 models, step 80 of 120, about 3 min left"


def test_a_resumed_training_counts_only_what_this_sweep_trains(watch_of: WatchOf) -> None:
    watch = watch_of((student(0),))
    watch.reaches(student(0), 30, at=10)
    watch.reaches(student(0), 32, at=30)
    assert watch.lines == ["students: 0 of 1 model, step 32 of 40, 100 tok/s, about 1 min left"]


def test_the_rest_of_a_failed_training_is_not_waited_for(watch_of: WatchOf) -> None:
    watch = watch_of((student(0), student(1)))
    watch.begins(student(0), at=0)
    watch.reaches(student(0), 20, at=100)
    watch.begins(student(1), at=100)
    watch.reaches(student(1), 4, at=120)
    assert watch.lines[-1].endswith("about 3 min left")  # 36 steps of 5 s


def test_the_estimate_of_a_teacher_that_may_stop_early_is_a_maximum(watch_of: WatchOf) -> None:
    trained = Finetuning(replace(TEACHER, epochs=1, batch_size=16), examples=ROWS)
    teacher = Teacher(reference=REFERENCES[0], trait=Preference("owl"), finetuning=trained)
    watch = watch_of((teacher,))
    watch.begins(teacher, at=0)
    watch.reaches(teacher, 20, at=100)
    assert watch.lines == ["students: 0 of 1 model, step 20 of 40, 100 tok/s, at most 2 min left"]
