"""Tests of the space of a search for a recipe: its texts, their errors, and the recipes of its points."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import RECIPE, study
from undertow.errors import UserError
from undertow.study.completions import Sampling
from undertow.study.conditions import Condition
from undertow.study.on_policy import OnPolicy
from undertow.study.recipe import InContext, LoRA, Recipe
from undertow.study.search_space import (
    Axis,
    SearchSpace,
    Value,
    current,
    parse,
    point_label,
    searchable,
    with_values,
)

CONDITION = replace(
    study().conditions[0],
    recipe=replace(RECIPE, name="LoRA", trainable=LoRA(rank=8, layers=(0, 1))),
)


def recipe_of(condition: Condition) -> Recipe:
    assert isinstance(condition.recipe, Recipe)
    return condition.recipe


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("rank=2,4,8", Axis("rank", (2, 4, 8))),
        ("learning_rate=1e-4", Axis("learning_rate", (1e-4,))),
        (
            "learning_rate=log:1e-5:1e-3",
            Axis("learning_rate", low=1e-5, high=1e-3, log=True),
        ),
        ("warmup_ratio=0:0.2", Axis("warmup_ratio", low=0.0, high=0.2)),
        ("epochs=1:10", Axis("epochs", low=1, high=10, whole=True)),
        ("rows=log:100:400", Axis("rows", low=100, high=400, log=True, whole=True)),
        ("schedule=linear,cosine", Axis("schedule", ("linear", "cosine"))),
        ("rank_stabilised=true,false", Axis("rank_stabilised", (True, False))),
        ("layers=all,0-3,4+6", Axis("layers", ("all", "0-3", "4+6"))),
        ("targets=attention+mlp,q_proj", Axis("targets", ("attention+mlp", "q_proj"))),
    ],
)
def test_a_text_states_a_field_and_its_values(text: str, axis: Axis) -> None:
    assert parse([text], CONDITION).axes == (axis,)


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        ([], "--search: give the fields to search, such as rank=2,4,8"),
        (["rank"], "--search rank: write FIELD=VALUES"),
        (["rank="], "--search rank=: write FIELD=VALUES"),
        (["rnk=2"], "--search rnk=2: nothing to search in recipe 'LoRA'; did you mean 'rank'?"),
        (["name=a,b"], "--search name=a,b: nothing to search"),
        (["packing=true"], "--search packing=true: nothing to search"),
        (["rank=2", "rank=4"], "--search rank=4: rank is given twice"),
        (["rank=2,2"], "--search rank=2,2: a value is listed twice"),
        (["rank=0,2"], "--search rank=0,2: LoRA.rank = 0: a rank of 1 or more"),
        (["rank=2.5"], "--search rank=2.5: '2.5' is not a whole number"),
        (["rank=8:2"], "--search rank=8:2: write LOW:HIGH or log:LOW:HIGH, with LOW below HIGH"),
        (["rank=log:8"], "--search rank=log:8: write LOW:HIGH or log:LOW:HIGH"),
        (["learning_rate=0:1"], "--search learning_rate=0:1: Recipe.learning_rate = 0.0: a number above"),
        (["learning_rate=log:0:1"], "a logarithmic range begins above 0"),
        (["learning_rate=nan"], "--search learning_rate=nan: 'nan' is not a number"),
        (["learning_rate=1:1e999"], "'1e999' is not a number"),
        (["schedule=linear:cosine"], "schedule has no range; list its values"),
        (["schedule=line"], "'line' is not one of linear, cosine, constant"),
        (["rank_stabilised=1"], "'1' is neither true nor false"),
        (["layers=a"], "'a' is not a list of values joined by +"),
        (["targets=all"], "--search targets=all: LoRA.targets = (): at least one module name"),
    ],
)
def test_an_invalid_text_is_reported_with_its_place_and_a_remedy(texts: list[str], error: str) -> None:
    with pytest.raises(UserError) as raised:
        parse(texts, CONDITION)
    assert error in str(raised.value)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_parsed_or_reported_with_its_place(field: str, values: str) -> None:
    for name in (field, "rank", "layers", "learning_rate"):
        try:
            parse([f"{name}={values}"], CONDITION)
        except UserError as error:
            assert str(error).startswith("--search ")


def test_only_a_recipe_that_trains_weights_here_can_be_searched() -> None:
    shown = replace(CONDITION, recipe=InContext(rows=2))
    with pytest.raises(UserError, match="its students are not trained by a Recipe"):
        parse(["rank=2"], shown)


def test_students_that_sample_their_own_data_are_not_searched() -> None:
    recorded = Sampling(top_logprobs=4)
    generation = replace(CONDITION.generation, sampling=recorded, on_policy=OnPolicy())
    own = replace(CONDITION, recipe=replace(recipe_of(CONDITION), targets="soft"), generation=generation)
    with pytest.raises(UserError, match="its students sample their own data, and the trials of a search"):
        parse(["rank=2"], own)


SPACE = parse(
    ["rank=1:64", "learning_rate=log:1e-5:1e-2", "rows=100,200", "layers=all,1-2", "epochs=1,3"],
    CONDITION,
)
POINTS = st.fixed_dictionaries(
    {
        "rank": st.integers(1, 64),
        "learning_rate": st.floats(1e-5, 1e-2),
        "rows": st.sampled_from([100, 200]),
        "layers": st.sampled_from(["all", "1-2"]),
        "epochs": st.sampled_from([1, 3]),
    }
)


@given(POINTS)
def test_a_point_changes_the_searched_fields_alone_for_trait_and_control(drawn: dict[str, Value]) -> None:
    values = SPACE.values(drawn)
    found = with_values(CONDITION, values)
    recipe, before = recipe_of(found), recipe_of(CONDITION)
    assert isinstance(recipe.trainable, LoRA)
    assert (recipe.trainable.rank, found.generation.rows) == (drawn["rank"], drawn["rows"])
    assert recipe.trainable.layers == ((1, 2) if drawn["layers"] == "1-2" else ())
    rate = drawn["learning_rate"]
    assert isinstance(rate, float)
    assert recipe.learning_rate == pytest.approx(rate, rel=5e-3)
    assert 1e-5 <= recipe.learning_rate <= 1e-2
    same = replace(recipe, trainable=before.trainable, learning_rate=0.05, epochs=before.epochs)
    assert same == before
    assert found.control().recipe == recipe
    assert replace(found, recipe=before, generation=CONDITION.generation) == CONDITION


@given(POINTS)
def test_a_point_is_drawn_once_however_often_it_is_rounded(drawn: dict[str, Value]) -> None:
    values = SPACE.values(drawn)
    assert SPACE.values(values) == values


def test_the_display_name_of_a_recipe_states_the_point() -> None:
    values: dict[str, Value] = {"rank": 4, "learning_rate": 0.00021, "rank_stabilised": True}
    assert point_label(values) == "rank=4, learning_rate=0.00021, rank_stabilised=true"
    assert with_values(CONDITION, values).recipe.name == f"LoRA, {point_label(values)}"
    assert with_values(CONDITION, {}) is CONDITION


def test_the_current_value_of_a_field_is_shown_as_a_user_would_write_it() -> None:
    fields = ("rank", "layers", "learning_rate", "rows", "schedule")
    assert [current(CONDITION, field) for field in fields] == ["8", "0+1", "0.05", "500", "linear"]


def test_fields_that_do_not_affect_results_are_not_searched() -> None:
    fields = searchable(CONDITION).keys()
    assert not {"name", "trainable", "packing", "offload", "precision", "stop_at"} & fields
    assert {"rows", "rank", "alpha", "learning_rate", "batch_size", "optimizer"} <= fields


@pytest.mark.parametrize(
    ("texts", "size", "middle"),
    [
        (["rank=2,4,8", "epochs=1,2"], 6, {"rank": 4, "epochs": 2}),
        (["rank=2,4", "epochs=1:9"], None, {"rank": 4, "epochs": 5}),
        (["learning_rate=log:1e-4:1e-2"], None, {"learning_rate": 1e-3}),
    ],
)
def test_a_space_knows_its_size_and_its_middle(
    texts: list[str], size: int | None, middle: dict[str, Value]
) -> None:
    space = parse(texts, CONDITION)
    assert space.size == size
    assert space.middle == middle


def test_an_axis_is_described_in_words() -> None:
    labels = [axis.label for axis in SearchSpace(SPACE.axes[:3]).axes]
    assert labels == [
        "rank from 1 to 64",
        "learning_rate from 1e-05 to 0.01 (log)",
        "rows 100 or 200",
    ]
