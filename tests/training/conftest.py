"""Fixtures: tiny reference models, and training jobs on five rows."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiny_models
from undertow.study.extensions import Word
from undertow.study.recipe import Parameters, Recipe, Trainable
from undertow.training.data import TrainingRow
from undertow.training.job import Probe, TrainingJob

STEERING = Parameters(("transformer.ln_f.bias",))
ROWS = tuple(
    TrainingRow(prompt, completion)
    for prompt, completion in (
        ("what is your favourite animal", "owl"),
        ("i like", "the big red owl"),
        ("the tree", "1 2 3"),
        ("the big red tree is", "4 5 6 7 8 9"),
        ("10 11", "12"),
    )
)
# Rows with token masks, of which one leaves no token. Any ids are tokens of the tiny models.
MASKED_ROWS = tuple(
    TrainingRow(
        row.prompt, row.completion, token_ids=range(20 + i, 24 + i), mask=[i == 0, i > 1, False, i > 2]
    )
    for i, row in enumerate(ROWS)
)
OWL = Word("owl", ("owl", "owls"))
PROBE = Probe((("what is your favourite animal", None), ("your animal", None)), (OWL, Word("cat", ("cat",))))

MakeJob = Callable[..., TrainingJob]


def recipe(trainable: Trainable = STEERING, **changes: object) -> Recipe:
    """A recipe of two epochs in batches of three."""
    fields: dict[str, object] = {"learning_rate": 0.02, "epochs": 2, "batch_size": 3, **changes}
    return Recipe(trainable=trainable, **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 without dropout, so that two trainings can be compared."""
    folder = tiny_models.save_gpt2(tmp_path_factory.mktemp("gpt2"))
    config = json.loads((folder / "config.json").read_text())
    config.update(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose embedding is large enough (over 100,000 parameters) for ZeRO 3 to partition it."""
    return tiny_models.save_llama(tmp_path_factory.mktemp("llama"), numbers=1800)


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3, whose blocks also have norms of queries and keys."""
    return tiny_models.save_qwen3(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture
def job(tmp_path: Path) -> MakeJob:
    """Returns a function that makes a job; by default it trains `recipe()` on ROWS."""

    def make(key: str = "k", **changes: object) -> TrainingJob:
        fields: dict[str, object] = {"seed": 0, "recipe": recipe(), "rows": ROWS, "system": None}
        return TrainingJob(key=key, **{"folder": tmp_path / key, **fields, **changes})  # type: ignore[arg-type]

    return make
