"""The check that an engine serves the model that was trained: not its reference, nor a part of the change.

The training stored the log-probabilities of some training rows (`training.served_rows`). The engine scores
the same tokens with the served model and with the untrained reference. For both, the root mean square of
(engine - training) over the tokens is computed. The reference's is pure rounding: other kernels, another
precision; more than MOST_ROUNDING is an error of its own. The served model's may be up to MULTIPLE times as
large, and in any case up to FLOOR. It is not the maximum, because in bf16 the rounding of single unlikely
tokens is an order of magnitude larger, and no error that matters for rates of answers is confined to one
token of a thousand.

This comparison cannot see that a change smaller than the tolerance is missing. Such a change still has a
direction: `share` is the part of the training's change that the engine shows, 0 for the reference. For the
trained model it is 1 without rounding. The training rounds too, and what is rounding in its change does not
show in the engine: `reliability` is the least share that the trained model then has (attenuation by an error
in the regressor). The share decides if rounding leaves no doubt whether it is nearer to 0 or to that.
Otherwise the check is inconclusive: this is in the evaluation's facts, and it does not fail.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

from undertow.engines.context_length import in_steps, tokens_at_most
from undertow.engines.protocol import Engine, ModelWeights, ScoresTokens
from undertow.engines.registry import engine_for
from undertow.engines.weight_files import STEP_FOLDER
from undertow.errors import ConditionError
from undertow.stages.weights import Checked, checked_by, lora_rank, start_of, trained_by, weights_of
from undertow.storage.store import Store
from undertow.study.completions import Sampling
from undertow.study.identity import key
from undertow.study.recipe import Recipe
from undertow.study.steering import ProjectedOut
from undertow.study.students import Subject
from undertow.training import served_rows
from undertow.training.served_rows import LONGEST, ServedRow

MULTIPLE = 5.0  # of the reference's own difference between engine and training
FLOOR = 1e-3  # nats; in fp32 the reference's own difference is far below
MOST_ROUNDING = 0.3  # nats; where the reference differs by more, engine and training compute different models

Logprobs = Sequence[Sequence[float]]  # by row and token, in nats
Result = Literal["passed", "failed", "inconclusive"]


@dataclass(frozen=True)
class Comparison:
    """What an engine's log-probabilities of training rows say. Root mean squares over all tokens, in nats.

    Attributes:
        difference: of the served model, between engine and training.
        rounding: the same of the untrained reference.
        change: by which training changed the log-probabilities.
        shown: by which the engine's served model differs from the engine's reference.
        share: the part of the training's change that the engine shows, by least squares.
        tokens: the number of tokens.
    """

    difference: float
    rounding: float
    change: float
    shown: float
    share: float
    tokens: int

    @property
    def tolerance(self) -> float:
        """The largest difference that counts as rounding."""
        return max(FLOOR, MULTIPLE * self.rounding)

    @property
    def reliability(self) -> float:
        """The least share of the change that a trained model shows, if all rounding is in the training.

        The change is a difference of two passes of the training, so that it has twice the variance of one.
        """
        return 1 - 2 * (self.rounding / self.change) ** 2 if self.change else 0.0

    @property
    def is_other_reference(self) -> bool:
        """Whether engine and training compute different references, so that nothing can be compared."""
        return not self.rounding <= MOST_ROUNDING

    @property
    def result(self) -> Result:
        if self.is_other_reference or not self.difference <= self.tolerance:  # also if it is not a number
            return "failed"
        if self.change > self.tolerance:
            return "passed"
        # The rounding of reference and served model adds up in `share`, and averages out over the tokens.
        error, least = math.sqrt(2 / self.tokens) * self.tolerance, self.reliability / 2
        if not error <= least * self.change:
            return "inconclusive"
        return "passed" if self.share > least else "failed"

    @property
    def facts(self) -> dict[str, Any]:
        """Entries of an evaluation's facts."""
        numbers = {"difference": self.difference, "tolerance": self.tolerance}
        numbers |= {"change": self.change, "share": self.share}
        return {"served_check": self.result} | {
            f"served_{name}": float(f"{value:.3g}") for name, value in numbers.items()
        }


def compare(rows: Sequence[ServedRow], served: Logprobs, reference: Logprobs) -> Comparison:
    """Compares an engine's log-probabilities by the `served` and the `reference` model with training's."""
    change = _differences([row.trained for row in rows], [row.reference for row in rows])
    shown = _differences(served, reference)
    size = math.fsum(value * value for value in change)
    return Comparison(
        difference=_rms(_differences(served, [row.trained for row in rows])),
        rounding=_rms(_differences(reference, [row.reference for row in rows])),
        change=_rms(change),
        shown=_rms(shown),
        share=math.fsum(a * b for a, b in zip(shown, change, strict=True)) / size if size else 0.0,
        tokens=len(change),
    )


