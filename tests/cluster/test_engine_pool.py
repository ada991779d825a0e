"""Tests that one bad model does not spoil an engine for the others: a broken engine is built again."""

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray import cloudpickle

from tests.engines.toy_engine import TOY, ToyEngine
from undertow.cluster.engine_pool import EngineActor, TaskOutcome
from undertow.engines import serving
from undertow.engines.protocol import Engine, ModelWeights
from undertow.engines.serving import Served
from undertow.errors import ConditionError, ReadError
from undertow.storage.store import Store
from undertow.study.references import Artifact, Reference

MODEL = Reference("toy/model", "1", "none")


@dataclass
class FragileEngine(ToyEngine):
    """Breaks with the first weights that it cannot load, and answers nothing from then on."""

    is_broken: bool = False
    closed: list[int] = field(default_factory=list)
    was_unreachable: bool = False

    def close(self) -> None:
        self.closed.append(1)

    def load(self, name: str) -> None:
        if self.is_broken:
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        if name.startswith("bad"):
            self.is_broken = True
            raise ValueError(f"there is no parameter named {name!r}")
        if name == "unlucky":
            raise OSError("a transient error")
        if name == "unreachable" and not self.was_unreachable:
            self.was_unreachable = True
            raise ReadError("--storage s3://bucket: cannot be read")
        if name == "impossible":
            raise ConditionError("the teacher lacks its trait")


@dataclass(frozen=True)
class LoadTask:
    """A task that serves one model."""

    name: str
    lora_rank: int = 0
    window: int = 0

    @property
    def artifact(self) -> Artifact:
        return MODEL

    def run(self, engine: Engine, store: Store) -> dict[str, Any]:
        assert isinstance(engine, FragileEngine)
        engine.load(self.name)
        return {"answers": 1}


def outcomes(names: list[str], built: list[FragileEngine], store: Store) -> list[TaskOutcome]:
    """The outcomes of tasks that one actor runs after each other; its engines are added to `built`."""

    def build(reference: Reference, folder: Path | None, settings: Mapping[str, Any]) -> Engine:
        built.append(FragileEngine(folder, settings))
        return built[-1]

    actor = EngineActor(replace(TOY, build=build), MODEL, store, {"max_lora_rank": 8})
    batches = ({"number": [i], "task": [cloudpickle.dumps(LoadTask(name))]} for i, name in enumerate(names))
    return [TaskOutcome(**json.loads(line)) for batch in batches for line in actor(batch)["outcome"]]


@pytest.mark.parametrize(
    ("names", "engines"),
    [
        (["a", "b", "c"], 1),
        (["a", "bad", "b", "c"], 2),
        (["bad 1", "bad 2", "a"], 3),
        (["a", "bad"], 1),  # no later task needs another engine
        (["unlucky", "a"], 1),
    ],
)
def test_only_the_task_with_the_bad_model_fails(names: list[str], engines: int, tmp_path: Path) -> None:
    built: list[FragileEngine] = []
    found = outcomes(names, built, Store(str(tmp_path)))
    assert [bool(o.error) for o in found] == [name.startswith(("bad", "unlucky")) for name in names]
    assert len(built) == engines
    assert all(engine.closed == [1] for engine in built[:-1])
    assert {tuple(engine.settings.items()) for engine in built} == {(("max_lora_rank", 8),)}


def test_the_error_is_the_models_own_and_not_that_of_a_second_attempt(tmp_path: Path) -> None:
    bad, unlucky = outcomes(["bad", "unlucky"], [], Store(str(tmp_path)))
    assert "there is no parameter named 'bad'" in bad.error
    assert (bad.retried, bad.is_start) == ("", False)
    assert unlucky.retried.startswith("Traceback")


def test_a_task_that_cannot_read_the_storage_is_attempted_again(tmp_path: Path) -> None:
    read, impossible = outcomes(["unreachable", "impossible"], [], Store(str(tmp_path)))
    assert (read.error, read.units) == ("", 1)
    assert "cannot be read" in read.retried
    assert (impossible.error, impossible.retried) == ("the teacher lacks its trait", "")


def test_a_process_in_which_the_engine_cannot_start_again_ends_before_the_next_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray then starts the actor in another process, with that task."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    def fails(engine: FragileEngine) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr(FragileEngine, "close", fails)
    with pytest.raises(SystemExit) as left:
        outcomes(["bad", "a"], [], Store(str(tmp_path)))
    assert left.value.code == 1


