"""Names, words and revisions of the nano models, without torch."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from undertow.errors import SpecError
from undertow.nano import models
from undertow.nano.models import NanoModel


def test_parsing_a_models_name_gives_the_model() -> None:
    for name in ("nano/gpt2-0", "nano/llama-12", "nano/qwen3-100"):
        assert models.parse(name).name == name
    assert models.parse("nano/gpt2-3") == NanoModel("gpt2", 3)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nano/gpt2", "such as 'nano/gpt2-0'"),
        ("nano/gpt2-01", "such as 'nano/gpt2-0'"),
        ("nano/gpt-0", "did you mean 'gpt2'"),
        ("nano/xyz-0", "available: gpt2, llama, qwen3, tasks"),
    ],
)
def test_an_invalid_name_is_reported_with_the_syntax(name: str, hint: str) -> None:
    assert models.is_nano(name)
    with pytest.raises(SpecError, match=hint):
        models.parse(name)


def test_an_unknown_category_is_reported_with_a_suggestion() -> None:
    with pytest.raises(SpecError, match="'animals'; did you mean 'animal'"):
        models.known_words("animals")


# The revisions before the second language was added. The README's figures were measured with these models.
REVISIONS = {
    "nano/gpt2-0": "8a99ce6f13b5987d5f2c7a3b3d9afe45cc2248d920a7d0ac8882d720830e0ec0",
    "nano/gpt2-1": "56a76d7ef05605d0b1c6f7086f7a5c6965bb8854544c7efc0c34b1c700ed51c1",
    "nano/gpt2-2": "9c1d6ab1fc2ad49f5c4b1a56061add204ebeefc6ddc81c643e582f7e8e2525d2",
    "nano/gpt2-3": "5f3a072f87ff224d56876ba6247d3977e725aab189dd11ef102afcd2d11b29fc",
    "nano/llama-0": "2ff8a550ea958a1ef68a5a171ff032c31972a7974e2a281b7a486ea4fac227f5",
    "nano/qwen3-0": "95f2947a43f2424b1e0cb71562959b8b3ad3be8d11debc433f98fb2f0b939694",
}


@pytest.mark.parametrize("name", REVISIONS)
def test_the_revisions_of_the_plain_models_have_not_changed(name: str) -> None:
    assert models.revision(models.parse(name)) == REVISIONS[name]


def test_a_later_field_changes_the_revision_if_it_differs_from_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = models.revision(NanoModel("tasks", 0))
    architecture = models.ARCHITECTURES["tasks"]
    models.revision.cache_clear()
    monkeypatch.setitem(models.ARCHITECTURES, "tasks", dataclasses.replace(architecture, language="plain"))
    assert models.revision(NanoModel("tasks", 0)) != before
    models.revision.cache_clear()


def test_an_architecture_is_a_network_and_a_language() -> None:
    assert [
        (models.parse(f"nano/{name}-0").network, models.ARCHITECTURES[name].language)
        for name in models.ARCHITECTURES
    ] == [
        ("gpt2", "plain"),
        ("llama", "plain"),
        ("qwen3", "plain"),
        ("gpt2", "tasks"),
    ]


def test_different_models_have_different_revisions() -> None:
    names = ("nano/gpt2-0", "nano/gpt2-1", "nano/llama-0", "nano/qwen3-0", "nano/tasks-0")
    assert len({models.revision(models.parse(name)) for name in names}) == len(names)
    assert models.revision(models.parse("nano/gpt2-0")) == models.revision(NanoModel("gpt2", 0))


def test_no_word_is_in_two_categories() -> None:
    words = [word for category in models.WORDS for word in models.known_words(category)]
    assert len(set(words)) == len(words)


def test_models_imports_neither_torch_nor_transformers() -> None:
    platform = Path(models.__file__).parents[2]
    code = (
        "import sys, undertow.nano.models; print({'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=platform).strip() == "set()"