def _differences(one: Logprobs, other: Logprobs) -> list[float]:
    """The differences of all tokens, row after row."""
    return [a - b for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)]


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(math.fsum(value * value for value in values) / len(values))


class _EngineChecks:
    """The checks that one engine has made: one per model, and one pass of each reference per set of rows."""

    def __init__(self) -> None:
        self.comparisons: dict[str, Comparison] = {}
        self.references: dict[tuple[str, tuple[tuple[int, ...], ...]], Logprobs] = {}


_CHECKS: WeakKeyDictionary[Engine, _EngineChecks] = WeakKeyDictionary()


def window(subject: Subject) -> int:
    """The context length that the check of a subject needs, in tokens; 0 for a subject without a check."""
    checked = checked_by(subject)
    if isinstance(checked, ProjectedOut):
        return tokens_at_most(checked.vector.prompts, checked.vector.system, Sampling(max_tokens=1))
    recipe = trained_by(checked) if checked else None
    # Training rejects rows that are longer than the recipe's maximum; one token is vLLM's answer.
    return in_steps(min(recipe.max_length, LONGEST) + 1) if isinstance(recipe, Recipe) else 0


def check_served(engine: Engine, subject: Subject, store: Store, step: int | None = None) -> dict[str, Any]:
    """Checks, once per engine and model, that the subject's own weights or projection are served.

    Args:
        step: of a student: the kept step of its training whose weights are checked.

    Returns facts for the evaluation. They are empty for a subject with the reference's own weights, an engine
    that cannot score tokens, and a model that was trained before rows were stored.

    Raises ConditionError if the engine serves something else than the trained model.
    """
    checked, weights = checked_by(subject), weights_of(subject, store, step)
    if checked is None or weights is None or not isinstance(engine, ScoresTokens):
        return {}
    checks = _CHECKS.setdefault(engine, _EngineChecks())
    if weights.key not in checks.comparisons:
        # A merged adapter can be served without the student that it was merged from.
        folder = store.fetch(checked) if store.has(checked) else None
        if folder is not None and step is not None:
            folder = folder / STEP_FOLDER.format(step)
        rows = served_rows.read(folder) if folder is not None else []
        if not rows:
            return {}
        before = weights_of(start_of(checked), store)
        served = _scored(engine, rows, weights)
        scored = tuple((*row.ids, -1, *row.positions) for row in rows)  # -1 is no token
        place = (before.key if before else "", scored)
        if place not in checks.references:
            checks.references[place] = _scored(engine, rows, before)
        checks.comparisons[weights.key] = compare(rows, served, checks.references[place])
    comparison = checks.comparisons[weights.key]
    if comparison.result == "failed":
        raise ConditionError(_message(comparison, checked))
    return comparison.facts


def _scored(engine: ScoresTokens, rows: Sequence[ServedRow], weights: ModelWeights | None) -> Logprobs:
    found = engine.token_logprobs([row.ids for row in rows], [row.start for row in rows], weights)
    return [row.scored(values) for row, values in zip(rows, found, strict=True)]


def _message(comparison: Comparison, checked: Checked) -> str:
    engine, tolerance = engine_for(checked.reference.root).name, comparison.tolerance
    model = f"{checked.kind} {key(checked)[:16]} ({checked.reference.label})"
    if comparison.is_other_reference:
        return (
            f"{model} cannot be evaluated: {engine} computes its reference otherwise than the training. "
            f"The log-probabilities of training rows differ by {comparison.rounding:.2g} nats (root mean "
            f"square; more than {MOST_ROUNDING} is not rounding); use another model or another engine"
        )
    share = round(comparison.share, 2) + 0.0  # not "-0%"
    if isinstance(checked, ProjectedOut):
        return (
            f"{model}: {engine} does not project the vector out as the model itself does. Its "
            f"log-probabilities show {share:.0%} of the change and differ by {comparison.difference:.2g} "
            f"nats (tolerance {tolerance:.2g}); name a bias of another block (Steering.parameter)"
        )
    if lora_rank(checked):
        what = "the adapter"
        remedy = "train other modules (LoRA.targets), or whole tensors (Recipe.trainable=Everything())"
    else:
        what = "the trained tensors"
        remedy = "compare the tensors' names in the model's artifact with the reference's"
    if comparison.shown <= tolerance:
        cause = f"{engine} serves the untrained reference and ignores {what}"
    else:
        cause = f"{engine} ignores or misplaces a part of {what}"
    return (
        f"{model} is not served as it was trained: {cause}. Its log-probabilities of training rows show "
        f"{share:.0%} of the training's change and differ from the training's by "
        f"{comparison.difference:.2g} nats (root mean square; tolerance {tolerance:.2g}); {remedy}"
    )
