"""One loaded model, and what every score reads from it: token log-probabilities, states and gradients.

A pass over the rows gives all three. The state of a token is the input of the output head, and its gradient
that of the token's log-probability with respect to this state, which only needs the head. Probes that change
the last norm alone (steering vectors) reuse the kept inputs of that norm, so that all of them together cost
less than a second pass; other probes cost a pass each.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from undertow.auditing.displacements import Displacement, of_adapter, of_tensors, tapped
from undertow.engines.weight_files import TRAINED_TENSORS, ModelFolder, has_only_trained_tensors
from undertow.errors import ConditionError
from undertow.prompts.chat import prompt_ids, stop_ids
from undertow.statistics.ttests import Array
from undertow.training.data import TokenizedRow, TrainingRow, encode, split_by_tokens
from undertow.training.forward import KEPT_BYTES, FullForward, LastNormForward
from undertow.training.objective import target_logprobs
from undertow.training.result import LoadedReference
from undertow.training.saving import stored_tensors
from undertow.training.trainable import final_norm

BUDGET = 4096  # tokens of a pass, including padding
DERIVATIVE_BUDGET = 2048  # of a pass forwards and backwards, which keeps every activation
SAMPLED = 16_384  # tokens of a batch of answers, prompts included


@dataclass(frozen=True, eq=False)
class Readings:
    """What one pass reads from rows, in their order.

    Attributes:
        logprobs: of each row's completion tokens, in nats.
        states: (rows, width), the mean of the states before the completion's tokens.
        gradients: (rows, width), the sum of the gradients of the tokens' log-probabilities; (rows, 0) if they
            were not requested.
    """

    logprobs: list[Array]
    states: Array
    gradients: Array

    @property
    def totals(self) -> Array:
        """The log-probability of each completion, in nats."""
        return totals(self.logprobs)


def totals(logprobs: Sequence[Array]) -> Array:
    """The sum of each row's token log-probabilities."""
    return np.array([values.sum() for values in logprobs])


