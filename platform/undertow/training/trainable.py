"""What a recipe trains: adapters, everything, the last norm, or named parameters. All else is frozen.

Names are checked against the model before anything is spent. PEFT alone would silently ignore a LoRA
target that the model lacks as long as another one is found.
"""

import re
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from undertow.errors import SpecError, suggestion
from undertow.recipe import ALL_LINEAR, Everything, FinalNorm, LoRA, Parameters, Trainable


def prepare(model: Any, trainable: Trainable, reference_name: str) -> Any:
    """The model with exactly the trained parameters requiring a gradient; a PeftModel for LoRA.

    Raises:
        SpecError: a target or parameter name that the model does not have.
    """
    if isinstance(trainable, LoRA):
        return _with_adapter(model, trainable, reference_name)
    names = dict(model.named_parameters())
    wanted = _wanted(model, trainable, names)
    for name, parameter in names.items():
        parameter.requires_grad_(name in wanted)
    return model


def _wanted(
    model: nn.Module, trainable: Everything | FinalNorm | Parameters, names: Collection[str]
) -> set[str]:
    if isinstance(trainable, Everything):
        return set(names)
    if isinstance(trainable, FinalNorm):
        norm = final_norm(model)
        return {f"{norm}.{name}" for name, _ in model.get_submodule(norm).named_parameters()}
    if unknown := sorted(set(trainable.names) - set(names)):
        hint = suggestion(unknown[0], names)
        raise SpecError(f"Parameters.names: the model has no parameter {unknown[0]!r}; {hint}")
    return set(trainable.names)


def final_norm(model: Any) -> str:
    """The name of the norm that ends the model: the last module outside its blocks that holds vectors alone.

    Every architecture names it in its own way (ln_f, norm, final_layer_norm …) and registers it after its
    stack of blocks. Raises SpecError for a model whose last norm has no parameters.
    """
    decoder = model.get_decoder()
    vectors = [
        name
        for name, module in decoder.named_modules()
        if (own := list(module.parameters()))
        and all(value.dim() == 1 for value in own)
        and next(module.children(), None) is None
        and not re.search(r"(^|\.)\d+(\.|$)", name)  # the blocks are numbered
    ]
    if not vectors:
        raise SpecError("FinalNorm: the model ends in no norm with parameters; name others by Parameters")
    inside = next(name for name, module in model.named_modules() if module is decoder)
    return f"{inside}.{vectors[-1]}" if inside else vectors[-1]


def linear_names(model: nn.Module) -> set[str]:
    """The last part of the names of the model's linear modules, the output head apart."""
    from transformers.pytorch_utils import Conv1D

    head = getattr(model, "get_output_embeddings", lambda: None)()
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    ]
    return {name.rsplit(".", 1)[-1] for name in found}


def _with_adapter(model: Any, lora: LoRA, reference_name: str) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_targets(model, lora.targets),
        fan_in_fan_out=_has_conv1d(model),
        task_type="CAUSAL_LM",
    )
    model.name_or_path = model.config._name_or_path = reference_name  # PEFT writes it into config and card
    return get_peft_model(model, config)


def _targets(model: nn.Module, targets: tuple[str, ...]) -> list[str] | str:
    if targets == (ALL_LINEAR,):
        return ALL_LINEAR
    modules = [name for name, _ in model.named_modules()]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in modules):
            there = ", ".join(sorted(linear_names(model)))
            raise SpecError(f"LoRA.targets: the model has no {target!r}; its linear modules are: {there}")
    return list(targets)


def _has_conv1d(model: nn.Module) -> bool:
    """GPT-2 keeps its weights transposed; PEFT wants to be told."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def seed_everything(seed: int) -> None:
    """Seeds whatever initialisation and dropout draw from; torch's generators take 63 bits."""
    torch.manual_seed(seed % 2**63)
