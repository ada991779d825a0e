"""Engines that share a GPU start one after the other; all others start at once. No GPU is needed."""

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_models
from undertow.engines.runtime import EngineSettings, one_start_per_gpu

HALF, WHOLE = EngineSettings(gpu_share=0.5), EngineSettings()
PATIENCE = 60.0  # seconds for a process to start on a busy machine

Start = Callable[[str], Any]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Returns a function that starts an engine's process on a GPU; its event is set inside of the start."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fork = multiprocessing.get_context("fork")

    def begin(gpu: str) -> Any:
        started = fork.Event()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpu)
        fork.Process(target=_start, args=(started,), daemon=True).start()
        return started

    return begin


def _start(started: Any) -> None:
    with one_start_per_gpu(HALF):
        started.set()


def test_a_second_engine_of_a_gpu_waits_until_the_first_has_started(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for gpu in ("2", "GPU-8f2a", "MIG-GPU-8f2a/1/0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpu)
        with one_start_per_gpu(HALF):
            second = start(gpu)
            assert not second.wait(0.5)
        assert second.wait(PATIENCE)


def test_engines_of_other_gpus_do_not_wait(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    with one_start_per_gpu(HALF):
        assert start("3").wait(PATIENCE)


def test_an_engine_of_a_whole_gpu_takes_no_lock(start: Start, tmp_path: Path) -> None:
    with one_start_per_gpu(WHOLE):
        assert start("0").wait(PATIENCE)
        assert [path.name.endswith("-gpu-0.lock") for path in tmp_path.iterdir()] == [True]


def test_the_lock_is_released_if_an_engine_cannot_start(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    with suppress(ValueError), one_start_per_gpu(HALF):
        raise ValueError
    assert start("2").wait(PATIENCE)


@pytest.mark.stack
def test_vllm_starts_while_the_engine_holds_the_lock(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from undertow.engines.vllm import VLLMEngine

    others: list[Any] = []

    def fail(folder: str, **options: Any) -> None:
        others.append(start("2"))
        assert not others[0].wait(0.5)
        raise MemoryError

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    monkeypatch.setattr("vllm.LLM", fail)
    folder = tiny_models.save_llama(tmp_path / "model")
    with pytest.raises(MemoryError):
        VLLMEngine(str(folder), gpu=True, gpu_share=0.5)
    assert others[0].wait(PATIENCE)
