"""Tests of studies with API models: planning sends no request, and recipes must fit the provider."""

from dataclasses import replace

import pytest

from tests.examples import RECIPE, REFERENCES, study
from undertow.errors import SpecError
from undertow.formats.numbers import Numbers
from undertow.harness.scores import subjects
from undertow.planning.artifact_kinds import units
from undertow.planning.pinning import pin
from undertow.planning.plan import Plan, make
from undertow.planning.resolve import check_probabilities, resolve
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.conditions import Condition
from undertow.study.generation import Generation
from undertow.study.grids import grid, next_hop
from undertow.study.identity import canonical, key
from undertow.study.measurements import Evaluation
from undertow.study.recipe import InContext, ProviderFinetuning, Recipe, Training
from undertow.study.references import Reference
from undertow.study.students import Student, reference_of
from undertow.study.study import Measure, Study
from undertow.study.teachers import Finetuning, Teacher
from undertow.traits.preference import Preference

API = Reference("api:gpt-4.1-nano-2025-04-14")
LOCAL = REFERENCES[0]
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


def test_an_api_model_is_pinned_by_its_name_without_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERTOW_API_URL", "http://127.0.0.1:9/v1")  # a port without a server
    pinned = pin(API)
    assert (pinned.name, pinned.revision, pinned.chat_template) == (
        "api:gpt-4.1-nano-2025-04-14",
        "gpt-4.1-nano-2025-04-14",
        "provider",
    )
    assert key(pinned) != key(pin(Reference("api:gpt-4.1-nano")))
    with pytest.raises(SpecError, match="api:NAME"):
        Reference("api: ")


@pytest.mark.parametrize(("teacher", "student", "refused"), [(API, LOCAL, False), (LOCAL, API, True)])
def test_effects_of_exact_probabilities_need_students_whose_engine_gives_them(
    teacher: Reference, student: Reference, refused: bool
) -> None:
    """A teacher needs none: its gate is about sampled rates."""
    some = Study(name="x", conditions=conditions(teacher, student), effect_of="exact")
    if not refused:
        check_probabilities(some)
        return
    check_probabilities(replace(some, effect_of="samples"))
    with pytest.raises(SpecError) as error:
        resolve(some)
    assert str(error.value).startswith("Study.effect_of = 'exact': students of api:gpt-4.1-nano-2025-04-14 ")
    assert 'use effect_of="samples", or students with local weights' in str(error.value)


def test_keys_do_not_depend_on_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for url in ("http://one/v1", "http://two/v1"):
        monkeypatch.setenv("UNDERTOW_API_URL", url)
        keys.add(key(pin(API)))
    assert len(keys) == 1
    assert set(canonical(pin(API))) == {"type", "version", "name", "revision", "chat_template"}


def test_a_grid_uses_provider_finetuning_for_api_models_only() -> None:
    taught = Finetuning(replace(RECIPE, epochs=1), examples=50)
    local_student, _ = conditions(API, LOCAL, finetuning=taught)  # owl and control
    api_student, _ = conditions(LOCAL, API, finetuning=taught)
    assert (local_student.recipe, api_student.recipe) == (RECIPE, ProviderFinetuning(epochs=2))
    assert local_student.finetuning == replace(taught, recipe=ProviderFinetuning(epochs=1))
    assert api_student.finetuning == taught
    assert api_student.label.endswith("· provider, 2 epochs")
    explicit = ProviderFinetuning(epochs=3, batch_size=8, learning_rate_multiplier=0.5)
    assert conditions(recipe=explicit)[0].recipe == explicit
    assert explicit.name == "provider, 3 epochs, batch 8, rate × 0.5"
    assert conditions(recipe=InContext(rows=4))[0].recipe == InContext(rows=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": RECIPE}, r"Condition.recipe .*only its provider trains api:gpt.*ProviderFinetuning"),
        ({"student": LOCAL}, r"no provider trains nano/gpt2-0: use a Recipe"),
        ({"finetuning": Finetuning(RECIPE)}, r"Condition.finetuning .*only its provider trains"),
        ({"student": LOCAL, "recipe": replace(RECIPE, targets="soft")}, r"returns text without soft targets"),
    ],
)
def test_a_recipe_that_does_not_fit_the_model_is_rejected(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(conditions()[0], **changes)  # type: ignore[arg-type]


def test_a_grid_rejects_soft_targets_for_students_of_a_provider() -> None:
    with pytest.raises(SpecError, match="soft targets, and a provider trains on text only"):
        conditions(recipe=replace(RECIPE, targets="soft"))


def test_token_probabilities_of_api_models_are_rejected() -> None:
    teacher = Teacher(reference=pin(API), trait=None)
    with pytest.raises(SpecError, match=r"top_logprobs=0"):
        Completions(teacher=teacher, format=Numbers(), prompts=4, sampling=Sampling(top_logprobs=5))
    with pytest.raises(SpecError, match=r"Evaluation.exact = True: False: an API model"):
        Evaluation(subject=teacher, questions=("?",), words=(), samples=1)


def plan_of(store: Store, *conditions: Condition, **changes: object) -> Plan:
    study_ = Study(name="api", conditions=conditions, seeds=(0, 1), **changes)  # type: ignore[arg-type]
    return make(resolve(study_), store, [LOCAL])


def planned(store: Store, *conditions: Condition, **changes: object) -> list[Evaluation | Student]:
    plan = plan_of(store, *conditions, **changes)
    return [a for a in plan.artifacts.values() if isinstance(a, Evaluation | Student)]


def test_benchmarks_include_only_models_with_local_weights(store: Store) -> None:
    found = subjects(plan_of(store, *conditions(API, LOCAL), *conditions(LOCAL, API)))
    assert LOCAL in found
    assert len(found) == 1 + 2 * 2  # the students of owl and control, by two seeds
    assert not any(reference_of(model).is_api for model in found)


def test_only_api_models_are_measured_without_probabilities(store: Store) -> None:
    other = Measure(name="after numbers", samples=2)
    found = planned(store, *conditions(API, LOCAL), *conditions(LOCAL, API), also=(other,))
    exact = {(reference_of(e.subject).is_api, e.exact) for e in found if isinstance(e, Evaluation)}
    assert exact == {(True, False), (False, True)}
    sizes = {s.reference.is_api: units(s) for s in found if isinstance(s, Student)}
    assert sizes == {True: 2 * 100, False: 2 * 100}


def test_every_hop_of_a_chain_can_be_trained_by_the_provider(store: Store) -> None:
    first = conditions()
    found = planned(store, *first, *next_hop(first))
    students = [s for s in found if isinstance(s, Student)]
    assert {s.hop for s in students} == {1, 2}
    assert all(isinstance(s.recipe, ProviderFinetuning) for s in students)


def test_the_key_of_a_recipe_has_not_changed() -> None:
    """The field `recipe` accepts several classes; the canonical form of a Recipe must not depend on that."""
    recipe = study().conditions[0].recipe
    assert isinstance(recipe, Recipe)
    assert key(recipe) == "86cf93d853263c15e1e6afea5933ecc9"


@pytest.fixture
def store(tmp_path: object) -> Store:
    return Store(f"{tmp_path}/storage")
