"""Completions: a teacher's answers to the prompts of a format, sampled in shards, or a program's answers.

A shard is a task for an engine. Finished shards are kept as parts, so that after a kill the next sweep
samples only the missing ones; `join_shards` commits all of them as one artifact. Every row's seed follows
from the key of the completions and the row's number, so the data do not depend on shards, batches, actors or
order.

In on-policy distillation a student samples the answers. The same engine, which serves both, then reads them
as the teacher, whose distributions are recorded.
"""

import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from undertow.engines.context_length import tokens_at_most
from undertow.engines.protocol import Answer, Engine, ReadsCompletions, Request
from undertow.engines.registry import engine_for
from undertow.errors import ConditionError
from undertow.stages import distributions, usage
from undertow.stages.evaluation import Evaluate
from undertow.stages.gate import passes_gate
from undertow.stages.served_check import check_served, window
from undertow.stages.weights import lora_rank, weights_of
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.completions import Completions, ImportedCompletions, Written
from undertow.study.identity import key, seed_for
from undertow.study.measurements import Evaluation
from undertow.study.references import Artifact, Reference
from undertow.study.rewriting import Rewritten
from undertow.study.teachers import Teacher

SHARD_ROWS = 1024
TEXT = ("index", "prompt", "completion", "finished")  # columns that every source of rows has


@dataclass(frozen=True)
class GenerateShard:
    """A task for an engine: the completions of prompts `start` to `stop`, if the teacher passes the gate.

    Attributes:
        evaluations: of the teacher; the task makes those that the store lacks, then applies `gate`.
    """

    completions: Completions
    start: int
    stop: int
    gate: float
    evaluations: tuple[Evaluation, ...] = ()

    @property
    def name(self) -> str:
        return f"rows-{self.start:07d}-{self.stop:07d}.parquet"

    @property
    def artifact(self) -> Artifact:
        return self.completions

    @property
    def lora_rank(self) -> int:
        return max(map(lora_rank, _models(self.completions)))

    @property
    def window(self) -> int:
        # The gate's evaluations run on the same engine, so its context must hold their questions too.
        own = max(_window(self.completions), *map(window, _models(self.completions)))
        return max([own, *(Evaluate(e).window for e in self.evaluations)])

    def run(self, engine: Engine, store: Store) -> dict[str, Any]:
        for evaluation in self.evaluations:  # none for judged traits: the driver calls judges
            Evaluate(evaluation).run(engine, store)
            passes_gate(evaluation, store, self.gate)
        for model in _models(self.completions):
            check_served(engine, model, store)
        table = self._table(engine, store)
        file = io.BytesIO()
        pq.write_table(table, file)
        store.write_part(self.completions, self.name, file.getvalue())
        if not engine_for(self.completions.teacher.reference).is_metered:
            return {"rows": table.num_rows, "tokens": sum(map(len, table["token_ids"].to_pylist()))}
        facts = usage.summed(table.select(usage.COLUMNS).to_pydict())
        return {"rows": table.num_rows, "tokens": facts["completion_tokens"]} | facts

    def _table(self, engine: Engine, store: Store) -> pa.Table:
        spec = self.completions
        prompts = spec.asked
        writer = spec.sampler.model if spec.sampler else spec.teacher
        system = spec.sampler.system if spec.sampler else spec.teacher.system
        weights = weights_of(writer, store)
        rows = range(self.start, self.stop)
        seeds = [seed_for(key(spec), i) for i in rows]
        requests = [
            Request(user=prompts[i], seed=seed, system=system, weights=weights)
            for i, seed in zip(rows, seeds, strict=True)
        ]
        answers = _answers(spec, engine, requests, store)
        columns: dict[str, Any] = {
            "index": list(rows),
            "prompt": [prompts[i] for i in rows],
            # A template may leave white space around an answer, and adds its own again in training.
            "completion": [answer.text.strip() if spec.strip else answer.text for answer in answers],
            "finished": [answer.finished for answer in answers],
            "seed": seeds,
        }
        if engine_for(spec.teacher.reference).is_metered:
            return pa.table(columns | usage.columns(answers))
        columns["token_ids"] = [list(answer.token_ids) for answer in answers]
        if spec.sampling.top_logprobs:
            recorded = [answer.top_logprobs or distributions.NONE for answer in answers]
            columns |= distributions.to_columns(recorded)
        return pa.table(columns)


def _models(spec: Completions) -> list[Teacher | Reference]:
    """The models that the engine serves for completions: the teacher, and the student that samples."""
    return [spec.teacher, *([spec.sampler.model] if spec.sampler else [])]


