"""A model, data sets and tasks that do not need the Hub."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny_models
from tests.harness import small_world


@pytest.fixture(scope="session")
def no_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps `datasets` off the network and out of the user's cache."""
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="session")
def small_index() -> Iterator[None]:
    """Limits the index to two folders of shipped tasks.

    Indexing all of them takes 10 s or more, which the stack test of jobs/benchmark.py does in its subprocess.
    """
    lm_eval_tasks = pytest.importorskip("lm_eval.tasks", reason="an optional extra")
    from undertow.harness import catalogue

    shipped = [str(Path(lm_eval_tasks.__file__).parent / name) for name in ("truthfulqa", "mmlu")]

    def index(include_path: str | None = None, include_defaults: bool = True) -> object:
        folders = ([include_path] if include_path else []) + (shipped if include_defaults else [])
        return lm_eval_tasks.TaskManager(include_path=folders, include_defaults=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "TaskManager", index)
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_speller(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, no_hub: None, small_index: None) -> Path:
    return small_world.save_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory, no_hub: None, small_index: None) -> Path:
    return small_world.save_tasks(tmp_path_factory.mktemp("tasks"))
