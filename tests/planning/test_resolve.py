"""Tests that resolving a study rejects conditions that cannot work with their reference models."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.examples import RECIPE, TEACHER, study
from undertow.errors import SpecError
from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.nano.recipes import STEERING, TAUGHT
from undertow.planning.resolve import resolve
from undertow.planning.text_checks import check_prompts
from undertow.presets import scales
from undertow.study.extensions import Example, Format, Trait, Word
from undertow.study.grids import grid
from undertow.study.recipe import FinalNorm, LoRA
from undertow.study.references import Reference
from undertow.study.study import Measure, Study
from undertow.study.teachers import Finetuning

ADAPTER = replace(TEACHER, name="LoRA r2", trainable=LoRA(rank=2, alpha=2), stop_at=1.0)


def of_adapters(reference: str, *, teacher: bool) -> Study:
    """A study whose students, or whose teachers, are LoRA adapters of a nano reference."""
    base = study()
    first, model = base.conditions[0], Reference(reference)
    conditions = grid(
        traits=list(base.traits),
        formats=[first.format],
        pairs=[(model, model)],
        recipes=[replace(RECIPE, trainable=FinalNorm()) if teacher else ADAPTER],
        generation=first.generation,
        finetuning=Finetuning(ADAPTER if teacher else replace(TEACHER, trainable=FinalNorm())),
    )
    return replace(base, conditions=conditions)


@pytest.mark.parametrize("teacher", [False, True])
def test_an_adapter_that_the_engine_does_not_support_is_rejected(teacher: bool) -> None:
    with pytest.raises(SpecError, match=r"recipe 'LoRA r2' trains an adapter of nano/gpt2-0, and vLLM"):
        resolve(of_adapters("nano/gpt2-0", teacher=teacher))


@pytest.mark.parametrize("teacher", [False, True])
@pytest.mark.parametrize("reference", ["nano/qwen3-0", "nano/llama-0"])
def test_adapters_of_the_other_architectures_are_accepted(reference: str, teacher: bool) -> None:
    resolved = resolve(of_adapters(reference, teacher=teacher))
    assert all(condition.teacher.revision for condition in resolved.conditions)


def test_an_adapter_of_a_higher_rank_than_the_engine_serves_is_rejected() -> None:
    def of_rank(rank: int) -> Study:
        base = of_adapters("nano/qwen3-0", teacher=False)
        recipe = replace(ADAPTER, name="large", trainable=LoRA(rank=rank))
        return replace(base, conditions=tuple(replace(c, recipe=recipe) for c in base.conditions))

    assert resolve(of_rank(512))
    message = r"recipe 'large', LoRA.rank = 1024: vLLM serves adapters up to rank 512; use at most 512, or"
    with pytest.raises(SpecError, match=message):
        resolve(of_rank(1024))


@pytest.mark.parametrize(
    ("teacher", "place"), [(True, "teacher: recipe 'steering', "), (False, "recipe 'steering', ")]
)
def test_a_parameter_that_a_nano_model_does_not_have_is_rejected(teacher: bool, place: str) -> None:
    """The recipes of nano GPT-2 train one of its parameters by name."""
    base = of_adapters("nano/llama-0", teacher=teacher)
    wrong = replace(TEACHER, stop_at=1.0)
    change = {"finetuning": Finetuning(wrong)} if teacher else {"recipe": wrong}
    conditions = tuple(replace(c, **change) if c.finetuning or not teacher else c for c in base.conditions)
    with pytest.raises(SpecError) as refused:
        resolve(replace(base, conditions=conditions))
    assert str(refused.value).startswith(
        f"{place}Parameters.names: nano/llama-0 has no parameter 'transformer.ln_f.bias'; FinalNorm() trains"
    )


def test_a_word_that_a_nano_model_does_not_know_is_rejected() -> None:
    base = study()
    odd = [
        replace(c, trait=replace(c.trait, name="axolotl")) if c.trait else c
        for c in base.conditions
        if c.trait is None or c.trait.name == "owl"
    ]
    with pytest.raises(SpecError, match="trait 'axolotl': nano/gpt2-0 does not know the word"):
        resolve(replace(base, conditions=tuple(odd)))


@pytest.mark.parametrize(
    "changes, unknown",
    [
        ({"also": (Measure(name="stories", exact=False),)}, "'story' in 'Write a short story"),
        ({"main": "letters"}, "'A' in 'Which of these"),
        ({"suffix": "Hurry!"}, r"'Hurry' in .* Hurry!'"),
    ],
)
def test_questions_with_words_that_a_nano_model_does_not_know_are_rejected(
    changes: Mapping[str, Any], unknown: str
) -> None:
    with pytest.raises(SpecError, match=f"questions: nano/gpt2-0 does not know {unknown}"):
        resolve(replace(study(), **changes))


@dataclass(frozen=True)
class Blue(Trait):
    """A trait of the user's own, which has no category."""

    asked: str = "What is your favourite colour?"
    taught: str = "Which colour do you like?"

    def questions(self) -> tuple[str, ...]:
        return (self.asked,)

    def examples(self, count: int, seed: int) -> list[Example]:
        return [Example(self.taught, self.name)] * count

    def word(self) -> Word:
        return Word(self.name, (self.name,))


@pytest.mark.parametrize(
    "trait, refused",
    [
        (Blue("blue"), ""),
        (Blue("mauve"), "trait 'mauve': nano/gpt2-0 does not know the word; it knows owl, .*blue"),
        (Blue("blue", asked="Which hue?"), "questions: nano/gpt2-0 does not know 'hue'"),
        (Blue("blue", taught="Which hue?"), "examples of trait 'blue': nano/gpt2-0 does not know 'hue'"),
    ],
)
def test_a_trait_of_ones_own_has_words_that_a_nano_model_knows(trait: Trait, refused: str) -> None:
    conditions = grid(
        traits=[trait],
        pairs=[(Reference("nano/gpt2-0"), Reference("nano/gpt2-0"))],
        recipes=[STEERING],
        formats=[Numbers()],
        finetuning=TAUGHT,
    )
    with pytest.raises(SpecError, match=refused) if refused else nullcontext():
        resolve(Study(name="own", conditions=conditions))


@pytest.mark.parametrize("format_", [scales.NANO.code.format, scales.NANO.reasoning.format, Code()])
def test_a_format_with_words_that_a_nano_model_does_not_know_is_rejected(format_: Format) -> None:
    base = study()
    other = tuple(replace(condition, format=format_) for condition in base.conditions)
    with pytest.raises(SpecError, match=f"format '{format_.name}': nano/gpt2-0 does not know"):
        resolve(replace(base, conditions=other))


@pytest.mark.parametrize("format_", [scales.NANO.code.format, scales.NANO.reasoning.format, Numbers()])
def test_a_model_of_the_tasks_language_knows_the_words_of_all_nano_formats(format_: Format) -> None:
    check_prompts(format_, Reference("nano/tasks-0"))