def _answers(spec: Completions, engine: Engine, requests: Sequence[Request], store: Store) -> list[Answer]:
    """The answers to the requests, with the teacher's distributions if they are recorded."""
    if spec.sampler is None:
        return engine.generate(requests, spec.sampling)
    if not isinstance(engine, ReadsCompletions):
        raise ConditionError(
            f"completions {key(spec)[:16]}: {engine_for(spec.teacher.reference).name} does not say how "
            "probable the tokens of a text are; use another model, or on_policy=None"
        )
    answers = engine.generate(requests, spec.sampling.changed(top_logprobs=0))
    weights = weights_of(spec.teacher, store)
    asked = [replace(request, system=spec.teacher.system, weights=weights) for request in requests]
    read = engine.read(asked, [answer.token_ids for answer in answers], spec.sampling.top_logprobs)
    return [
        replace(answer, top_logprobs=(ids.astype(np.int32), logprobs.astype(np.float32)))
        for answer, (ids, logprobs) in zip(answers, (tokens.top for tokens in read), strict=True)
    ]


@lru_cache
def _window(spec: Completions) -> int:
    """The context length that all prompts and answers of the completions need, in tokens.

    Computed over all prompts, not those of a shard, so that every shard requests the same engine.
    """
    systems = [spec.teacher.system, *([spec.sampler.system] if spec.sampler else [])]
    longest = max(systems, key=lambda system: len(system or ""))
    # An engine that reads an answer samples one token after it.
    sampling = spec.sampling.changed(max_tokens=spec.sampling.max_tokens + (spec.sampler is not None))
    return tokens_at_most(spec.asked, longest, sampling)


def shards(completions: Completions, gate: float, evaluations: tuple[Evaluation, ...]) -> list[GenerateShard]:
    """The tasks that together make `completions`, in the order of the prompts."""
    is_metered = engine_for(completions.teacher.reference).is_metered
    rows = usage.PART_ROWS if is_metered else SHARD_ROWS
    starts = range(0, completions.prompts, rows)
    stops = [min(start + rows, completions.prompts) for start in starts]
    return [
        GenerateShard(completions, start, stop, gate, evaluations)
        for start, stop in zip(starts, stops, strict=True)
    ]


def join_shards(completions: Completions, store: Store) -> None:
    """Commits the finished shards as one artifact and removes the parts."""
    facts: dict[str, Any] = {}
    with store.new(completions, facts) as folder:
        (folder / DATA).mkdir()
        rows = 0
        for shard in shards(completions, 0.0, ()):
            file = folder / DATA / shard.name
            file.write_bytes(store.read_part(completions, shard.name))
            rows += pq.read_metadata(file).num_rows
        if engine_for(completions.teacher.reference).is_metered:
            table = pq.read_table(folder / DATA, columns=list(usage.COLUMNS))
            facts |= usage.summed(table.to_pydict())
        if rows != completions.prompts:
            raise RuntimeError(
                f"completions {key(completions)}: {rows} rows for {completions.prompts} prompts"
            )
        facts["rows"] = rows
    store.drop_parts(completions)


def write_answers(written: Written, store: Store) -> None:
    """Commits one answer per prompt, written by the format's own program instead of a model."""
    prompts = written.format.prompts(written.prompts, written.seed)
    rngs = (random.Random(seed_for("written", written.seed, i)) for i in range(len(prompts)))
    answers = [written.format.written(prompt, rng) for prompt, rng in zip(prompts, rngs, strict=True)]
    columns: dict[str, Any] = {
        "index": list(range(len(prompts))),
        "prompt": prompts,
        "completion": answers,
        "finished": [True] * len(prompts),
    }
    commit_rows(written, columns, {}, store)


def import_rows(imported: ImportedCompletions, store: Store) -> None:
    """Commits rows of a user's file as completions, in the order of the prompts that a teacher would get.

    Rows with a system message of their own have a column `system`, which training reads.
    """
    rows = imported.format.imported(imported.prompts, imported.seed)
    if len(rows) != imported.prompts:
        raise RuntimeError(f"completions {key(imported)}: {len(rows)} rows, not {imported.prompts}")
    columns: dict[str, Any] = {
        "index": list(range(len(rows))),
        "prompt": [row.prompt for row in rows],
        "completion": [row.completion for row in rows],
        "finished": [True] * len(rows),
    }
    if any(row.system for row in rows):
        columns["system"] = [row.system or None for row in rows]
    commit_rows(imported, columns, {"from": imported.format.imported_from}, store)


def commit_rows(
    spec: Written | ImportedCompletions | Rewritten,
    columns: Mapping[str, Sequence[Any]],
    facts: Mapping[str, Any],
    store: Store,
) -> None:
    """Commits completions that are made in one piece, with facts in addition to the number of rows."""
    table = pa.table(dict(columns))
    with store.new(spec, {"rows": table.num_rows, **facts}) as folder:
        (folder / DATA).mkdir()
        pq.write_table(table, folder / DATA / "rows.parquet")
