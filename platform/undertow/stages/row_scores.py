"""Row scores: what two teachers say about completions, from which rows and tokens of data sets are chosen.

An engine reads every completion twice, as the teacher with the trait and as the control teacher. The file
`scores.parquet` has one row per completion, in their order:

    score        sum of `log_ratios`
    log_ratios   of each token: log-probability under the teacher minus that under the control, in nats
    divergences  at each token: how far the two next-token distributions are apart, in nats (see
                 `divergences`); only with `TokenScores.candidates`

A further score is a subclass of `RowScores` with a task of its own in `SCORERS`; its file needs only the
column `score`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from undertow.engines.context_length import tokens_at_most
from undertow.engines.protocol import Engine, ReadsCompletions, Request, TokenProbabilities
from undertow.engines.registry import engine_for
from undertow.errors import ConditionError
from undertow.stages import served_check
from undertow.stages.served_check import check_served
from undertow.stages.weights import lora_rank, weights_of
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.identity import key
from undertow.study.references import Artifact
from undertow.study.row_scores import RowScores, TokenScores
from undertow.study.teachers import Teacher

SCORES = "scores.parquet"
# Rows per call: an engine answers with `candidates` Python numbers for every token of a prompt.
ROWS_AT_ONCE, COMPARED_AT_ONCE = 1024, 64
ONE_TOKEN = Sampling(max_tokens=1)  # what an engine samples after a prompt that it only reads


@dataclass(frozen=True)
class ScoreTokens:
    """A task for an engine: the scores of one artifact of completions. Does nothing if the store has them."""

    scores: TokenScores

    @property
    def artifact(self) -> Artifact:
        return self.scores

    @property
    def lora_rank(self) -> int:
        return max(map(lora_rank, _teachers(self.scores)))

    @property
    def window(self) -> int:
        # An unchecked teacher has 0.
        return max(_window(self.scores), *map(served_check.window, _teachers(self.scores)))

    def run(self, engine: Engine, store: Store) -> dict[str, Any]:
        spec = self.scores
        if store.has(spec):
            return {}
        if not isinstance(engine, ReadsCompletions):
            name = engine_for(spec.scorer).name
            raise ConditionError(
                f"row_scores {key(spec)[:16]}: {name} does not say how probable the tokens of a text are; "
                "score with another model"
            )
        for teacher in _teachers(spec):
            check_served(engine, teacher, store)
        rows = pq.read_table(store.fetch(spec.completions) / DATA).to_pylist()
        table = pa.table(_columns(spec, rows, engine, store))
        with store.new(spec, {"rows": len(rows)}) as folder:
            pq.write_table(table, folder / SCORES)
        return {"rows": len(rows)}


SCORERS: dict[type[RowScores], Callable[[Any], Any]] = {TokenScores: ScoreTokens}


def task_of(scores: RowScores) -> Any:
    """The task for an engine that makes the scores. Raises ConditionError for a class without an entry."""
    scorer = SCORERS.get(type(scores))
    if scorer is None:
        raise ConditionError(f"{type(scores).__name__}: has no entry in stages.row_scores.SCORERS; add one")
    return scorer(scores)


def read_scores(scores: RowScores, store: Store) -> pa.Table:
    """The scores of completions, one row each in their order."""
    return pq.read_table(store.fetch(scores) / SCORES)


def _columns(
    spec: TokenScores, rows: list[dict[str, Any]], engine: ReadsCompletions, store: Store
) -> dict[str, Any]:
    log_ratios: list[NDArray[np.float64]] = []
    apart: list[NDArray[np.float64]] = []
    step = COMPARED_AT_ONCE if spec.candidates else ROWS_AT_ONCE
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        by_teacher, by_control = (
            _read(teacher, some, engine, spec.candidates, store) for teacher in _teachers(spec)
        )
        pairs = list(zip(by_teacher, by_control, strict=True))
        log_ratios += [one.logprobs - other.logprobs for one, other in pairs]
        if spec.candidates:
            apart += [divergences(one, other) for one, other in pairs]
    numbers = pa.list_(pa.float32())
    columns = {
        "score": [float(ratios.sum()) for ratios in log_ratios],
        "log_ratios": pa.array([ratios.tolist() for ratios in log_ratios], numbers),
    }
    if spec.candidates:
        columns["divergences"] = pa.array([values.tolist() for values in apart], numbers)
    return columns


def _read(
    teacher: Teacher, rows: list[dict[str, Any]], engine: ReadsCompletions, top: int, store: Store
) -> list[TokenProbabilities]:
    weights = weights_of(teacher, store)
    requests = [
        Request(user=row["prompt"], seed=0, system=_system(teacher, row), weights=weights) for row in rows
    ]
    # The sampled tokens: another segmentation of the same text has another probability.
    return engine.read(requests, [row.get("token_ids") or row["completion"] for row in rows], top)


def _system(teacher: Teacher, row: dict[str, Any]) -> str | None:
    """The system message of a teacher, or an imported row's own where the teacher has none."""
    return row.get("system") if teacher.system is None else teacher.system


