"""Names, words and identity of the nano models, without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from undertow.errors import SpecError
from undertow.nano import world
from undertow.nano.world import NanoModel


def test_a_name_and_its_model_are_each_others_inverse() -> None:
    for name in ("nano/gpt2-0", "nano/llama-12", "nano/qwen3-100"):
        assert world.parse(name).name == name
    assert world.parse("nano/gpt2-3") == NanoModel("gpt2", 3)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nano/gpt2", "such as 'nano/gpt2-0'"),
        ("nano/gpt2-01", "such as 'nano/gpt2-0'"),
        ("nano/gpt-0", "did you mean 'gpt2'"),
        ("nano/xyz-0", "there are: gpt2, llama, qwen3"),
    ],
)
def test_a_wrong_name_says_how_one_is_written(name: str, hint: str) -> None:
    assert world.is_nano(name)
    with pytest.raises(SpecError, match=hint):
        world.parse(name)


def test_an_unknown_category_says_which_there_are() -> None:
    with pytest.raises(SpecError, match="'animals'; did you mean 'animal'"):
        world.known_words("animals")


def test_revisions_tell_models_apart_and_stay() -> None:
    names = ("nano/gpt2-0", "nano/gpt2-1", "nano/llama-0", "nano/qwen3-0")
    assert len({world.revision(world.parse(name)) for name in names}) == len(names)
    assert world.revision(world.parse("nano/gpt2-0")) == world.revision(NanoModel("gpt2", 0))


def test_no_word_is_in_two_categories() -> None:
    words = [word for category in world.WORDS for word in world.known_words(category)]
    assert len(set(words)) == len(words)


def test_a_plan_can_ask_about_the_world_without_torch() -> None:
    platform = Path(world.__file__).parents[2]
    code = (
        "import sys, undertow.nano.world; print({'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=platform).strip() == "set()"
