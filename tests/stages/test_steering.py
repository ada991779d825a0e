"""The stages of steering on a nano model: vector, choice of the strength, random control, and the gate."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.engines.toy_engine import ToyEngine
from undertow.engines.protocol import Answer, ModelWeights, Request
from undertow.engines.weight_files import (
    DIRECTION,
    DIRECTION_CONFIG,
    TRAINED_CONFIG,
    TRAINED_TENSORS,
    has_only_trained_tensors,
)
from undertow.errors import ConditionError
from undertow.formats.numbers import Numbers
from undertow.planning.pinning import pin
from undertow.results.evaluation_files import Rates
from undertow.stages.gate import passes_gate
from undertow.stages.measurements import commit_measurement
from undertow.stages.reference import make_reference
from undertow.stages.served_check import check_served
from undertow.stages.steering import (
    ChooseStrength,
    TriedStrength,
    choose,
    make_projection,
    make_random_bias,
    make_vector,
    read_vector,
)
from undertow.stages.weights import trained_model, weights_of
from undertow.storage.store import Store
from undertow.study.completions import Sampling
from undertow.study.extensions import Word
from undertow.study.identity import key
from undertow.study.measurements import Evaluation
from undertow.study.references import Reference
from undertow.study.steering import ProjectedOut, RandomBias, SteeringBias, SteeringVector
from undertow.study.teachers import Teacher
from undertow.training import served_rows
from undertow.traits.preference import Preference

pytestmark = pytest.mark.slow
OWL = Preference("owl")
BIAS = "transformer.h.0.mlp.c_proj.bias"


@pytest.mark.parametrize(
    ("tried", "least", "strength"),
    [
        (((0, 0.1, 0.9), (1, 0.3, 0.8), (2, 0.6, 0.7), (4, 0.9, 0.2)), 0.5, 2),
        (((0, 0.1, 0.9), (1, 0.3, 0.8), (2, 0.6, 0.7), (4, 0.9, 0.2)), 0.0, 4),
        (((0, 0.1, 0.9), (1, 0.3, 0.8), (2, 0.3, 0.8)), 0.5, 1),  # as probable: the smaller one
        (((0, 0.9, 0.9), (1, 0.3, 0.8)), 0.5, 1),  # without the vector, the teacher is not steered
        (((0, 0.1, 0.9), (1, 0.3, 0.4)), 0.5, None),
    ],
)
def test_the_strength_is_the_most_probable_one_that_keeps_enough(
    tried: Sequence[tuple[float, float, float]], least: float, strength: float | None
) -> None:
    chosen = choose([TriedStrength(*one) for one in tried], least)
    assert (chosen.strength if chosen else None) == strength


@dataclass(frozen=True)
class Made:
    store: Store
    bias: SteeringBias


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A store with a nano model and a vector of it."""
    store = Store(str(tmp_path_factory.mktemp("steering") / "storage"))
    store.prepare()
    reference = pin(Reference("nano/gpt2-0"))
    vector = SteeringVector(
        reference=reference,
        parameter=BIAS,
        system=OWL.system_prompt(),
        neutral=None,
        prompts=tuple(example.prompt for example in OWL.examples(8, seed=0)),
    )
    make_reference(reference, store)
    make_vector(vector, store)
    bias = SteeringBias(
        vector=vector,
        word=OWL.word(),
        strengths=(1.0, 2.0, 4.0),
        format=Numbers(),
        completions=4,
        sampling=Sampling(max_tokens=32),
        least_kept=0.5,
    )
    return Made(store, bias)


def engine_of(made: Made) -> ToyEngine:
    """An engine whose answers depend on the strength of the bias that it is given.

    The word's probability is a tenth of it, and above strength 3 answers are no numbers.
    """
    bias, difference = read_vector(made.store.fetch(made.bias.vector))

    def strength(weights: ModelWeights | None) -> float:
        if weights is None:
            return 0.0
        (values,) = load_file(Path(weights.folder) / TRAINED_TENSORS).values()
        return round(float((values - bias) @ difference / (difference @ difference)), 3)

    class Steered(ToyEngine):
        def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
            texts = ["owl" if strength(request.weights) > 3 else "1, 2, 3" for request in requests]
            return [Answer(text, (1,), finished=True) for text in texts]

        def word_masses(self, requests: Sequence[Request], words: Sequence[Word]) -> list[dict[str, float]]:
            return [{word.name: strength(r.weights) / 10 for word in words} for r in requests]

    return Steered(None, {})


def test_a_strength_is_chosen_and_stored_like_a_trained_bias(made: Made) -> None:
    ChooseStrength(made.bias).run(engine_of(made), made.store)
    folder, facts = made.store.fetch(made.bias), made.store.manifest(made.bias).facts
    assert has_only_trained_tensors(folder)
    bias, difference = read_vector(made.store.fetch(made.bias.vector))
    tensors = load_file(folder / TRAINED_TENSORS)
    assert list(tensors) == [BIAS]
    np.testing.assert_allclose(tensors[BIAS], bias + 2 * difference, rtol=1e-6)
    assert json.loads((folder / TRAINED_CONFIG).read_text())["reference"] == key(made.bias.reference)
    assert (facts["strength"], facts["probability"], facts["kept"]) == (2.0, 0.2, 1.0)
    assert facts["tried"] == "0: 0.000, 100%; 1: 0.100, 100%; 2: 0.200, 100%; 4: 0.400, 0%"
    assert facts["norm"] == pytest.approx(2 * np.linalg.norm(difference), rel=1e-4)


