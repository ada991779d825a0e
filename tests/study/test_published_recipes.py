"""Tests the published recipes, and the description of other recipes as variants of them."""

from dataclasses import replace

import pytest

from undertow.errors import SpecError
from undertow.nano.recipes import STEERING
from undertow.study.identity import key
from undertow.study.published_recipes import (
    BLANK,
    CROSS_MODEL,
    EMERGENT,
    GEMMA,
    NAMED,
    NIEF,
    QWEN,
    described,
)
from undertow.study.recipe import LoRA, Recipe


def test_warm_up_is_a_number_of_steps_or_a_ratio_rounded_up() -> None:
    assert [QWEN.warmup_steps(steps) for steps in (20, 456)] == [5, 5]
    assert [BLANK.warmup_steps(steps) for steps in (1, 20, 21, 12_500)] == [1, 1, 2, 625]


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (QWEN, "as QWEN"),
        (replace(QWEN, name="mine", epochs=10, packing=True), "as GEMMA"),
        (replace(QWEN, epochs=5, batch_size=16), "as QWEN but epochs 5, batch 16"),
        (replace(GEMMA, trainable=LoRA(rank=64)), "as GEMMA but rank 64"),
        (replace(CROSS_MODEL, overlong="cut"), "as CROSS_MODEL but long rows cut"),
        (replace(BLANK, held_out=0.1), "as BLANK but held out 0.1"),
        (replace(GEMMA, trainable=LoRA(layers=(0, 1))), "as GEMMA but layers 0 1"),
        (replace(GEMMA, trainable=LoRA(rank_stabilised=True)), "as GEMMA but rank stabilised True"),
        (replace(BLANK, optimizer="lion", betas=(0.9, 0.99)), "as BLANK but betas 0.9 0.99, optimizer lion"),
        (NIEF[-1], "as QWEN but trains Everything"),
        (STEERING, ""),
    ],
)
def test_a_recipe_is_described_by_the_most_similar_named_recipe(recipe: Recipe, text: str) -> None:
    assert described(recipe) == text


def test_named_recipes_are_distinct() -> None:
    recipes = [*NAMED.values(), *(recipe for recipe in NIEF if recipe != QWEN)]
    assert len(set(recipes)) == len({recipe.name for recipe in recipes}) == len(recipes)
    assert [described(recipe) for recipe in NAMED.values()] == [f"as {name}" for name in NAMED]
    assert EMERGENT.max_length == 2048


def test_the_scale_of_an_adapter() -> None:
    assert QWEN.trainable == LoRA() and LoRA(rank=16, alpha=8).scale == 0.5
    assert isinstance(EMERGENT.trainable, LoRA)
    assert EMERGENT.trainable.scale == pytest.approx(64 / 32**0.5)
    assert (EMERGENT.learning_rate, EMERGENT.weight_decay) == (1e-5, 0.01)


def test_adapters_that_were_stored_before_keep_their_keys() -> None:
    assert key(QWEN) == "1e4050d0d28c3af23537adb11e37187e"
    assert key(LoRA(rank_stabilised=False)) == key(LoRA()) != key(LoRA(rank_stabilised=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_ratio": 0.1}, r"Recipe.warmup_ratio = 0.1: warmup is 5; set only one of the two"),
        ({"loss": "all", "targets": "soft"}, r"Recipe.loss = 'all': a teacher's distributions"),
        ({"optimizer": "adam"}, r"one of 'adamw', 'sgd', 'signsgd', 'lion' is needed"),
        ({"trainable": {"layers": (1, 1)}}, r"LoRA.layers = \(1, 1\): indices of blocks from 0, each once"),
    ],
)
def test_invalid_recipes_are_rejected(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        made = {k: LoRA(**v) if isinstance(v, dict) else v for k, v in changes.items()}
        replace(QWEN, **made)  # type: ignore[arg-type]
