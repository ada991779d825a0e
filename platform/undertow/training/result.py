"""The reference model that jobs start from, and checking and saving of trained models.

The reference stays unchanged on the CPU, and each job trains a copy of it. Nothing can leak from one student
into the next, whatever a ZeRO stage does to parameters. A result that cannot be correct (an adapter that is
still zero, a frozen weight that changed, an empty tensor) raises an error and is not saved.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from undertow.engines.tokenizers import load_tokenizer
from undertow.errors import ConditionError
from undertow.study.recipe import FinalNorm, LoRA, Parameters
from undertow.training.deepspeed_engine import gathered
from undertow.training.job import TrainingJob
from undertow.training.saving import copy_processor, load_model, save_model, save_trained_tensors

State = dict[str, Tensor]  # parameter name -> value, on the CPU


@dataclass(frozen=True)
class LoadedReference:
    """A reference model on the CPU, its tokenizer, and the folder of both."""

    model: Any
    tokenizer: Any
    folder: Path

    @staticmethod
    def read(folder: Path, dtype: torch.dtype, changes: Sequence[Path] = ()) -> "LoadedReference":
        """Reads a Hugging Face model folder and trained tensors. Nothing is downloaded."""
        return LoadedReference(load_model(folder, changes, dtype), load_tokenizer(folder), folder)

    def copy(self) -> Any:
        """A copy of the model, to be trained."""
        model = copy.deepcopy(self.model)
        # Otherwise transformers warns about padding without an attention mask; `FullForward` needs none.
        model.config.pad_token_id = None
        return model

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer according to the model's generation settings.

        vLLM stops at each of them. Qwen2.5, Llama 3 and Gemma 3 list several.
        """
        ids = getattr(self.model.generation_config, "eos_token_id", None)
        return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])

    @property
    def positions(self) -> int:
        """The maximum number of tokens of a sequence; 2**31 for a model without a limit."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 2**31)


def check(
    reference: LoadedReference, model: nn.Module, before: State, after: State, job: TrainingJob
) -> None:
    """Raises an error if training changed nothing, broke a weight or changed a frozen one. Collective.

    Args:
        before, after: the trained parameters before and after training.

    Raises:
        ConditionError: training changed nothing, or a weight is not finite: another recipe is needed.
        RuntimeError: a parameter is incomplete, or a frozen one changed: a fault of the program.
    """
    if empty := [
        name for name, value in after.items() if value.numel() == 0 or value.shape != before[name].shape
    ]:
        raise RuntimeError(f"{job.key}: the workers returned an incomplete {empty[0]}")
    if broken := [name for name, value in after.items() if not torch.isfinite(value).all()]:
        raise ConditionError(f"{job.key}: {broken[0]} is not finite after training; lower the learning rate")
    if all(torch.equal(value, before[name].to(value.dtype)) for name, value in after.items()):
        raise ConditionError(f"{job.key}: training changed no weight; raise the learning rate or the epochs")
    # LoRA's B starts at zero: while it is, the adapter has no effect, although A may have changed.
    adapters = [value for name, value in after.items() if "lora_B" in name]
    if isinstance(job.recipe.trainable, LoRA) and not any(value.any() for value in adapters):
        raise ConditionError(
            f"{job.key}: every LoRA B matrix is still zero, so the adapter has no effect; raise the learning "
            "rate or the epochs"
        )
    original = dict(reference.model.named_parameters())
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            # PEFT puts prefixes into the names of the parameters that it wraps, twice if both matrices of
            # experts have adapters.
            plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
            with gathered(parameter) as value:
                if not torch.equal(value.cpu(), original[plain].data.to(value.dtype)):
                    raise RuntimeError(f"{job.key}: the frozen parameter {name} changed in training")


def save(reference: LoadedReference, model: Any, state: State, job: TrainingJob) -> None:
    """Saves the result in the job's folder: an adapter, the trained tensors, or a whole model.

    `Everything` trains a whole model, which is saved with its tokenizer and processor; LoRA gives a PEFT
    adapter, and the other trainables change a few tensors.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    if isinstance(job.recipe.trainable, LoRA):
        # The default, "auto", asks the Hugging Face hub whether the vocabulary was resized.
        model.save_pretrained(job.folder, state_dict=state, save_embedding_layers=False)
        return
    if isinstance(job.recipe.trainable, Parameters | FinalNorm):
        dtypes = dict(reference.model.named_parameters())
        trained = {name: value.to(dtypes[name].dtype) for name, value in state.items()}
        belongs_to = {"reference": job.reference_key, "name": job.reference_name}
        if save_trained_tensors(reference.model, trained, job.folder, belongs_to):
            return
    save_model(reference.model, job.folder, state_dict=_merged(reference.model, state))
    reference.tokenizer.save_pretrained(job.folder)
    copy_processor(reference.folder, job.folder)


def _merged(model: nn.Module, state: State) -> State:
    """The reference's state dict with the trained values; tied weights get them under all their names."""
    # named_parameters lists a tied weight once, under its first name; `state` has the same names.
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    merged = dict(model.state_dict())
    cast = {name: value.to(merged[name].dtype) for name, value in state.items()}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first[id(parameter)] in cast:
            merged[name] = cast[first[id(parameter)]]
    return merged
