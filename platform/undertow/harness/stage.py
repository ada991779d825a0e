"""Stage: student or reference → benchmark, its answers to a task of lm-evaluation-harness and the scores.

    scores.json            by metric: value, standard error over documents, whether higher is better
    results.json           the unchanged results of the harness
    samples.jsonl.gz       every document with its prompts, the model's answers and the score

Each model is loaded once for all its tasks. Over Ray, each model is one Ray task, with a GPU if the cluster
has any. The failure of one model or task does not stop the others.
"""

import json
import os
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from undertow.cluster.tasks import as_ready
from undertow.engines.quiet import quiet
from undertow.engines.weight_files import ModelFolder, has_only_trained_tensors
from undertow.errors import ConditionError, UserError
from undertow.harness.scores import SCORES, TaskScore
from undertow.planning.given_models import folder_of, is_nano
from undertow.planning.resources import Machine
from undertow.stages.weights import lora_rank, weights_of
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.measurements import Benchmark
from undertow.study.students import Subject, reference_of

if TYPE_CHECKING:  # an optional extra
    from undertow.harness.catalogue import Places


@dataclass(frozen=True)
class ModelBenchmarks:
    """The benchmarks of one model after they were run.

    Attributes:
        failures: the reason of each failure, by the benchmark's key. Unexpected errors have a traceback.
    """

    benchmarks: tuple[Benchmark, ...]
    failures: dict[str, str]

    def failure_lines(self) -> list[str]:
        """One line per failed benchmark: task, model and reason."""
        return [
            f"{benchmark.task.label} of {benchmark.subject.kind} {key(benchmark.subject)[:16]}: {reason}"
            for benchmark in self.benchmarks
            if (reason := self.failures.get(key(benchmark)))
        ]


def needs_ray(benchmarks: Sequence[Benchmark]) -> bool:
    """Whether to run benchmarks over Ray: several models, or a cluster, whose head node may have no GPU."""
    return len({benchmark.subject for benchmark in benchmarks}) > 1 or "RAY_ADDRESS" in os.environ


def make_benchmarks(
    benchmarks: Sequence[Benchmark],
    store: Store,
    places: "Places",
    batch_size: int,
    machine: Machine | None = None,
) -> Iterator[ModelBenchmarks]:
    """Makes benchmarks model by model; yields those of each model when they are finished.

    `machine`: None to run in this process; else the resources of the Ray cluster to run on.
    """
    by_model: dict[Subject, list[Benchmark]] = {}
    for benchmark in benchmarks:
        by_model.setdefault(benchmark.subject, []).append(benchmark)
    if machine is None:
        for of_model in by_model.values():
            yield make_model_benchmarks(tuple(of_model), store, places, batch_size)
        return
    import ray

    machine = machine.for_models(tiny=all(is_nano(reference_of(model)) for model in by_model))
    task = ray.remote(num_cpus=machine.cpus_per_engine, num_gpus=machine.gpus_per_engine)(
        make_model_benchmarks
    )
    waiting = {task.remote(tuple(group), store, places, batch_size): group for group in by_model.values()}
    for of_model, ready in as_ready(waiting):
        try:
            yield ray.get(ready)
        except ray.exceptions.RayError as error:  # the worker process died
            reasons = {key(benchmark): str(error) for benchmark in of_model}
            yield ModelBenchmarks(tuple(of_model), reasons)


def make_model_benchmarks(
    benchmarks: tuple[Benchmark, ...], store: Store, places: "Places", batch_size: int
) -> ModelBenchmarks:
    """Makes all benchmarks of one model. A failed task is recorded, and the other tasks are still run."""
    quiet()
    from undertow.harness.model import load

    failures: dict[str, str] = {}
    try:
        files, adapter = _files(benchmarks[0].subject, store)
        model = load(files.folder, adapter, batch_size, files.changes)
    except Exception as error:  # out of memory, unknown architecture, a changed file
        return ModelBenchmarks(benchmarks, dict.fromkeys(map(key, benchmarks), _reason(error)))
    for benchmark in benchmarks:
        try:
            _commit(benchmark, model, store, places)
        except Exception as error:  # a task's own code, out of memory, a context window that is too small
            failures[key(benchmark)] = _reason(error)
    return ModelBenchmarks(benchmarks, failures)


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


def _files(subject: Subject, store: Store) -> tuple[ModelFolder, Path | None]:
    """The files of the model's weights, and the folder of its adapter if it has one."""
    weights = weights_of(subject, store)
    adapter = Path(weights.folder) if weights and lora_rank(subject) else None
    model = weights.base if weights and adapter else weights
    folders = [Path(folder) for folder in model.folders] if model else []
    if not folders or has_only_trained_tensors(folders[0]):
        folders.insert(0, folder_of(reference_of(subject), store))
    return ModelFolder(folders[0], tuple(folders[1:])), adapter


def _reason(error: Exception) -> str:
    """The message of an expected error; the traceback of any other, which may be a bug."""
    expected = isinstance(error, (ConditionError, UserError))
    return str(error) if expected else traceback.format_exc().strip()