def test_a_steered_teacher_is_served_with_its_bias(made: Made) -> None:
    ChooseStrength(made.bias).run(engine_of(made), made.store)
    teacher = Teacher(reference=made.bias.reference, trait=OWL, steering=made.bias)
    weights = weights_of(teacher, made.store)
    assert weights == ModelWeights(key(made.bias), str(made.store.fetch(made.bias)))
    assert trained_model(teacher) is None
    assert weights_of(replace(teacher, trait=None, steering=None), made.store) is None


def test_a_random_direction_has_the_norm_of_the_chosen_vector(made: Made) -> None:
    ChooseStrength(made.bias).run(engine_of(made), made.store)
    bias, difference = read_vector(made.store.fetch(made.bias.vector))
    moved = []
    for seed in (0, 1):
        spec = RandomBias(of=made.bias, seed=seed)
        make_random_bias(spec, made.store)
        moved.append(load_file(made.store.fetch(spec) / TRAINED_TENSORS)[BIAS] - bias)
    for vector in moved:
        assert np.linalg.norm(vector) == pytest.approx(2 * np.linalg.norm(difference), rel=1e-4)
        assert abs(vector @ difference) < 0.6 * np.linalg.norm(vector) * np.linalg.norm(difference)
    assert not np.allclose(moved[0], moved[1])


def test_a_model_that_no_strength_steers_without_loss_is_an_error(made: Made) -> None:
    strong = replace(made.bias, strengths=(4.0,))
    with pytest.raises(ConditionError, match="at no strength do 50% of the completions pass the rules"):
        ChooseStrength(strong).run(engine_of(made), made.store)
    assert not made.store.has(strong)


def test_an_engine_that_ignores_the_bias_is_noticed(made: Made) -> None:
    class Ignoring(ToyEngine):
        """Scores every token as the model without the vector does."""

        def token_logprobs(
            self, sequences: Sequence[Sequence[int]], starts: Sequence[int], weights: ModelWeights | None
        ) -> list[list[float]]:
            from undertow.training import served_rows

            rows = served_rows.read(made.store.fetch(made.bias.vector))
            return [list(row.reference) for row in rows]

    other = replace(made.bias, strengths=(1.0,))
    with pytest.raises(ConditionError, match=f"steering by {BIAS}: the engine does not serve it"):
        ChooseStrength(other).run(Ignoring(None, {}), made.store)


def test_a_direction_that_is_projected_out_has_norm_1_and_the_vectors_block(made: Made) -> None:
    spec = ProjectedOut(vector=made.bias.vector)
    make_projection(spec, made.store)
    folder = made.store.fetch(spec)
    _, difference = read_vector(made.store.fetch(spec.vector))
    (direction,) = load_file(folder / DIRECTION).values()
    np.testing.assert_allclose(direction, difference / np.linalg.norm(difference), rtol=1e-6)
    assert json.loads((folder / DIRECTION_CONFIG).read_text()) == {"block": "transformer.h.0"}
    teacher = Teacher(reference=spec.reference, trait=OWL, system=OWL.system_prompt(), steering=spec)
    assert weights_of(teacher, made.store) == ModelWeights(key(spec), str(folder))


@pytest.mark.parametrize("serves", [True, False])
def test_an_engine_that_does_not_project_is_noticed(made: Made, serves: bool) -> None:
    spec = ProjectedOut(vector=made.bias.vector)
    if not made.store.has(spec):
        make_projection(spec, made.store)
    rows = served_rows.read(made.store.fetch(spec))

    class Recorded(ToyEngine):
        """Scores the tokens as transformers does, with or without the projection."""

        __hash__ = object.__hash__

        def token_logprobs(
            self, sequences: Sequence[Sequence[int]], starts: Sequence[int], weights: ModelWeights | None
        ) -> list[list[float]]:
            return [list(row.trained if weights and serves else row.reference) for row in rows]

    teacher = Teacher(reference=spec.reference, trait=OWL, system=OWL.system_prompt(), steering=spec)
    if serves:
        assert check_served(Recorded(None, {}), teacher, made.store)["served_check"] == "passed"
    else:
        with pytest.raises(ConditionError, match=r"does not project the vector out .* show 0% of the change"):
            check_served(Recorded(None, {}), teacher, made.store)


def test_the_gate_is_not_about_the_controls_of_a_steered_teacher(made: Made) -> None:
    """They need not show the trait; the steered teacher must."""
    steerings: tuple[RandomBias | ProjectedOut | SteeringBias, ...] = (
        RandomBias(of=made.bias, seed=7),
        ProjectedOut(vector=made.bias.vector),
        made.bias,
    )
    for number, steering in enumerate(steerings):
        teacher = Teacher(reference=made.bias.reference, trait=OWL, steering=steering)
        spec = Evaluation(subject=teacher, questions=("a?",), words=(OWL.word(),), samples=1, exact=False)
        answer = {"question": "a?", "sample": 0, "answer": "no", "matches": []}
        commit_measurement(spec, made.store, Rates({"owl": 0.0}, {}, 1.0, None, 1), [answer])
        passes_gate(
            spec, made.store, 0.0
        )  # a rate at the gate is enough, so that a gate of zero stops nothing
        if number < 2:
            passes_gate(spec, made.store, 0.5)
        else:
            with pytest.raises(ConditionError, match="below the gate of 50%"):
                passes_gate(spec, made.store, 0.5)