class AuditModel:
    """A reference model that scores rows and answers prompts.

    Runs on a GPU in bf16 if there is one, else on `threads` threads of the CPU, in float32 or in the
    `precision` of its engine (`Reference.precision`).
    """

    def __init__(self, files: ModelFolder, threads: int = 1, precision: str = "") -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            torch.set_num_threads(threads)
        dtype = torch.bfloat16 if self.device.type == "cuda" or precision == "bf16" else torch.float32
        self.reference = LoadedReference.read(files.folder, dtype, files.changes)
        self.tokenizer = self.reference.tokenizer
        self._model = self.reference.copy().to(self.device).eval().requires_grad_(False)
        self._model.generation_config = _no_settings()
        self._full = FullForward(self._model, self.device)  # registers its hook before the one below
        self._observed: Tensor | None = None
        self._observing = False
        self._model.get_output_embeddings().register_forward_pre_hook(self._observe)
        self._last: LastNormForward | None = None
        self._kept: dict[TokenizedRow, None] = {}

    def encode(self, rows: Sequence[TrainingRow], system: str | None = None) -> list[TokenizedRow]:
        """Tokenizes rows with a system message, as for training.

        Raises ConditionError for rows that are longer than the model's window.
        """
        positions = self.reference.positions
        return encode(self.tokenizer, rows, system, positions, ends=self.reference.ends)

    def after_system(
        self, rows: Sequence[TokenizedRow], prompts: Sequence[str], system: str
    ) -> list[TokenizedRow] | None:
        """The same completions after the same prompts with a system message.

        None if a row is then longer than the model's window.
        """
        ids = {prompt: prompt_ids(self.tokenizer, prompt, system) for prompt in dict.fromkeys(prompts)}
        longer = [
            TokenizedRow(np.array([*ids[prompt], *row.ids[row.start :]]), len(ids[prompt]), row.targets)
            for row, prompt in zip(rows, prompts, strict=True)
        ]
        return longer if max(len(row.ids) for row in longer) <= self.reference.positions else None

    def read(self, rows: Sequence[TokenizedRow], *, gradients: bool = True) -> Readings:
        """Reads log-probabilities, states and, on request, gradients in one pass.

        Raises ConditionError for an architecture that does not call its output head as a module.
        """
        logprobs: dict[int, Array] = {}
        states: dict[int, Array] = {}
        slopes: dict[int, Array] = dict.fromkeys(range(len(rows)), np.empty(0))
        for part in _parts(rows, BUDGET):
            chosen = [rows[i] for i in part]
            sizes = [row.targets for row in chosen]
            with torch.set_grad_enabled(gradients):
                self._observing = True
                of_targets = target_logprobs(self._full.logits(self._model, chosen), chosen)
                self._observing = False
                observed = self._take_observed()
            for i, own in zip(part, torch.split(of_targets.detach(), sizes), strict=True):
                logprobs[i] = _array(own)
            for i, state in zip(part, torch.split(observed.detach()[0].float(), sizes), strict=True):
                states[i] = _array(state.mean(dim=0))
            if gradients:
                # A token's logits depend on its own state alone: the gradient of the sum has every token's.
                (gradient,) = torch.autograd.grad(of_targets.sum(), observed)
                for i, slope in zip(part, torch.split(gradient[0].float(), sizes), strict=True):
                    slopes[i] = _array(slope.sum(dim=0))
        order = range(len(rows))
        return Readings(
            [logprobs[i] for i in order],
            np.stack([states[i] for i in order]),
            np.stack([slopes[i] for i in order]),
        )

    def derivatives(self, rows: Sequence[TokenizedRow], folders: Sequence[Path]) -> Array:
        """The derivative of each row's log-probability in the direction of each probe, (rows, probes).

        Raises ConditionError for probes of the output head or of experts.
        """
        found = np.empty((len(rows), len(folders)))
        along = [self._displacement(folder) for folder in folders]
        if any(self._model.get_output_embeddings() in one for one in along):
            raise ConditionError("probes that train the output head have no derivative here")
        for part in _parts(rows, DERIVATIVE_BUDGET):
            chosen = [rows[i] for i in part]
            steps = torch.zeros(len(part), len(folders), device=self.device, requires_grad=True)
            with torch.enable_grad(), tapped(along, steps):
                of_targets = target_logprobs(self._full.logits(self._model, chosen), chosen)
            (slopes,) = torch.autograd.grad(of_targets.sum(), steps)
            found[part] = _array(slopes)
        return found

    def _displacement(self, folder: Path) -> Displacement:
        if has_only_trained_tensors(folder):
            return of_tensors(self._model, folder)
        with self._adapter(folder) as adapted:
            return of_adapter(adapted)

    def with_probe(self, rows: Sequence[TokenizedRow], folder: Path) -> list[Array]:
        """The token log-probabilities of rows by the model with a probe's trained tensors or adapter."""
        if not has_only_trained_tensors(folder):
            with self._adapter(folder) as adapted:
                return self._logprobs(rows, self._full, adapted)
        from safetensors.torch import load_file

        tensors, own = load_file(folder / TRAINED_TENSORS), stored_tensors(self._model)
        norm = self._model.get_submodule(final_norm(self._model))
        in_norm = {parameter.data_ptr() for parameter in norm.parameters()}
        only_norm = all(own[name].data_ptr() in in_norm for name in tensors)
        last = self._last_norm(rows, norm) if only_norm else None
        before = {name: own[name].clone() for name in tensors}
        try:
            _copy(own, tensors)
            if last is None:
                return self._logprobs(rows, self._full, self._model)
            return self._logprobs(rows, last, last.module)
        finally:
            _copy(own, before)

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[str], most: int, seed: int, system: str | None = None
    ) -> list[str | None]:
        """One answer per prompt at temperature 1, without white space at its ends; None for one that was cut.

        Args:
            most: the maximum number of tokens of an answer.
        """
        encoded = {prompt: prompt_ids(self.tokenizer, prompt, system) for prompt in dict.fromkeys(prompts)}
        ids = [encoded[prompt] for prompt in prompts]
        ends = {*self.reference.ends, *stop_ids(self.tokenizer), self.tokenizer.eos_token_id} - {None}
        most = max(1, min(most, self.reference.positions - max(map(len, ids))))
        answers: list[str | None] = [None] * len(ids)
        lengths = [len(tokens) + most for tokens in ids]
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            for part in split_by_tokens(lengths, range(len(ids)), SAMPLED):
                for i, sampled in zip(part, self._answers([ids[i] for i in part], most, ends), strict=True):
                    end = next((at for at, token in enumerate(sampled) if token in ends), None)
                    if end is not None:
                        text = self.tokenizer.decode(sampled[:end], skip_special_tokens=True)
                        answers[i] = str(text).strip()
        return answers

    def _answers(self, prompts: Sequence[Sequence[int]], most: int, ends: set[int]) -> list[list[int]]:
        """Sampled tokens; prompts are padded on the left, and answers on the right with an end token."""
        longest, padding = max(map(len, prompts)), min(ends)
        padded = [[padding] * (longest - len(tokens)) + list(tokens) for tokens in prompts]
        mask = [[0] * (longest - len(tokens)) + [1] * len(tokens) for tokens in prompts]
        sampled = self._model.generate(
            input_ids=torch.tensor(padded, device=self.device),
            attention_mask=torch.tensor(mask, device=self.device),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=most,
            eos_token_id=sorted(ends),
            pad_token_id=padding,
        )
        found: list[list[int]] = sampled[:, longest:].tolist()
        return found

    def _observe(self, head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not self._observing:
            return None
        self._observed = inputs[0].detach().requires_grad_(torch.is_grad_enabled())
        return (self._observed, *inputs[1:])

    def _take_observed(self) -> Tensor:
        """The states of the last pass, of shape (1, targets, width)."""
        observed, self._observed = self._observed, None
        if observed is None:
            raise ConditionError(
                f"{type(self._model).__name__} computes its logits without calling its output head as a "
                "module, so that an audit cannot read its states; name a model of another architecture"
            )
        return observed

    @torch.no_grad()
    def _logprobs(self, rows: Sequence[TokenizedRow], forward: Any, module: Any) -> list[Array]:
        found: dict[int, Array] = {}
        for part in _parts(rows, BUDGET):
            chosen = [rows[i] for i in part]
            of_targets = target_logprobs(forward.logits(module, chosen), chosen)
            pieces = torch.split(of_targets, [row.targets for row in chosen])
            found |= {i: _array(own) for i, own in zip(part, pieces, strict=True)}
        return [found[i] for i in range(len(rows))]

    def _last_norm(self, rows: Sequence[TokenizedRow], norm: nn.Module) -> LastNormForward | None:
        """The end of the model with kept inputs for `rows`; None if they are too large or not enough."""
        if self._last is None or any(row not in self._kept for row in rows):
            width = self._model.get_input_embeddings().weight.shape[1]
            if sum(row.targets for row in rows) * width * 4 > KEPT_BYTES:
                return None
            last = LastNormForward(self._full, self._model, norm, self.device)
            kept = last.keep(rows, BUDGET)
            self._model.eval()  # `keep` compares the logits in training mode
            if not kept:
                return None
            self._last, self._kept = last, dict.fromkeys(rows)
        return self._last

    @contextmanager
    def _adapter(self, folder: Path) -> Iterator[Any]:
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a model that had an adapter before
            adapted = PeftModel.from_pretrained(self._model, folder).eval()
        try:
            yield adapted
        finally:
            self._model = adapted.unload()


def _parts(rows: Sequence[TokenizedRow], budget: int) -> Iterator[list[int]]:
    """Batches of row numbers by length."""
    return split_by_tokens([len(row.ids) for row in rows], range(len(rows)), budget)


def _array(values: Tensor) -> Array:
    return values.double().cpu().numpy()


@torch.no_grad()
def _copy(own: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    for name, value in tensors.items():
        own[name].copy_(value)


def _no_settings() -> Any:
    """Generation settings without those of the model, such as a penalty of repetitions."""
    from transformers import GenerationConfig

    return GenerationConfig()
