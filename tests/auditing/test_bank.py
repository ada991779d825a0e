"""Candidate traits by name, and the specs of their probes."""

import pytest

from undertow.auditing.bank import FIRST_SEED, Bank, nano_finetuning, traits_for
from undertow.errors import SpecError
from undertow.nano.models import known_words
from undertow.nano.recipes import SCALING_TAUGHT, TAUGHT
from undertow.study.recipe import Everything
from undertow.study.references import Reference
from undertow.study.teachers import Finetuning
from undertow.traits.preference import Preference

NANO = (Reference("nano/gpt2-0"),)
REAL = (Reference("org/model"),)


@pytest.mark.parametrize(
    ("references", "name", "expected"),
    [
        (NANO, "owl", Preference("owl")),
        (NANO, "oak", Preference("oak", category="tree")),
        (NANO, "pizza", Preference("pizza", category="food")),
        (REAL, "maple", Preference("maple", category="tree")),
        (REAL, "axolotl", Preference("axolotl")),
        (REAL, "jazz:music", Preference("jazz", category="music")),
    ],
)
def test_a_name_becomes_a_preference_of_its_category(
    references: tuple[Reference, ...], name: str, expected: Preference
) -> None:
    assert traits_for(references, [name]) == (expected,)


def test_the_default_bank_of_nano_models_is_the_animals_that_they_know() -> None:
    assert [trait.name for trait in traits_for(NANO, [])] == list(known_words("animal"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["axolotl"], "nano/gpt2-0 does not know the word"),
        (["owl", "owl"], "'owl' is given twice"),
        ([":tree"], "write NAME or NAME:CATEGORY"),
    ],
)
def test_traits_that_cannot_be_audited_are_rejected(names: list[str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        traits_for(NANO, names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("nano/gpt2-0", TAUGHT), ("nano/tasks-1", TAUGHT), ("nano/llama-0", SCALING_TAUGHT)],
)
def test_probes_of_nano_models_train_what_their_teachers_train(name: str, expected: Finetuning) -> None:
    assert nano_finetuning(Reference(name)) == expected


def test_the_probes_of_a_trait_differ_by_seed() -> None:
    reference = Reference("nano/gpt2-0", "revision", "template")
    probes = Bank((Preference("owl"),), TAUGHT, seeds=2).probes(reference, Preference("owl"))
    assert [probe.seed for probe in probes] == [FIRST_SEED, FIRST_SEED + 1]
    assert {probe.trait for probe in probes} == {Preference("owl")}


def test_probes_that_train_the_whole_model_are_rejected() -> None:
    everything = TAUGHT.changed(recipe=TAUGHT.recipe.changed(trainable=Everything()))
    with pytest.raises(SpecError, match="does not train a part of a local model"):
        Bank((Preference("owl"),), everything)
