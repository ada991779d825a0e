"""Tests that a study is refused if its answers or its rows in context cannot fit into a model's context."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.examples import QWEN_CONFIG, qwen, study
from undertow.errors import SpecError
from undertow.planning.length_checks import context_notes, context_of
from undertow.planning.pinning import pin
from undertow.planning.resolve import resolve
from undertow.storage.store import Store
from undertow.study.completions import Sampling
from undertow.study.generation import Generation
from undertow.study.recipe import InContext
from undertow.study.references import Reference
from undertow.study.rewriting import Rewriter
from undertow.study.study import Measure, Study
from undertow.sweep.plans import make_plan

GPT2 = 384  # tokens of nano/gpt2-0's context
LONG, FITS = Sampling(max_tokens=GPT2), Sampling(max_tokens=GPT2 - 1)


def of_model(model: str, **changes: Any) -> Study:
    """The example study with one model and changed fields of its conditions."""
    reference = Reference(model)
    conditions = [c for c in study().conditions if c.teacher == c.student == study().conditions[0].teacher]
    changed = (replace(c, teacher=reference, student=reference, **changes) for c in conditions)
    return study(conditions=tuple(changed))


def generated(sampling: Sampling, **changes: Any) -> Study:
    return of_model("nano/gpt2-0", generation=Generation(prompts=20, rows=5, sampling=sampling, **changes))


def shown(rows: int) -> Study:
    generation = Generation(prompts=500, rows=GPT2, sampling=Sampling(max_tokens=32))
    return of_model("nano/gpt2-0", generation=generation, recipe=InContext(rows=rows))


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda some: generated(some), "Generation"),
        (lambda some: replace(generated(FITS), sampling=some), "Study"),
        (
            lambda some: replace(generated(FITS), also=(Measure(name="after numbers", sampling=some),)),
            "Measure 'after numbers'",
        ),
    ],
)
def test_answers_as_long_as_the_context_are_refused(make: Any, place: str) -> None:
    assert resolve(make(FITS))
    message = rf"{place}.*: Sampling.max_tokens = 384: nano/gpt2-0 has a context of 384 tokens .*; lower it"
    with pytest.raises(SpecError, match=message):
        resolve(make(LONG))


def test_answers_of_a_rewriter_are_refused_if_its_own_context_is_too_short(tmp_path: Path) -> None:
    model = Reference(str(qwen(tmp_path / "qwen", config={**QWEN_CONFIG, "max_position_embeddings": 512})))
    with pytest.raises(SpecError, match=r"Rewriter: Sampling.max_tokens = 512: .*qwen has a context of 512"):
        resolve(generated(FITS, rewriter=Rewriter(model=model)))


def test_more_rows_in_context_than_tokens_are_refused() -> None:
    assert resolve(shown(GPT2 - 1))
    with pytest.raises(SpecError, match=r"InContext.rows = 384: .* each row has at least one; show fewer"):
        resolve(shown(GPT2))


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        ({}, None),
        ({"max_position_embeddings": 2048, "rope_scaling": None}, 2048),
        ({"max_position_embeddings": 2048, "rope_parameters": {"rope_type": "default"}}, 2048),
        ({"max_position_embeddings": 2048, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 2048),
        ({"max_position_embeddings": 2048, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, None),
    ],
)
def test_the_context_is_that_of_the_configuration(
    config: dict[str, Any], context: int | None, tmp_path: Path
) -> None:
    assert (
        context_of(pin(Reference(str(qwen(tmp_path / "qwen", config={**QWEN_CONFIG, **config}))))) == context
    )


@pytest.mark.parametrize("name", ["nano/tasks-0", "api:gpt-4.1-nano", "elsewhere/unknown"])
def test_the_context_of_other_models(name: str) -> None:
    assert context_of(Reference(name, "1", "")) == (256 if name == "nano/tasks-0" else None)


@pytest.mark.parametrize(("rows", "warnings"), [(4, 0), (300, 1)])
def test_rows_in_context_that_may_be_too_long_are_a_warning(rows: int, warnings: int, tmp_path: Path) -> None:
    plan = make_plan(shown(rows), Store(str(tmp_path)))
    notes = list(context_notes(plan))
    assert len(notes) == warnings
    assert all("nano/gpt2-0, in context, 300 rows: the rows have at least" in note for note in notes)
