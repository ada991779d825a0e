"""The parameters that a recipe trains: adapters, all, the last norm, or named ones. All others are frozen.

Names are checked against the model before training. PEFT alone silently ignores a LoRA target that the model
lacks, as long as another target matches.
"""

import re
from collections.abc import Collection
from typing import Any

from torch import nn

from undertow.errors import SpecError, suggestion
from undertow.study.recipe import ALL_LINEAR, GROUPS, Everything, FinalNorm, LoRA, Parameters, Trainable


def prepare(model: Any, trainable: Trainable, reference_name: str) -> Any:
    """The model, with exactly the trained parameters requiring gradients; a PeftModel for LoRA.

    Raises SpecError for a target or parameter name that the model does not have.
    """
    if isinstance(trainable, LoRA):
        return _with_adapter(model, trainable, reference_name)
    names = dict(model.named_parameters())
    trained = _trained_names(model, trainable, names)
    for name, parameter in names.items():
        parameter.requires_grad_(name in trained)
    return model


def _trained_names(
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
    """The name of the model's last norm: the last leaf module outside of its blocks with only vectors.

    Architectures name it differently (ln_f, norm, final_layer_norm …), but all register it after their stack
    of blocks. Raises SpecError for a model whose last norm has no parameters.
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
        raise SpecError(
            "FinalNorm: the model does not end in a norm with parameters; name other ones with Parameters"
        )
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    return f"{prefix}.{vectors[-1]}" if prefix else vectors[-1]


def linear_modules(model: nn.Module, *, elsewhere: bool = False) -> list[str]:
    """Names of the language model's linear modules without the output head; with `elsewhere`, of all others.

    The others belong to the vision and audio encoders of multimodal models: text does not reach them, and so
    no gradient does.
    """
    from transformers.pytorch_utils import Conv1D

    language: Any = model
    inside = set(language.get_decoder().modules())  # of a multimodal model, the decoder is its language part
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D))
        and module is not language.get_output_embeddings()
        and (module in inside) is not elsewhere
    ]


def linear_names(model: nn.Module) -> set[str]:
    """The last name components ("q_proj") of the language model's linear modules without the output head."""
    return {name.rsplit(".", 1)[-1] for name in linear_modules(model)}


def group_names(model: nn.Module, group: str) -> list[str]:
    """Names, relative to a block, of the linear modules of its attention or of its MLP, e.g. "mlp.c_proj".

    Architectures name them differently (q_proj, a fused qkv_proj, query_key_value, c_attn …). Common to all
    are numbered blocks, and an attention module in them whose name contains "attn" or "attention".

    Args:
        group: "attention", or "mlp" for all other linear modules of a block.
    """
    split = [re.split(r"(?:^|\.)\d+\.", name, maxsplit=1) for name in linear_modules(model)]
    names = dict.fromkeys(parts[1] for parts in split if len(parts) > 1)
    is_attention = group == "attention"
    return [name for name in names if bool(re.search(r"attn\.|attention\.", name)) is is_attention]


def _with_adapter(model: Any, lora: LoRA, reference_name: str) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        use_rslora=lora.rank_stabilised,
        lora_dropout=lora.dropout,
        target_modules=_targets(model, lora),
        layers_to_transform=_layers(model, lora.layers),
        exclude_modules=linear_modules(model, elsewhere=True) or None,
        # GPT-2 stores its weights transposed, in Conv1D modules; PEFT needs this flag.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type="CAUSAL_LM",
    )
    # PEFT writes the name into the adapter's config and model card: not this machine's path.
    model.name_or_path = model.config._name_or_path = reference_name
    return get_peft_model(model, config)


def _targets(model: Any, lora: LoRA) -> list[str] | str:
    """PEFT's `target_modules`: "all-linear", or suffixes of module names."""
    if lora.targets == (ALL_LINEAR,):
        # PEFT rejects a string together with `layers_to_transform`.
        return sorted(linear_names(model)) if lora.layers else ALL_LINEAR
    modules = linear_modules(model)
    suffixes: list[str] = []
    for target in lora.targets:
        if target in GROUPS:
            suffixes += group_names(model, target)
        elif any(name == target or name.endswith(f".{target}") for name in modules):
            suffixes.append(target)
        else:
            names = ", ".join(sorted(linear_names(model)))
            raise SpecError(
                f"LoRA.targets: the model has no {target!r} below its output head; its linear modules there "
                f"are: {names}"
            )
    return suffixes


def _layers(model: Any, layers: tuple[int, ...]) -> list[int] | None:
    """PEFT's `layers_to_transform`. Raises SpecError for a block that the model does not have."""
    blocks = model.config.get_text_config().num_hidden_layers
    if over := [layer for layer in layers if layer >= blocks]:
        raise SpecError(
            f"LoRA.layers: the model has no block {over[0]}; its {blocks} blocks are 0 to {blocks - 1}"
        )
    return list(layers) or None
