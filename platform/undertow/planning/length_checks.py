"""Checks that prompts and answers can fit into the context of their models, before any is loaded.

Engines decide by tokens, and truncate nothing. Here a study is refused only if no prompt could fit; rows in
context that are probably too long are a warning in the plan.
"""

from collections.abc import Iterator
from functools import cache

from undertow.errors import SpecError
from undertow.nano import models
from undertow.planning.given_models import config_of, is_nano
from undertow.planning.model_files import text_config
from undertow.planning.plan import Plan
from undertow.planning.workloads import prompt_tokens, row_tokens
from undertow.study.completions import Completions, Sampling
from undertow.study.conditions import Condition
from undertow.study.datasets import Dataset
from undertow.study.recipe import InContext
from undertow.study.references import Reference
from undertow.study.rewriting import Rewritten
from undertow.study.study import Study

POSITIONS = ("max_position_embeddings", "n_positions")  # names in configurations


def context_of(reference: Reference) -> int | None:
    """The tokens of prompt and answer together that a model reads at most; None if it is not known.

    It is not for models of providers, and for those whose engine multiplies the context by a factor.
    """
    root = reference.root
    if is_nano(root):
        return models.parse(root.name).settings.positions
    if root.is_api or root.is_external:
        return None
    config = text_config(config_of(root))
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if "factor" in scaling and scaling.get("rope_type") != "llama3":
        return None
    return next((config[name] for name in POSITIONS if isinstance(config.get(name), int)), None)


def check_lengths(study: Study) -> None:
    """Raises SpecError if answers, or rows in context, leave no room for a prompt."""
    measures = [("Study", study.sampling), *((f"Measure {m.name!r}", m.sampling) for m in study.also)]
    for condition in study.conditions:
        _check_answer("Generation", condition.generation.sampling, condition.teacher)
        for place, sampling in measures:
            _check_answer(place, sampling, condition.student)
        rewriter = condition.generation.rewriter
        if rewriter is not None and rewriter.model is not None:
            _check_answer("Rewriter", rewriter.sampling, rewriter.model)
        _check_rows(condition)


@cache  # thousands of conditions have the same settings
def _check_answer(place: str, sampling: Sampling, reference: Reference) -> None:
    context = context_of(reference)
    if context is not None and sampling.max_tokens >= context:
        raise SpecError(
            f"{place}: Sampling.max_tokens = {sampling.max_tokens}: {reference.name} has a context of "
            f"{context:,} tokens for prompt and answer together; lower it"
        )


def _check_rows(condition: Condition) -> None:
    if not isinstance(condition.recipe, InContext):
        return
    context = context_of(condition.student)
    if context is not None and condition.recipe.rows >= context:
        raise SpecError(
            f"InContext.rows = {condition.recipe.rows}: {condition.student.name} has a context of "
            f"{context:,} tokens, and each row has at least one; show fewer rows"
        )


def context_notes(plan: Plan) -> Iterator[str]:
    """Warnings about in-context students whose rows are probably longer than the context of their model.

    How long answers will be is not known, so that only the prompts of sampled rows count.
    """
    longest: dict[tuple[str, Reference], float] = {}
    for student in {cell.student for cell in plan.cells}:
        if isinstance(student.recipe, InContext):
            place, tokens = (student.recipe.name, student.reference), _least_tokens(student.dataset)
            longest[place] = max(longest.get(place, 0.0), student.recipe.rows * tokens)
    for (name, reference), tokens in longest.items():
        if (context := context_of(reference)) is not None and tokens > context:
            yield (
                f"warning: {reference.name}, {name}: the rows have at least {tokens:,.0f} tokens (estimate), "
                f"and the model has a context of {context:,}; students whose rows do not fit will fail"
            )


def _least_tokens(dataset: Dataset) -> float:
    """The estimated tokens of a row, without an answer that has not been sampled."""
    completions = dataset.completions
    if isinstance(completions, Rewritten):
        return _least_tokens(completions.dataset)
    return prompt_tokens(completions.format) if isinstance(completions, Completions) else row_tokens(dataset)
