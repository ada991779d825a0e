"""The reference that jobs start from, and the finished model: checked, then saved.

The reference stays on the CPU untouched, and each job trains a copy of it; nothing can leak from one
student into the next, whatever the ZeRO stage does to parameters. A result that cannot be right (an
adapter still at zero, a frozen weight that moved, an empty tensor) is refused rather than saved.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from undertow.errors import ConditionError
from undertow.study.recipe import LoRA
from undertow.training.deepspeed_engine import whole
from undertow.training.job import TrainingJob

State = dict[str, Tensor]  # parameter name -> value, on the CPU


@dataclass(frozen=True)
class LoadedReference:
    """The weights everybody starts from, on the CPU, and their tokenizer."""

    model: Any
    tokenizer: Any

    @staticmethod
    def read(folder: Path, dtype: torch.dtype) -> "LoadedReference":
        """Reads a Hugging Face model folder; nothing is fetched."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        return LoadedReference(model, AutoTokenizer.from_pretrained(folder, local_files_only=True))

    def copy(self) -> Any:
        """A model to train."""
        model = copy.deepcopy(self.model)
        model.config.pad_token_id = None  # else transformers warns that padding is not masked; see Whole
        return model

    @property
    def positions(self) -> int:
        """The longest sequence the model takes."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 2**31)


def check(
    reference: LoadedReference, model: nn.Module, before: State, after: State, job: TrainingJob
) -> None:
    """Raises where training changed nothing, broke something or touched what was frozen (a collective)."""
    if empty := [
        name for name, value in after.items() if value.numel() == 0 or value.shape != before[name].shape
    ]:
        raise RuntimeError(f"{job.key}: {empty[0]} came back from its workers incomplete")
    if broken := [name for name, value in after.items() if not torch.isfinite(value).all()]:
        raise ConditionError(f"{job.key}: {broken[0]} is not finite after training; lower the learning rate")
    if all(torch.equal(value, before[name].to(value.dtype)) for name, value in after.items()):
        raise ConditionError(f"{job.key}: training changed no weight; raise the learning rate or the epochs")
    adapters = [value for name, value in after.items() if "lora_B" in name]
    if isinstance(job.recipe.trainable, LoRA) and not any(value.any() for value in adapters):
        raise ConditionError(f"{job.key}: every LoRA B is still zero; the adapter does nothing")
    if moved := _moved(reference.model, model):
        raise RuntimeError(f"{job.key}: the frozen parameter {moved[0]} changed in training")


def _moved(reference: nn.Module, model: nn.Module) -> list[str]:
    """The frozen parameters whose values are not the reference's."""
    original = dict(reference.named_parameters())
    moved = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
            with whole(parameter) as value:
                if not torch.equal(value.cpu(), original[plain].data.to(value.dtype)):
                    moved.append(name)
    return moved


def save(reference: LoadedReference, model: Any, state: State, job: TrainingJob) -> None:
    """Saves a PEFT adapter, or the whole model with its tokenizer, in the job's folder."""
    job.folder.mkdir(parents=True, exist_ok=True)
    if isinstance(job.recipe.trainable, LoRA):
        # "auto" would ask the hub whether the vocabulary has grown
        model.save_pretrained(job.folder, state_dict=state, save_embedding_layers=False)
        return
    reference.model.save_pretrained(job.folder, state_dict=_merged(reference.model, state))
    reference.tokenizer.save_pretrained(job.folder)


def _merged(model: nn.Module, state: State) -> State:
    """The reference's state with the trained values in their places, tied weights under all their names."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    merged = dict(model.state_dict())
    cast = {name: value.to(merged[name].dtype) for name, value in state.items()}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first[id(parameter)] in cast:
            merged[name] = cast[first[id(parameter)]]
    return merged
