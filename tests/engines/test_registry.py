"""The table of engines: choosing an engine, adding one from outside the package, sending it to workers."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ray import cloudpickle

from tests.engines import toy_engine
from tests.engines.toy_engine import TOY
from undertow.cluster.engine_pool import EngineActor, TaskOutcome, run_tasks
from undertow.engines import registry
from undertow.engines.protocol import Engine
from undertow.engines.registry import engine_for, register_engine
from undertow.errors import UserError
from undertow.planning.resources import Machine
from undertow.results.evaluation_files import RESULT
from undertow.stages.evaluation import Evaluate
from undertow.storage.store import Store
from undertow.study.extensions import Word
from undertow.study.measurements import Evaluation
from undertow.study.references import Reference

MODEL = Reference("toy/model", "1", "none")
EVALUATION = Evaluation(subject=MODEL, questions=("lwo", "tac"), words=(Word("owl", ("owl",)),), samples=2)


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The table is restored after each test."""
    monkeypatch.setattr(registry, "ENGINES", list(registry.ENGINES))
    yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "storage"))


def check_result(outcome: TaskOutcome, store: Store) -> None:
    assert (outcome.error, outcome.units) == ("", 4)
    result = json.loads((store.fetch(EVALUATION) / RESULT).read_text())
    assert (result["sampled"], result["exact"]) == ({"owl": 0.5}, {"owl": 0.5})


def test_api_models_use_the_endpoint_and_all_other_models_vllm() -> None:
    api, local = engine_for(Reference("api:gpt")), engine_for(Reference("nano/gpt2-0"))
    assert (api.name, local.name) == ("OpenAI-compatible endpoint", "vLLM")
    assert (api.needs_weights, api.runs_in_driver, api.is_metered, api.gives_probabilities) == (
        *(False, True, True),
        False,
    )
    assert (local.needs_weights, local.runs_in_driver, local.is_metered) == (True, False, False)
    assert local.applies_adapters("LlamaForCausalLM") and not local.applies_adapters("GPT2LMHeadModel")


def test_a_registered_engine_comes_first_and_replaces_one_of_its_name() -> None:
    register_engine(TOY)
    assert engine_for(MODEL) is TOY
    assert engine_for(Reference("org/model")).name == "vLLM"
    other = replace(TOY, is_metered=True)
    register_engine(other)
    assert [kind for kind in registry.ENGINES if kind.name == "toy"] == [other]


def test_a_model_that_no_engine_serves_raises_an_error_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "ENGINES", [TOY])
    with pytest.raises(UserError, match=r"no engine serves .* 'org/model' \(registered: toy\); register one"):
        engine_for(Reference("org/model"))


def test_an_actor_of_the_pool_builds_a_registered_engine_and_runs_its_tasks(store: Store) -> None:
    """The worker's table lacks the engine: the actor receives the entry and registers it."""
    actor = EngineActor(TOY, MODEL, store, {"max_model_len": 512})
    assert isinstance(actor.engine, toy_engine.ToyEngine)
    assert (actor.engine.folder, actor.engine.settings) == (None, {"max_model_len": 512})
    assert engine_for(MODEL) is TOY
    batch = {"number": [7], "task": [cloudpickle.dumps(Evaluate(EVALUATION))]}
    (outcome,) = actor(batch)["outcome"]
    check_result(TaskOutcome(**json.loads(outcome)), store)


@pytest.mark.parametrize(
    ("error", "text", "has_traceback"),
    [
        (
            ValueError("Unknown RoPE scaling type nonsense"),
            "ValueError: Unknown RoPE scaling type nonsense",
            True,
        ),
        (UserError("org/model: no config.json"), "org/model: no config.json", False),
        (
            MemoryError("Unable to allocate"),
            "the machine is out of memory (MemoryError: Unable to allocate)",
            True,
        ),
    ],
    ids=["an engine's error", "a user's error", "no memory"],
)
def test_an_engine_that_cannot_start_reports_its_error_with_its_first_task(
    store: Store, error: Exception, text: str, has_traceback: bool
) -> None:
    def build(*_: object) -> Engine:
        raise error

    actor = EngineActor(replace(TOY, build=build), MODEL, store, {})
    batch = {"number": [7], "task": [cloudpickle.dumps(Evaluate(EVALUATION))]}
    (line,) = actor(batch)["outcome"]
    outcome = TaskOutcome(**json.loads(line))
    assert outcome.is_start
    assert outcome.error.startswith(text)
    assert outcome.traceback.startswith("Traceback") == has_traceback


def test_an_engine_that_runs_in_the_driver_needs_no_ray(store: Store) -> None:
    register_engine(replace(TOY, runs_in_driver=True))
    (outcome,) = run_tasks(MODEL, store, [Evaluate(EVALUATION)], Machine(1, 1, 1))
    check_result(outcome, store)


WORKER = """
import sys
from ray import cloudpickle
kind = cloudpickle.loads(sys.stdin.buffer.read())
assert not any(name.startswith("tests") for name in sys.modules), "pickled by reference"
from undertow.engines.protocol import Request
from undertow.study.completions import Sampling
(answer,) = kind.build(None, None, {}).generate([Request("owl", 0)], Sampling())
print(answer.text)
"""


def test_an_entry_from_a_study_file_travels_to_workers_by_value() -> None:
    """As `cluster.connection` does for the modules of study files, which workers cannot import."""
    cloudpickle.register_pickle_by_value(toy_engine)
    try:
        pickled = cloudpickle.dumps(TOY)
    finally:
        cloudpickle.unregister_pickle_by_value(toy_engine)
    command = [sys.executable, "-c", WORKER]
    worker = subprocess.run(command, input=pickled, capture_output=True, cwd="/", check=False)
    assert worker.stdout.decode().strip() == "lwo", worker.stderr.decode()


def test_the_table_imports_no_engine_library() -> None:
    code = (
        "import sys, undertow.engines.registry\n"
        "print({'vllm', 'torch', 'openai', 'ray', 'transformers'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
