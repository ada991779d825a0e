"""Serving many models with one running vLLM: each request is answered with the weights that it names.

The reference model and its LoRA adapters share batches. Other weights are swapped in one after the other,
each once per call together with the adapters that apply to them, and the reference's weights are always
restored.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.engines.protocol import ModelWeights
from undertow.engines.weight_files import (
    DIRECTION_CONFIG,
    changed_tensors,
    folder_shapes,
    module_of,
    projects_out,
)

ADAPTER = "adapter_config.json"
# vLLM's defaults (decoding text token by token, one object per log-probability, copying the parameters) cost
# a tenth of the throughput.
LEAN: dict[str, Any] = {"detokenize": False, "flat_logprobs": True, "skip_clone": True}


@dataclass(frozen=True)
class ServingJob:
    """One prompt as tokens, vLLM's sampling parameters for it, and the weights to answer with."""

    prompt: list[int]
    params: dict[str, Any]
    weights: ModelWeights | None


class Served:
    """A running `vllm.LLM` that answers for any weights trained from its reference model.

    Args:
        reference: the folder that `llm` was started from.
        tied: names of tensors that are copies of others in this architecture.
        max_lora_rank: the highest adapter rank that `llm` accepts; 0 if it was started without adapters.
        modules: the modules that an adapter may change, as `llm` was started.

    Attributes:
        is_broken: whether loading weights has failed. vLLM then has a part of them, or none, and cannot go
            back to the reference's ("Cannot copy out of meta tensor"): it must be started again.
    """

    def __init__(
        self, llm: Any, reference: str, tied: Sequence[str], max_lora_rank: int, modules: Collection[str]
    ) -> None:
        self.llm, self.reference, self.tied = llm, reference, tied
        self.max_lora_rank, self.modules = max_lora_rank, modules
        self.is_broken = False
        self._adapters: dict[str, Any] = {}
        self._changed: dict[str, list[str]] = {}

    def run(self, jobs: Sequence[ServingJob]) -> list[Any]:
        """vLLM's outputs, in the order of the jobs.

        Raises ValueError for weights that do not fit the reference model or that vLLM cannot serve.
        """
        adapters = {weights: self._adapter(weights) for weights in dict.fromkeys(job.weights for job in jobs)}
        places: dict[ModelWeights | None, list[int]] = {None: []}  # by the weights under the adapters
        for place, job in enumerate(jobs):
            model = job.weights.base if job.weights and adapters[job.weights] else job.weights
            places.setdefault(model, []).append(place)
        outputs: dict[int, Any] = {}
        for model, some in places.items():
            chosen = [jobs[place] for place in some]
            with nullcontext() if model is None else self._swapped_in(model):
                answers = self._batch(chosen, [adapters[job.weights] for job in chosen])
            outputs |= zip(some, answers, strict=True)
        return [outputs[place] for place in range(len(jobs))]

    def _batch(self, jobs: Sequence[ServingJob], adapters: Sequence[Any]) -> list[Any]:
        """vLLM's outputs with the weights that are in memory, each with its adapter or with None."""
        from vllm import SamplingParams

        if not jobs:
            return []
        try:
            outputs: list[Any] = self.llm.generate(
                [{"prompt_token_ids": job.prompt} for job in jobs],
                [SamplingParams(**job.params, **LEAN) for job in jobs],
                lora_request=list(adapters) if any(adapters) else None,
                use_tqdm=False,
            )
        except Exception:
            self._abort()
            raise
        return outputs

    def _abort(self) -> None:
        """Aborts the requests of a failed call; vLLM would otherwise wait for them in every later call."""
        engine = self.llm.llm_engine
        engine.abort_request(list(engine.output_processor.request_states), internal=True)

    def _adapter(self, weights: ModelWeights | None) -> Any:
        """vLLM's request for an adapter; None for others. Raises ValueError for one that does not fit."""
        from vllm.lora.request import LoRARequest

        if weights is None or not (Path(weights.folder) / ADAPTER).is_file():
            return None
        if weights.key not in self._adapters:
            self._check_adapter(weights)
            number = len(self._adapters) + 1  # vLLM identifies adapters by a positive integer
            self._adapters[weights.key] = LoRARequest(weights.key, number, weights.folder)
        return self._adapters[weights.key]

    def _check_adapter(self, weights: ModelWeights) -> None:
        rank = json.loads((Path(weights.folder) / ADAPTER).read_text())["r"]
        if rank > self.max_lora_rank:
            raise ValueError(
                f"{weights.folder}: the adapter has rank {rank} and the engine accepts up to "
                f"{self.max_lora_rank}; start it with max_lora_rank={rank}"
            )
        names = folder_shapes(weights.folder)
        other = next((name for name in names if module_of(name) not in self.modules), None)
        if other is not None:
            raise ValueError(
                f"{weights.folder}: {other!r} changes a module that vLLM applies no adapter to; train other "
                "targets"
            )

    @contextmanager
    def _swapped_in(self, weights: ModelWeights) -> Iterator[None]:
        if projects_out(weights.folder):
            with self._projected_out(weights.folder):
                yield
            return
        if weights.key not in self._changed:
            self._changed[weights.key] = changed_tensors(weights.folders, self.reference, self.tied)
        names = self._changed[weights.key]
        try:
            self._load(weights.folders, names)
            yield
        finally:
            if not self.is_broken:
                self._load([self.reference], names)

    @contextmanager
    def _projected_out(self, folder: str) -> Iterator[None]:
        try:
            if not all(self._change("project_out", folder)):
                raise ValueError(f"{folder}: vLLM's model has no block of this name ({DIRECTION_CONFIG})")
            yield
        finally:
            if not self.is_broken:
                self._change("project_out", "")

    def _load(self, folders: list[str], names: list[str]) -> None:
        if names:
            self._change("load_tensors", folders, names, self.reference)

    def _change(self, method: str, *arguments: Any) -> list[Any]:
        """Calls a method of `Swapping` in every worker; returns the results."""
        try:
            results: list[Any] = self.llm.collective_rpc(method, args=arguments)
            if not self.llm.reset_prefix_cache():  # keys and values of the model before the change
                raise RuntimeError("vLLM still has requests, so that its prefix cache cannot be emptied")
            return results
        except Exception:
            self.is_broken = True
            raise