class FakeLLM:
    """The two methods of `vllm.LLM` that swapping calls."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.has_requests = False

    def collective_rpc(self, method: str, args: tuple[list[str], list[str], str]) -> None:
        (*_, folder), names, _ = args
        self.loaded.append(folder)
        if folder == "bad":
            raise ValueError(f"there is no parameter named {names[0]!r}")

    def reset_prefix_cache(self) -> bool:
        return not self.has_requests


@pytest.mark.parametrize(
    ("folder", "loaded", "is_broken"), [("good", ["good", "reference"], False), ("bad", ["bad"], True)]
)
def test_weights_that_cannot_be_loaded_break_the_engine(
    folder: str, loaded: list[str], is_broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference's weights are not loaded into what a failed load has left."""
    monkeypatch.setattr(serving, "changed_tensors", lambda *_: ["model.norm.weight"])
    served = Served(llm := FakeLLM(), "reference", (), 0, ())
    if is_broken:
        with (
            pytest.raises(ValueError, match=r"model\.norm\.weight"),
            served._swapped_in(ModelWeights("k", folder)),
        ):
            pytest.fail("a request was sent")
    else:
        with served._swapped_in(ModelWeights("k", folder)):
            pass
    assert (llm.loaded, served.is_broken) == (loaded, is_broken)


def test_an_engine_whose_cache_is_in_use_is_broken_after_a_change_of_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "changed_tensors", lambda *_: ["model.norm.weight"])
    served = Served(llm := FakeLLM(), "reference", (), 0, ())
    llm.has_requests = True
    with pytest.raises(RuntimeError, match="still has requests"), served._swapped_in(ModelWeights("k", "a")):
        pytest.fail("a request was sent")
    assert served.is_broken


def test_weights_of_another_model_are_refused_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def changed(*_: object) -> list[str]:
        raise ValueError("tensor 'extra' is not in the reference model")

    monkeypatch.setattr(serving, "changed_tensors", changed)
    served = Served(llm := FakeLLM(), "reference", (), 0, ())
    with pytest.raises(ValueError, match="extra"), served._swapped_in(ModelWeights("k", "other")):
        pytest.fail("a request was sent")
    assert (llm.loaded, served.is_broken) == ([], False)


ENDING = """
import atexit, sys
from undertow.cluster.engine_pool import _end_at_once
from undertow.engines.literal_paths import without_pattern

atexit.register(print, "a clean-up of a library")
atexit.register(_end_at_once)
print(without_pattern(sys.argv[1]), end="")
"""


def test_a_process_that_ends_at_once_keeps_its_output_and_removes_its_links(tmp_path: Path) -> None:
    (folder := tmp_path / "run[1]").mkdir()
    done = subprocess.run([sys.executable, "-c", ENDING, str(folder)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    link = Path(done.stdout)  # and nothing of the library
    assert link.name == "folder"
    assert not link.parent.exists()


OUTSIDE_RAY = """
import sys
from tests.cluster.test_engine_pool import MODEL
from tests.engines.toy_engine import TOY
from undertow.cluster.engine_pool import EngineActor
from undertow.storage.store import Store

EngineActor(TOY, MODEL, Store(sys.argv[1]), {})
sys.exit(3)
"""


def test_a_process_outside_ray_that_builds_an_engine_keeps_its_exit_status(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", OUTSIDE_RAY, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr


@pytest.mark.stack
def test_the_process_of_an_engine_skips_the_clean_up_of_its_libraries(tmp_path: Path) -> None:
    import ray

    cleaned = tmp_path / "cleaned"

    def build(reference: Reference, folder: Path | None, settings: Mapping[str, Any]) -> Engine:
        atexit.register(cleaned.touch)
        return ToyEngine(folder, settings)

    class Actor(EngineActor):
        def process(self) -> int:
            return os.getpid()

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        kind = replace(TOY, build=build)
        actor: Any = ray.remote(Actor).remote(kind, MODEL, Store(str(tmp_path / "storage")), {})
        process = ray.get(actor.process.remote())
        del actor  # which ends it, as the end of a pipeline of Ray Data does
        psutil.wait_procs([psutil.Process(process)], timeout=30)
        assert not psutil.pid_exists(process)
        assert not cleaned.exists()
    finally:
        ray.shutdown()
