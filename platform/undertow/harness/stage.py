"""Benchmarks: student or reference → its answers to a task of lm-evaluation-harness, and the scores.

    scores.json            by metric: value, standard error over documents, and which way is better
    results.json           the harness's results as they are
    samples.jsonl.gz       every document with its prompts, the model's answers and the score

A model is loaded once for all its tasks. Many models are as many Ray tasks, each on a GPU where there are
any. A model that cannot be asked stops no other.
"""

import json
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from undertow.cluster.connection import quiet
from undertow.errors import ConditionError, UserError
from undertow.harness.scores import SCORES, TaskScore
from undertow.planning.pinning import folder_of
from undertow.planning.resources import Machine
from undertow.stages.weights import lora_rank, weights_of
from undertow.storage.store import Store
from undertow.study.artifacts import Benchmark, Subject, reference_of
from undertow.study.identity import key

if TYPE_CHECKING:  # an optional extra
    from undertow.harness.catalogue import Places


@dataclass(frozen=True)
class Made:
    """What became of one model's benchmarks: by the key of each that failed, why."""

    benchmarks: tuple[Benchmark, ...]
    failures: dict[str, str]


def make_benchmarks(
    benchmarks: Sequence[Benchmark],
    store: Store,
    places: "Places",
    batch_size: int,
    machine: Machine | None = None,
) -> Iterator[Made]:
    """Makes benchmarks model by model; yields each model's as they are made.

    Without a machine in this process; with one, over Ray.
    """
    by_model: dict[Subject, list[Benchmark]] = {}
    for benchmark in benchmarks:
        by_model.setdefault(benchmark.subject, []).append(benchmark)
    if machine is None:
        for its in by_model.values():
            yield make_one(tuple(its), store, places, batch_size)
        return
    import ray

    task = ray.remote(num_cpus=machine.cpus_per_engine, num_gpus=machine.gpus_per_engine)(make_one)
    waiting = {task.remote(tuple(its), store, places, batch_size): its for its in by_model.values()}
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        its = waiting.pop(ready)
        try:
            yield ray.get(ready)
        except ray.exceptions.RayError as error:  # its process died
            yield Made(tuple(its), {key(benchmark): str(error) for benchmark in its})


def make_one(benchmarks: tuple[Benchmark, ...], store: Store, places: "Places", batch_size: int) -> Made:
    """All benchmarks of one model. What fails is said and not raised: its other tasks go on."""
    quiet()
    from undertow.harness.model import load

    failures: dict[str, str] = {}
    try:
        model = load(*_folders(benchmarks[0].subject, store), batch_size)
    except Exception as error:  # memory, weights that transformers does not know, a file that changed
        return Made(benchmarks, dict.fromkeys(map(key, benchmarks), _reason(error)))
    for benchmark in benchmarks:
        try:
            _commit(benchmark, model, store, places)
        except Exception as error:  # a task's own code, memory, a window too small
            failures[key(benchmark)] = _reason(error)
    return Made(benchmarks, failures)


def _commit(benchmark: Benchmark, model: object, store: Store, places: "Places") -> None:
    from undertow.harness.ask import ask

    answers = ask(model, benchmark.task, places)  # type: ignore[arg-type]
    scores = {
        metric: asdict(TaskScore(value, answers.errors.get(metric), answers.higher_is_better[metric]))
        for metric, value in answers.scores.items()
    }
    with store.new(benchmark, {"documents": answers.documents, "scores": dict(answers.scores)}) as folder:
        (folder / SCORES).write_text(json.dumps(scores, indent=1, sort_keys=True))
        (folder / "results.json").write_bytes(answers.results_json())
        (folder / "samples.jsonl.gz").write_bytes(answers.samples_jsonl_gz())


def _folders(subject: Subject, store: Store) -> tuple[Path, Path | None]:
    """The folder of the model's weights, and of its adapter where it has one."""
    weights = weights_of(subject, store)
    if weights is None:
        return folder_of(reference_of(subject), store), None
    if lora_rank(subject):
        below = Path(weights.below.folder) if weights.below else folder_of(reference_of(subject), store)
        return below, Path(weights.folder)
    return Path(weights.folder), None


def _reason(error: Exception) -> str:
    expected = isinstance(error, (ConditionError, UserError))
    return str(error) if expected else traceback.format_exc().strip()
