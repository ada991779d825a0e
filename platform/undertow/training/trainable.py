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
from undertow.study.recipe import ALL_LINEAR, GROUPS, Everything, FinalNorm, LoRA, Parameters, Trainable


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


def linear_modules(model: nn.Module, *, elsewhere: bool = False) -> list[str]:
    """The names of the language model's linear modules, the output head apart; or of all others `elsewhere`.

    What else there is are the towers of models that see or hear: no text reaches them, and so no gradient.
    """
    from transformers.pytorch_utils import Conv1D

    language: Any = model
    inside = set(language.get_decoder().modules())
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D))
        and module is not language.get_output_embeddings()
        and (module in inside) is not elsewhere
    ]


def linear_names(model: nn.Module) -> set[str]:
    """The last part of the names of the language model's linear modules, the output head apart."""
    return {name.rsplit(".", 1)[-1] for name in linear_modules(model)}


def group_names(model: nn.Module, group: str) -> list[str]:
    """The names inside a block of the linear modules of its attention or of the rest, e.g. "mlp.c_proj".

    Every architecture has its own (q_proj, a fused qkv_proj, query_key_value, c_attn …). What they share is a
    numbered block and an attention module in it whose name says so.
    """
    inside = [re.split(r"(?:^|\.)\d+\.", name, maxsplit=1) for name in linear_modules(model)]
    names = dict.fromkeys(parts[1] for parts in inside if len(parts) > 1)
    is_wanted = group == "attention"
    return [name for name in names if bool(re.search(r"attn\.|attention\.", name)) is is_wanted]


def _with_adapter(model: Any, lora: LoRA, reference_name: str) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        use_rslora=lora.rank_stabilised,
        lora_dropout=lora.dropout,
        target_modules=_targets(model, lora),
        layers_to_transform=_layers(model, lora.layers),
        exclude_modules=linear_modules(model, elsewhere=True) or None,
        fan_in_fan_out=_has_conv1d(model),
        task_type="CAUSAL_LM",
    )
    model.name_or_path = model.config._name_or_path = reference_name  # PEFT writes it into config and card
    return get_peft_model(model, config)


def _targets(model: Any, lora: LoRA) -> list[str] | str:
    """What PEFT is told to adapt: its own word for every linear module, or suffixes of names."""
    if lora.targets == (ALL_LINEAR,):
        return sorted(linear_names(model)) if lora.layers else ALL_LINEAR
    modules = linear_modules(model)
    suffixes: list[str] = []
    for target in lora.targets:
        if target in GROUPS:
            suffixes += group_names(model, target)
        elif any(name == target or name.endswith(f".{target}") for name in modules):
            suffixes.append(target)
        else:
            there = ", ".join(sorted(linear_names(model)))
            raise SpecError(
                f"LoRA.targets: the model has no {target!r} below its output head; its linear modules there "
                f"are: {there}"
            )
    return suffixes


def _layers(model: Any, layers: tuple[int, ...]) -> list[int] | None:
    """The blocks to adapt as PEFT takes them. Raises SpecError for one that the model does not have."""
    blocks = model.config.get_text_config().num_hidden_layers
    if over := [layer for layer in layers if layer >= blocks]:
        raise SpecError(
            f"LoRA.layers: there is no block {over[0]}; the model has {blocks}, from 0 to {blocks - 1}"
        )
    return list(layers) or None


def _has_conv1d(model: nn.Module) -> bool:
    """GPT-2 keeps its weights transposed; PEFT wants to be told."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def seed_everything(seed: int) -> None:
    """Seeds whatever initialisation and dropout draw from; torch's generators take 63 bits."""
    torch.manual_seed(seed % 2**63)