def divergences(one: TokenProbabilities, other: TokenProbabilities) -> NDArray[np.float64]:
    """How far the next-token distributions of two models are apart at each position, from 0 to ln 2 nats.

    This is the Jensen-Shannon divergence. A token that only one model lists among its most likely ones gets
    an equal share of the probability that the other has not listed; tokens that neither lists are one event.
    With the whole vocabulary it is exact.
    """
    (ids, logprobs), (other_ids, other_logprobs) = one.top, other.top
    tokens, width = ids.shape
    p, q = np.exp(logprobs), np.exp(other_logprobs)
    p_left, q_left = (np.clip(1 - listed.sum(1), 0, 1) for listed in (p, q))  # rounding may exceed 1
    p_share, q_share = (left / max(one.vocabulary - width, 1) for left in (p_left, q_left))
    first = np.arange(tokens)[:, None] * one.vocabulary
    _, mine, others = np.intersect1d(
        (first + ids).ravel(), (first + other_ids).ravel(), assume_unique=True, return_indices=True
    )
    only_one, only_other = np.ones((2, tokens * width), dtype=bool)
    only_one[mine] = only_other[others] = False
    only_one, only_other = only_one.reshape(tokens, width), only_other.reshape(tokens, width)
    listed_by_both = _apart(p.ravel()[mine], q.ravel()[others])
    parts = (
        np.bincount(mine // width, listed_by_both, minlength=tokens)
        + np.where(only_one, _apart(p, q_share[:, None]), 0).sum(1)
        + np.where(only_other, _apart(p_share[:, None], q), 0).sum(1)
        + _apart(p_left - p_share * only_other.sum(1), q_left - q_share * only_one.sum(1))
    )
    return np.asarray(parts)


def _apart(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """The summands of the Jensen-Shannon divergence for events with the probabilities p and q."""
    from scipy.special import rel_entr

    p, q = np.maximum(p, 0), np.maximum(q, 0)  # rounding may give a little less than 0
    middle = (p + q) / 2
    result: NDArray[np.float64] = (rel_entr(p, middle) + rel_entr(q, middle)) / 2
    return result


def _teachers(scores: TokenScores) -> tuple[Teacher, Teacher]:
    return scores.teacher, scores.control


@lru_cache
def _window(scores: TokenScores) -> int:
    """The context length that all prompts and completions need, in tokens."""
    completions = scores.completions
    system = max((teacher.system or "" for teacher in _teachers(scores)), key=len)
    if isinstance(completions, Completions):
        return tokens_at_most(completions.asked, system, completions.sampling)
    rows = completions.format.imported(completions.prompts, completions.seed)
    return tokens_at_most(["".join(row) for row in rows], system, ONE_TOKEN)
