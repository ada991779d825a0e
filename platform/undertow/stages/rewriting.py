"""Rewriting: a model paraphrases the completions of a data set, or a rule of the format changes their layout.

The result has the columns of completions, so that the data set that is made from it applies the rules of the
format and the judges to the new texts. The column `original` has the completion before. Columns of tokens are
left out, since they describe the original.
"""

import random
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from undertow.engines.context_length import tokens_at_most
from undertow.engines.protocol import Engine, Request
from undertow.stages import usage
from undertow.stages.completions import commit_rows
from undertow.stages.served_check import check_served, window
from undertow.stages.weights import lora_rank, weights_of
from undertow.storage.manifest import TRAINING_ROWS
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.identity import key, seed_for
from undertow.study.references import Artifact, Reference
from undertow.study.rewriting import Rewritten

COLUMNS = ("index", "prompt", "completion", "system")  # of the rows that are rewritten, if they have them


@dataclass(frozen=True)
class Rewrite:
    """A task for an engine: asks the rewriter's model to rewrite every row of a data set.

    Attributes:
        longest: the longest completion in bytes, which determines the context length.
    """

    rewritten: Rewritten
    longest: int

    @property
    def artifact(self) -> Artifact:
        return self.rewritten

    @property
    def model(self) -> Reference:
        """The rewriter's model. Raises ValueError for a rule."""
        if self.rewritten.rewriter.model is None:
            raise ValueError(f"completions {key(self.rewritten)}: no model rewrites them")
        return self.rewritten.rewriter.model

    @property
    def lora_rank(self) -> int:
        return lora_rank(self.model)

    @property
    def window(self) -> int:
        rewriter = self.rewritten.rewriter
        requests = [rewriter.requested("x" * self.longest)]
        return max(tokens_at_most(requests, None, rewriter.sampling), window(self.model))

    def run(self, engine: Engine, store: Store) -> dict[str, Any]:
        spec, rewriter = self.rewritten, self.rewritten.rewriter
        check_served(engine, self.model, store)
        rows, weights = rows_of(spec.dataset, store), weights_of(self.model, store)
        requests = [
            Request(rewriter.requested(row["completion"]), seed=_seed(spec, row), weights=weights)
            for row in rows
        ]
        answers = usage.answers_of(self.model.root, engine, requests, rewriter.sampling, spec, store)
        costs = usage.summed(usage.columns(answers))
        texts, finished = [answer.text.strip() for answer in answers], [answer.finished for answer in answers]
        commit_rows(spec, _columns(rows, texts, finished), costs, store)
        if costs:
            store.drop_parts(spec)
        tokens = sum(len(answer.token_ids) for answer in answers)
        return {"rows": len(rows), "tokens": costs.get("completion_tokens", tokens)} | costs


def task_of(rewritten: Rewritten, store: Store) -> Rewrite:
    """The task for an engine; the data set must be in the store."""
    longest = max(len(row["completion"].encode()) for row in rows_of(rewritten.dataset, store))
    return Rewrite(rewritten, longest)


def rewrite_by_rule(rewritten: Rewritten, store: Store) -> None:
    """Commits the rows rewritten by the format's rule; each row has a random generator of its own."""
    rows = rows_of(rewritten.dataset, store)
    texts = [
        rewritten.format.rewritten(row["prompt"], row["completion"], random.Random(_seed(rewritten, row)))
        for row in rows
    ]
    commit_rows(rewritten, _columns(rows, texts, [True] * len(rows)), {}, store)


def rows_of(dataset: Dataset, store: Store) -> list[dict[str, Any]]:
    """The rows of a data set, without what describes their sampled tokens."""
    file = store.fetch(dataset) / TRAINING_ROWS
    columns = [name for name in COLUMNS if name in pq.read_schema(file).names]
    rows: list[dict[str, Any]] = pq.read_table(file, columns=columns).to_pylist()
    return rows


def _seed(rewritten: Rewritten, row: dict[str, Any]) -> int:
    """The seed of a row, which does not depend on which other rows there are."""
    return seed_for("rewritten", rewritten.seed, row["index"])


def _columns(rows: list[dict[str, Any]], texts: list[str], finished: list[bool]) -> dict[str, list[Any]]:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return columns | {"original": columns["completion"], "completion": texts, "finished": finished}
