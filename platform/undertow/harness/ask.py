"""Putting a pinned task to a model, and its scores.

Does what the harness's `simple_evaluate` does, with its seeds, but for its report of the machine (five
seconds a task; our manifests say what ran).
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
from undertow.harness.catalogue import Places, definition, load
from undertow.harness.model import Model
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.study.harness_task import HarnessTask

UNFILTERED = "none"  # the harness's name for answers as they are


@dataclass(frozen=True)
class Answers:
    """What a model came to in a task.

    Attributes:
        scores: by metric: "acc", or "exact_match (strict-match)" where answers are filtered first.
        errors: the harness's standard errors over documents, for those metrics that have one.
        higher_is_better: by metric; None where the harness does not say.
        documents: how many were asked.
        results: the harness's results as they are, those of a group's tasks included.
        samples: every document with prompt, answers and score, by task.
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
        """One line a document; compressed, since prompts repeat themselves. Equal samples, equal bytes."""
        lines = (_json({"task": task, **sample}) for task, its in self.samples.items() for sample in its)
        return gzip.compress(b"\n".join(lines), mtime=0)


def ask(model: Model, task: HarnessTask, places: Places) -> Answers:
    """The model's answers to a pinned task.

    Raises ConditionError where the task is not what was pinned, or the model cannot be asked it.
    """
    found = load(task.name, task.few_shot, places)
    if (lm_eval.__version__, definition(found)) != (task.harness, task.definition):
        raise ConditionError(
            f"{task.name}: here it is not the task that was planned; give all machines the same"
        )
    for one in found.tasks.values():
        one.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)  # every model is shown the same examples
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    torch.manual_seed(DEFAULT_OTHER_SEED)
    model.system = NO_SYSTEM if task.system == NO_SYSTEM else None  # the harness takes "" for the default
    results = lm_eval.evaluate(
        lm=model,
        task_dict=found.whole,
        limit=task.limit,
        system_instruction=task.system,
        apply_chat_template=task.chat,
        fewshot_as_multiturn=True,
    )
    samples = results.pop("samples")
    return _answers(task.name, results, samples)


def _answers(name: str, results: dict[str, Any], samples: dict[str, list[Any]]) -> Answers:
    of_task = results["results"][name]
    numbers = {
        key: float(value)
        for key, value in of_task.items()
        if "," in key and isinstance(value, int | float | np.number)
    }
    scores = {_metric(key): value for key, value in numbers.items() if "_stderr," not in key}
    if not scores:
        raise ConditionError(f"{name}: the harness gives it no score")
    if broken := [metric for metric, value in scores.items() if not math.isfinite(value)]:
        raise ConditionError(f"{name}: {broken[0]} is {scores[broken[0]]}, not a number")
    errors = {
        _metric(key.replace("_stderr,", ",")): value
        for key, value in numbers.items()
        if "_stderr," in key and math.isfinite(value)
    }
    better = results["higher_is_better"].get(name, {})
    return Answers(
        scores=scores,
        errors=errors,
        higher_is_better={metric: better.get(metric.split(" (")[0]) for metric in scores},
        documents=int(of_task["sample_len"]),
        results=results,
        samples=samples,
    )


def _metric(key: str) -> str:
    """ "acc,none" is acc, "exact_match,strict-match" is exact_match (strict-match)."""
    metric, _, filtered = key.partition(",")
    return metric if filtered == UNFILTERED else f"{metric} ({filtered})"


def _json(value: Any, indent: int | None = None) -> bytes:
    return json.dumps(value, indent=indent, sort_keys=True, default=handle_non_serializable).encode()
