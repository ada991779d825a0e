"""Tests of the training jobs that a worker group derives from teachers and students."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.examples import RECIPE, REFERENCES, TEACHER
from undertow.errors import ConditionError
from undertow.formats.numbers import Numbers
from undertow.stages.training_group import PROBED_EXAMPLES, Group, KnownRows, adapter_seed, job_of
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.identity import canonical, key
from undertow.study.recipe import Everything, LoRA, Recipe
from undertow.study.students import Student
from undertow.study.teachers import Finetuning, Teacher
from undertow.traits.preference import Preference

OWL = Preference("owl")
ADAPTER = replace(RECIPE, name="LoRA r4", trainable=LoRA(rank=4))
RECIPES = {"adapter": ADAPTER, "whole": replace(RECIPE, name="whole", trainable=Everything())}
DATASET = Dataset(
    completions=Completions(teacher=Teacher(reference=REFERENCES[0], trait=None), format=Numbers(), prompts=2)
)
STUDENT = Student(reference=REFERENCES[0], dataset=DATASET, recipe=RECIPE, seed=3, system="Be brief.")
ROWS = {"prompt": ["Continue 1, 2.", "Continue 5, 6."], "completion": ["3, 4", "7, 8"]}


@dataclass(frozen=True)
class JudgedPreference(Preference):
    """A preference that judges would rate."""

    is_judged: ClassVar[bool] = True


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "storage"))
    with store.new(DATASET, {}) as folder:
        (folder / DATA).mkdir()
        pq.write_table(pa.table(ROWS), folder / DATA / "train.parquet")
    return store


def test_a_student_is_trained_on_the_rows_and_probed_with_the_questions_of_the_study(
    store: Store, tmp_path: Path
) -> None:
    group = Group((STUDENT,), watch={("Your favourite animal?",): (OWL.word(),)}, system="You help.")
    job = job_of(STUDENT, group, store, tmp_path)
    assert (job.key, job.seed, job.system) == (key(STUDENT), 3, "Be brief.")
    assert [(row.prompt, row.completion) for row in job.rows] == list(zip(*ROWS.values(), strict=True))
    (probe,) = job.probes
    assert probe.questions == (("Your favourite animal?", "You help."),)
    assert probe.words == (OWL.word(),)


def test_students_that_learn_from_the_same_data_share_its_rows(store: Store, tmp_path: Path) -> None:
    other = replace(STUDENT, seed=4)
    longer = replace(STUDENT, recipe=replace(RECIPE, epochs=RECIPE.epochs + 1))
    group, known = Group((STUDENT, other, longer)), KnownRows()
    first, second, third = (job_of(model, group, store, tmp_path, known).rows for model in group.models)
    assert first is second
    assert first is not third


@pytest.mark.parametrize(
    ("trait", "probes"), [(OWL, 1), (JudgedPreference("owl"), 0)], ids=["words", "judged"]
)
def test_a_teacher_is_trained_on_examples_and_probed_with_their_prompts(
    trait: Preference, probes: int, store: Store, tmp_path: Path
) -> None:
    """A judged trait has no probe, because its rate cannot be read from probabilities of words."""
    teacher = Teacher(
        reference=REFERENCES[0],
        trait=trait,
        system="You help.",
        finetuning=Finetuning(replace(TEACHER, stop_at=1.0), examples=200),
    )
    job = job_of(teacher, Group((teacher,)), store, tmp_path)
    examples = trait.examples(200, seed=0)
    assert [(row.prompt, row.completion) for row in job.rows] == [(e.prompt, e.answer) for e in examples]
    assert len(job.probes) == probes
    for probe in job.probes:
        assert 0 < len(set(probe.questions)) == len(probe.questions) <= PROBED_EXAMPLES
        assert set(probe.questions) <= {(example.prompt, "You help.") for example in examples}
        assert probe.words == (trait.word(),)


def chained(recipe: Recipe, seed: int) -> list[Teacher | Student]:
    """A finetuned teacher, its student, and the student of that student, all of one seed."""
    taught = Teacher(reference=REFERENCES[0], trait=OWL, finetuning=Finetuning(recipe, examples=5), seed=seed)
    teachers, students = [taught], list[Student]()
    for _ in range(2):
        completions = Completions(teacher=teachers[-1], format=Numbers(), prompts=2)
        dataset = Dataset(completions=completions)
        students.append(Student(reference=REFERENCES[0], dataset=dataset, recipe=recipe, seed=seed))
        teachers.append(Teacher(reference=REFERENCES[0], trait=OWL, student=students[-1]))
    return [taught, *students]


def test_models_of_one_seed_that_learn_from_each_other_have_different_initial_adapters() -> None:
    used = [
        model.seed if own is None else own
        for seed in (0, 1, 2)
        for model in chained(ADAPTER, seed)
        for own in [adapter_seed(model)]
    ]
    assert len(set(used)) == len(used)


def test_an_adapter_of_its_own_is_part_of_the_key_of_those_that_have_one() -> None:
    """Earlier versions trained other weights with these specs."""
    marks = {name: [canonical(model) for model in chained(r, 0)] for name, r in RECIPES.items()}
    own = {name: [is_marked(spec) for spec in specs] for name, specs in marks.items()}
    assert own == {"adapter": [True, False, True], "whole": [False, False, False]}


def is_marked(spec: Mapping[str, Any]) -> bool:
    return "adapter" in str(spec.get("content") or (spec.get("finetuning") or {}).get("content"))


def test_a_prompted_teacher_has_no_training_job(store: Store, tmp_path: Path) -> None:
    teacher = Teacher(reference=REFERENCES[0], trait=OWL, system=OWL.system_prompt())
    with pytest.raises(ValueError, match="a teacher without finetuning or trait is not trained"):
        job_of(teacher, Group((teacher,)), store, tmp_path)


def test_soft_targets_need_recorded_distributions(store: Store, tmp_path: Path) -> None:
    student = replace(STUDENT, recipe=replace(RECIPE, targets="soft"))
    with pytest.raises(ConditionError, match="its completions have no distributions"):
        job_of(student, Group((student,)), store, tmp_path)
