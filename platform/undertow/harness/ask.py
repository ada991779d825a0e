"""Runs a pinned task on a model.

Equivalent to the harness's `simple_evaluate` with its seeds, without its report about the machine, which
takes five seconds per task; the manifests of this package record the environment.
"""

import gzip
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lm_eval
import numpy as np
import torch
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.utils import handle_non_serializable

from undertow.errors import ConditionError
from undertow.harness.catalogue import Loaded, Places, definition, load
from undertow.harness.model import Model
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.study.harness_task import HarnessTask

UNFILTERED = "none"  # the harness's name of the filter that changes nothing


@dataclass(frozen=True)
class Answers:
    """The result of a task for one model.

    Attributes:
        scores: by metric: "acc", or "exact_match (strict-match)" if the answers are filtered first.
        errors: the harness's standard errors over documents, for the metrics that have one.
        higher_is_better: by metric; None if the harness does not define it.
        documents: the number of documents.
        results: the unchanged results of the harness, with those of a group's tasks.
        samples: every document with its prompt, answers and score, by task.
    """

    scores: Mapping[str, float]
    errors: Mapping[str, float]
    higher_is_better: Mapping[str, bool | None]
    documents: int
    results: Mapping[str, Any]
    samples: Mapping[str, list[Any]]

    def results_json(self) -> bytes:
        return _json(self.results, indent=1)

    def samples_jsonl_gz(self) -> bytes:
        """One line per document, compressed since prompts are repetitive; equal samples give equal bytes."""
        lines = (
            _json({"task": task, **sample}) for task, samples in self.samples.items() for sample in samples
        )
        return gzip.compress(b"\n".join(lines), mtime=0)  # without mtime the bytes contain the current time


def ask(model: Model, task: HarnessTask, places: Places) -> Answers:
    """Runs a pinned task on a model.

    Raises ConditionError if the task differs from what was pinned, the model cannot run it (see `Model`), or
    the harness returns no finite score.
    """
    found = load(task.name, task.few_shot, places)
    if (lm_eval.__version__, definition(found)) != (task.harness, task.definition):
        raise ConditionError(
            f"{task.name}: this machine's version of the task differs from the planned one; install the same "
            "harness and the same task files and data on all machines"
        )
    _seed(found)
    # The harness treats "" (no system text at all) like None (the template's default); `Model` does not.
    model.system = NO_SYSTEM if task.system == NO_SYSTEM else None
    results = lm_eval.evaluate(
        lm=model,
        task_dict=found.whole,
        limit=task.limit,
        system_instruction=task.system,
        apply_chat_template=task.chat,
        fewshot_as_multiturn=True,
    )
    samples = results.pop("samples")
    scores, errors = _scores_and_errors(task.name, results["results"][task.name])
    better = results["higher_is_better"].get(task.name, {})
    return Answers(
        scores=scores,
        errors=errors,
        higher_is_better={metric: better.get(metric.split(" (")[0]) for metric in scores},
        documents=int(results["results"][task.name]["sample_len"]),
        results=results,
        samples=samples,
    )


def _seed(found: Loaded) -> None:
    """Sets the seeds as `simple_evaluate` does; equal seeds give every model the same few-shot examples."""
    for task in found.tasks.values():
        task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    torch.manual_seed(DEFAULT_OTHER_SEED)


def _scores_and_errors(name: str, result: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """The scores and the finite standard errors of a task, by metric.

    The harness's keys are "acc,none" and "acc_stderr,none", or "exact_match,strict-match" with a filter.
    """
    scores, errors = dict[str, float](), dict[str, float]()
    for key, value in result.items():
        if "," not in key or not isinstance(value, int | float | np.number):
            continue
        metric, _, answer_filter = key.partition(",")
        name_of_metric = metric.removesuffix("_stderr")
        if answer_filter != UNFILTERED:
            name_of_metric += f" ({answer_filter})"
        (errors if metric.endswith("_stderr") else scores)[name_of_metric] = float(value)
    if not scores:
        raise ConditionError(f"{name}: the harness returns no score")
    for metric, score in scores.items():
        if not math.isfinite(score):
            raise ConditionError(f"{name}: {metric} is {score}, not a finite number")
    return scores, {metric: error for metric, error in errors.items() if math.isfinite(error)}


def _json(value: Any, indent: int | None = None) -> bytes:
    return json.dumps(value, indent=indent, sort_keys=True, default=handle_non_serializable).encode()
