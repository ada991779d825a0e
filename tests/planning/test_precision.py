"""Tests of resolving the precision "auto" of reference models and recipes."""

from functools import partial
from pathlib import Path

import pytest

from tests.tiny_gguf import save_gguf
from undertow.formats.numbers import Numbers
from undertow.planning.precision import with_precision
from undertow.planning.resolve import resolve
from undertow.study.conditions import Condition
from undertow.study.grids import grid, next_hop
from undertow.study.identity import key
from undertow.study.recipe import Everything, LoRA, ProviderFinetuning, Recipe
from undertow.study.references import Reference
from undertow.study.study import Study
from undertow.study.teachers import Finetuning
from undertow.study.tuning import tuned
from undertow.traits.preference import Preference

AUTO = Recipe(trainable=LoRA(), learning_rate=1e-4, epochs=1, batch_size=8, precision="auto")
FULL = AUTO.changed(trainable=Everything())


def study(reference: Reference, recipe: Recipe | ProviderFinetuning = AUTO) -> Study:
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(reference, reference)],
        recipes=[recipe],
        finetuning=Finetuning(recipe),
    )
    return Study(name="auto", conditions=(*conditions, *next_hop(conditions)), seeds=(0,))


def places(condition: Condition) -> list[str]:
    """All precisions in a condition: of models, recipes, format tuning, and of earlier conditions."""
    found = [condition.teacher.precision, condition.student.precision]
    recipes = [condition.recipe, condition.finetuning.recipe if condition.finetuning else None]
    if condition.student.tuned:
        found.append(condition.student.tuned.reference.precision)
        recipes.append(condition.student.tuned.recipe)
    found += [recipe.precision for recipe in recipes if isinstance(recipe, Recipe)]
    return found + [value for earlier in condition.earlier for value in places(earlier)]


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_becomes_the_best_precision_that_is_supported(supported: bool, expected: str) -> None:
    start = Reference("org/model", precision="auto")
    given = study(tuned(start, {Numbers(): 10}, FULL))
    resolved = with_precision(given, lambda: supported)
    assert {value for condition in given.conditions for value in places(condition)} == {"auto"}
    assert {value for condition in resolved.conditions for value in places(condition)} == {expected}


def test_a_study_without_auto_is_unchanged_and_asks_no_machine() -> None:
    def never() -> bool:
        raise AssertionError("asked")

    given = study(Reference("org/model", precision="bf16"), AUTO.changed(precision="fp32"))
    assert with_precision(given, never) is given


@pytest.mark.parametrize("name", ["nano/gpt2-0", "api:gpt-4.1-nano"])
def test_nano_and_api_models_keep_the_default(name: str) -> None:
    reference = Reference(name, precision="auto")
    recipe = ProviderFinetuning(epochs=1) if reference.is_api else AUTO.changed(precision="fp32")
    resolved = with_precision(study(reference, recipe), lambda: True)
    assert resolved.conditions[0].student.precision == ""


def test_precision_is_part_of_the_key_of_models_and_of_what_is_made_from_them(tmp_path: Path) -> None:
    path = save_gguf(tmp_path / "model.gguf")
    given = study(tuned(Reference(str(path), precision="auto"), {Numbers(): 10}, FULL))
    keys = []
    for supported in (True, False):
        model = resolve(given, partial(bool, supported)).conditions[0].student
        assert model.tuned is not None
        assert model.precision == model.tuned.reference.precision != "auto"
        keys.append((key(model), key(model.tuned)))
    assert keys[0] != keys[1]
    assert key(resolve(given, lambda: True).conditions[0].student) == keys[0][0]
