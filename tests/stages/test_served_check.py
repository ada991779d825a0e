"""When a served model counts as the trained one, from an engine's log-probabilities of training rows."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.toy_engine import ToyEngine
from tests.study.test_identity import COMPLETIONS, CONTROL, RECIPE, REFERENCE, STUDENT, TEACHER
from undertow.stages.completions import GenerateShard
from undertow.stages.evaluation import Evaluate
from undertow.stages.served_check import FLOOR, check_served, compare, window
from undertow.stages.weights import trained_model
from undertow.storage.store import Store
from undertow.study.measurements import Evaluation
from undertow.study.recipe import InContext
from undertow.study.students import Student, Subject
from undertow.study.teachers import Finetuning, Teacher
from undertow.training.served_rows import ServedRow

TOKENS = 40  # of each of 16 rows
FP32, BF16 = 1e-5, 0.02  # rounding of an engine, in nats
FINETUNED = Teacher(
    reference=REFERENCE,
    trait=TEACHER.trait,
    finetuning=Finetuning(RECIPE),
)
OF_CHAIN = replace(REFERENCE, student=STUDENT)


@pytest.mark.parametrize(
    ("change", "rounding", "served", "result"),
    [
        (0.5, FP32, 1.0, "passed"),
        (0.5, FP32, 0.0, "failed"),  # the reference
        (0.5, FP32, 0.9, "failed"),  # without one of several tensors
        (0.5, FP32, -1.0, "failed"),
        (0.01, FP32, 1.0, "passed"),
        (0.01, FP32, 0.0, "failed"),
        (FLOOR / 2, FP32, 1.0, "passed"),  # smaller than the tolerance: the direction decides
        (FLOOR / 2, FP32, 0.0, "failed"),
        (FLOOR / 100, FP32, 1.0, "inconclusive"),
        (FLOOR / 100, FP32, 0.0, "inconclusive"),
        (0.5, BF16, 1.0, "passed"),
        (0.5, BF16, 0.0, "failed"),
        (0.05, BF16, 1.0, "passed"),
        (0.05, BF16, 0.0, "failed"),
        (0.01, BF16, 1.0, "inconclusive"),
        (0.01, BF16, 0.0, "inconclusive"),
        (0.0, BF16, 1.0, "inconclusive"),
        (0.0, FP32, float("nan"), "failed"),
        (0.5, 1.0, 1.0, "failed"),  # the engine computes another reference
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_the_served_model_is_the_trained_one(
    change: float, rounding: float, served: float, result: str, seed: int
) -> None:
    """The engine shows the share `served` of the training's change, up to its rounding."""
    rng = random.Random(seed)
    rows: list[ServedRow] = []
    of_served: list[list[float]] = []
    of_reference: list[list[float]] = []
    for _ in range(16):
        before = [rng.uniform(-5, 0) for _ in range(TOKENS)]
        steps = [rng.gauss(0, change) for _ in before]
        after = [value + step for value, step in zip(before, steps, strict=True)]
        rows.append(ServedRow(tuple(range(60)), 60 - TOKENS, tuple(before), tuple(after)))
        of_reference.append([value + rng.gauss(0, rounding) for value in before])
        of_served.append(
            [a + served * step + rng.gauss(0, rounding) for a, step in zip(before, steps, strict=True)]
        )
    comparison = compare(rows, of_served, of_reference)
    assert comparison.result == result
    assert comparison.facts["served_check"] == result
    if result == "passed":
        assert comparison.share == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(
    ("change", "served", "result"),
    [
        (0.06, True, "inconclusive"),  # as a student of control data in bf16: most of its change is rounding
        (0.06, False, "inconclusive"),
        (0.2, True, "passed"),
        (0.2, False, "failed"),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_rounding_of_the_training_does_not_count_as_a_change_that_is_missing(
    change: float, served: bool, result: str, seed: int
) -> None:
    """Every pass rounds by 0.05 nats, those of the training as those of the engine."""
    rng, rounding = random.Random(seed), 0.05
    places = range(800)
    true = [rng.uniform(-5, 0) for _ in places]
    changed = [value + rng.gauss(0, change) for value in true]

    def computed(values: list[float]) -> list[float]:
        return [value + rng.gauss(0, rounding) for value in values]

    rows = [ServedRow(tuple(range(900)), 100, tuple(computed(true)), tuple(computed(changed)))]
    comparison = compare(rows, [computed(changed if served else true)], [computed(true)])
    assert comparison.result == result


@pytest.mark.parametrize(
    ("subject", "trained"),
    [
        (REFERENCE, None),
        (TEACHER, None),
        (CONTROL, None),
        (replace(STUDENT, recipe=InContext(rows=5)), None),
        (STUDENT, STUDENT),
        (FINETUNED, FINETUNED),
        (OF_CHAIN, STUDENT),
        (replace(TEACHER, reference=OF_CHAIN), STUDENT),  # by its system message, on a student's weights
        (replace(CONTROL, student=STUDENT), STUDENT),
        (replace(STUDENT, reference=OF_CHAIN), replace(STUDENT, reference=OF_CHAIN)),
    ],
)
def test_the_model_whose_training_is_checked(subject: Subject, trained: Student | Teacher | None) -> None:
    assert trained_model(subject) == trained
    assert window(subject) == (512 if trained else 0)


def test_an_engine_has_room_for_the_rows_that_it_checks() -> None:
    evaluation = Evaluation(subject=STUDENT, questions=("a?",), words=(), samples=1, exact=False)
    long = replace(STUDENT, recipe=replace(RECIPE, max_length=900))
    assert Evaluate(replace(evaluation, subject=long)).window == 1024
    assert Evaluate(replace(evaluation, subject=replace(long, recipe=InContext(rows=5)))).window == 0
    completions = replace(COMPLETIONS, teacher=replace(CONTROL, reference=replace(REFERENCE, student=long)))
    assert GenerateShard(completions, 0, 1, 0.0).window == 1024


def test_an_engine_that_scores_no_tokens_is_not_checked(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    with store.new(STUDENT, {}) as folder:
        (folder / "model.safetensors").write_text("")
    assert check_served(ToyEngine(None, {}), STUDENT, store) == {}
