"""API models in a study: pinned without a call, trained by their provider, refused where they cannot be."""

from dataclasses import replace

import pytest

from tests.examples import RECIPE, REFERENCES, study
from undertow.errors import SpecError
from undertow.formats.numbers import Numbers
from undertow.harness.scores import subjects
from undertow.planning.artifact_kinds import units
from undertow.planning.pinning import pin
from undertow.planning.plan import Plan, make
from undertow.planning.resolve import resolve
from undertow.storage.store import Store
from undertow.study.artifacts import (
    Completions,
    Evaluation,
    Finetuning,
    Reference,
    Sampling,
    Student,
    Teacher,
    reference_of,
)
from undertow.study.conditions import Condition, Generation
from undertow.study.grids import grid, next_hop
from undertow.study.identity import canonical, key
from undertow.study.recipe import InContext, ProviderFinetuning, Recipe, Training
from undertow.study.study import Measure, Study
from undertow.traits.preference import Preference

API = Reference("api:gpt-4.1-nano-2025-04-14")
HERE = REFERENCES[0]
GENERATION = Generation(prompts=300, rows=100)


def conditions(
    teacher: Reference = API, student: Reference = API, recipe: Training | InContext = RECIPE, **more: object
) -> tuple[Condition, ...]:
    return grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(teacher, student)],
        recipes=[recipe],
        generation=GENERATION,
        **more,  # type: ignore[arg-type]
    )


def test_a_providers_model_is_pinned_by_its_name_and_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERTOW_API_URL", "http://127.0.0.1:9/v1")  # where nothing answers
    pinned = pin(API)
    assert (pinned.name, pinned.revision, pinned.chat_template) == (
        "api:gpt-4.1-nano-2025-04-14",
        "gpt-4.1-nano-2025-04-14",
        "provider",
    )
    assert key(pinned) != key(pin(Reference("api:gpt-4.1-nano")))
    with pytest.raises(SpecError, match="api:NAME"):
        Reference("api: ")


def test_the_endpoint_is_no_part_of_any_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for url in ("http://one/v1", "http://two/v1"):
        monkeypatch.setenv("UNDERTOW_API_URL", url)
        keys.add(key(pin(API)))
    assert len(keys) == 1
    assert set(canonical(pin(API))) == {"type", "version", "name", "revision", "chat_template"}


def test_a_grid_trains_each_model_where_it_can_be_trained() -> None:
    taught = Finetuning(replace(RECIPE, epochs=1), examples=50)
    made = conditions(API, HERE, finetuning=taught) + conditions(HERE, API, finetuning=taught)
    here, _, there, _ = made
    assert (here.recipe, there.recipe) == (RECIPE, ProviderFinetuning(epochs=2))
    assert here.finetuning == replace(taught, recipe=ProviderFinetuning(epochs=1))
    assert there.finetuning == taught
    assert there.label.endswith("· provider, 2 epochs")
    own = ProviderFinetuning(epochs=3, batch_size=8, learning_rate_multiplier=0.5)
    assert conditions(recipe=own)[0].recipe == own
    assert own.name == "provider, 3 epochs, batch 8, rate × 0.5"
    assert conditions(recipe=InContext(rows=4))[0].recipe == InContext(rows=4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipe": RECIPE}, r"Condition.recipe .*only its provider trains api:gpt.*ProviderFinetuning"),
        ({"student": HERE}, r"no provider trains nano/gpt2-0: use a Recipe"),
        ({"finetuning": Finetuning(RECIPE)}, r"Condition.finetuning .*only its provider trains"),
        ({"student": HERE, "recipe": replace(RECIPE, targets="soft")}, r"returns text without soft targets"),
    ],
)
def test_what_cannot_be_trained_so_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        replace(conditions()[0], **changes)  # type: ignore[arg-type]


def test_soft_targets_for_a_providers_student_are_refused_and_not_dropped() -> None:
    with pytest.raises(SpecError, match="soft targets, and a provider trains on text only"):
        conditions(recipe=replace(RECIPE, targets="soft"))


def test_tokens_probabilities_are_neither_asked_for_nor_recorded() -> None:
    teacher = Teacher(reference=pin(API), trait=None)
    with pytest.raises(SpecError, match=r"top_logprobs=0"):
        Completions(teacher=teacher, format=Numbers(), prompts=4, sampling=Sampling(top_logprobs=5))
    with pytest.raises(SpecError, match=r"Evaluation.exact = True: False: an API model"):
        Evaluation(subject=teacher, questions=("?",), words=(), samples=1)


def plan_of(store: Store, *made: Condition, **changes: object) -> Plan:
    study_ = Study(name="api", conditions=made, seeds=(0, 1), **changes)  # type: ignore[arg-type]
    return make(resolve(study_), store, [HERE])


def planned(store: Store, *made: Condition, **changes: object) -> list[Evaluation | Student]:
    plan = plan_of(store, *made, **changes)
    return [a for a in plan.artifacts.values() if isinstance(a, Evaluation | Student)]


def test_benchmarks_are_of_models_whose_weights_are_here(store: Store) -> None:
    found = subjects(plan_of(store, *conditions(API, HERE), *conditions(HERE, API)))
    assert HERE in found
    assert len(found) == 1 + 2 * 2  # the students of owl and control, by two seeds
    assert not any(reference_of(model).is_api for model in found)


def test_only_what_is_served_elsewhere_is_measured_without_probabilities(store: Store) -> None:
    other = Measure(name="after numbers", samples=2)
    found = planned(store, *conditions(API, HERE), *conditions(HERE, API), also=(other,))
    exact = {(reference_of(e.subject).is_api, e.exact) for e in found if isinstance(e, Evaluation)}
    assert exact == {(True, False), (False, True)}
    sizes = {s.reference.is_api: units(s) for s in found if isinstance(s, Student)}
    assert sizes == {True: 2 * 100, False: 2 * 100}


def test_chains_go_on_at_the_provider(store: Store) -> None:
    first = conditions()
    found = planned(store, *first, *next_hop(first))
    students = [s for s in found if isinstance(s, Student)]
    assert {s.hop for s in students} == {1, 2}
    assert all(isinstance(s.recipe, ProviderFinetuning) for s in students)


def test_keys_of_what_was_made_before_are_as_they_were() -> None:
    """A Recipe's place may now be taken by another kind; its own form has not changed."""
    recipe = study().conditions[0].recipe
    assert isinstance(recipe, Recipe)
    assert key(recipe) == "86cf93d853263c15e1e6afea5933ecc9"


@pytest.fixture
def store(tmp_path: object) -> Store:
    return Store(f"{tmp_path}/storage")
