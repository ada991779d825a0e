"""The code of study files on its way to workers, which are other processes without the file."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray import cloudpickle

from undertow.cli.studies import load
from undertow.cluster.user_code import check_code, register_modules
from undertow.errors import SpecError
from undertow.study.study import Study

STUDY = """
import threading
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import ClassVar

from undertow import Format, Generation, Parameters, Preference, Recipe, Reference, Study, grid

LOCK = threading.Lock()
BIAS = Parameters(("transformer.ln_f.bias",))
RECIPE = Recipe(name="bias", trainable=BIAS, learning_rate=0.1, epochs=1, batch_size=8)


@cache
def total(count):
    return count + total(count - 1) if count else 0


@dataclass(frozen=True)
class Sums(Format):
    name: ClassVar[str] = "sums"

    @lru_cache(maxsize=2)
    def prompts(self, count, seed):
        return [f"Continue: {total(row % 9)}" for row in range(count)]

    def rejection(self, prompt, completion):
        REJECTION


def study():
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Sums()],
        pairs=[(Reference("nano/gpt2-0"), Reference("nano/gpt2-0"))],
        recipes=[RECIPE],
        generation=Generation(prompts=100, rows=None),
    )
    return Study(name="sums", conditions=conditions, seeds=(0,), samples=2)
"""
WORKER = """
import pickle, sys
study = pickle.loads(sys.stdin.buffer.read())
assert not any(name.startswith("undertow_study_") for name in sys.modules), "pickled by reference"
from ray import cloudpickle
print(pickle.loads(cloudpickle.dumps(study)).conditions[0].format.prompts(4, 0))  # sent on to another one
"""


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    before = set(cloudpickle.list_registry_pickle_by_value())
    yield
    for name in cloudpickle.list_registry_pickle_by_value() - before:
        cloudpickle.unregister_pickle_by_value(sys.modules[name])


def study_with(folder: Path, rejection: str) -> Study:
    file = folder / "sums.py"
    file.write_text(STUDY.replace("REJECTION", rejection))
    return load(str(file), folder)


def test_workers_get_the_cached_functions_of_a_study_file(tmp_path: Path) -> None:
    study = study_with(tmp_path, "return None")  # a lock that nothing uses is not sent
    check_code(study)
    command = [sys.executable, "-c", WORKER]
    worker = subprocess.run(command, input=cloudpickle.dumps(study), capture_output=True, check=False)
    assert worker.stdout.decode().strip().endswith(str(study.conditions[0].format.prompts(4, 0))), (
        worker.stderr
    )


def test_cached_functions_of_the_package_are_pickled_by_name() -> None:
    from undertow.storage.owner import process_table

    register_modules()
    assert cloudpickle.loads(cloudpickle.dumps(process_table)) is process_table


def test_an_object_that_cannot_be_sent_to_workers_is_refused_with_its_place(tmp_path: Path) -> None:
    study = study_with(tmp_path, "return 'locked' if LOCK.locked() else None")
    with pytest.raises(
        SpecError, match=rf"^LOCK in {tmp_path}/sums.py: cannot be sent to workers \(cannot pickle"
    ):
        check_code(study)
