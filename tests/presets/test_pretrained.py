"""Tests of the studies of a pretrained model, planned on a tiny one."""

from pathlib import Path

import pytest

from tests.examples import SCALED, STUDIES
from tests.tiny_gguf import save_gguf, tiny_llama
from undertow.cli.studies import load
from undertow.planning.resolve import resolve
from undertow.presets.smollm2 import VARIABLE
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.study.recipe import Recipe
from undertow.study.study import Study

PRETRAINED = sorted(path.stem for path in STUDIES.glob("*.py") if path.stem not in SCALED)


@pytest.fixture(params=PRETRAINED)
def study(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Study:
    """A study as it is planned on a machine with bf16."""
    path = save_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", tiny_llama(layers=5))
    monkeypatch.setenv(VARIABLE, str(path))
    return resolve(load(request.param, STUDIES), lambda: True)


def test_teachers_students_and_controls_start_from_one_tuned_model(study: Study) -> None:
    models = {model for c in study.conditions for model in (c.teacher, c.student)}
    assert [model.label for model in models] == ["tiny (tuned)"]
    assert all(model.tuned and model.mlp_bias and model.precision == "bf16" for model in models)


def test_no_conversation_has_a_system_message_but_that_of_a_prompted_teacher(study: Study) -> None:
    systems = {study.system}
    for condition in study.conditions:
        systems |= {condition.system, condition.generation.system}
        systems |= {model.tuned.system for model in (condition.teacher, condition.student) if model.tuned}
    assert systems == {NO_SYSTEM}


def test_every_condition_has_a_control_and_effects_are_exact(study: Study) -> None:
    assert all(condition.control() in study.conditions for condition in study.conditions)
    assert study.effect_of == "exact"


def test_all_training_has_the_precision_of_the_machine(study: Study) -> None:
    recipes = [c.recipe for c in study.conditions] + [
        c.finetuning.recipe for c in study.conditions if c.finetuning
    ]
    assert {recipe.precision for recipe in recipes if isinstance(recipe, Recipe)} == {"bf16"}


def test_pretrained_has_five_seeds_and_the_papers_kind_of_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained on filtered, sampled tokens of the numbers of a teacher of its own kind."""
    monkeypatch.setenv(VARIABLE, str(save_gguf(tmp_path / "tiny.gguf", tiny_llama(layers=5))))
    conditions = load("pretrained", STUDIES).conditions
    assert len(load("pretrained", STUDIES).seeds) == 5
    assert {(c.format.name, c.recipe.targets) for c in conditions if isinstance(c.recipe, Recipe)} == {
        ("numbers", "tokens")
    }
    assert all(c.teacher == c.student for c in conditions)
