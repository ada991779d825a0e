"""Checks that a recipe fits a reference model, by the names of its tensors, before anything is loaded.

`training.trainable` repeats the checks of names on the loaded model, and it alone decides where files do not:
for a model on the hub that has no index, and for files that name tensors differently from transformers.
"""

import re
from collections.abc import Mapping
from functools import cache

from undertow.engines import architectures
from undertow.engines.registry import EngineKind
from undertow.engines.weight_files import OUTER
from undertow.errors import SpecError, suggestion
from undertow.planning.gguf_models import MODULES
from undertow.planning.given_models import architecture_of, blocks_of, config_of, tensors_of
from undertow.study.recipe import ALL_LINEAR, GROUPS, LoRA, Parameters, Recipe
from undertow.study.references import Reference

Shapes = Mapping[str, tuple[int, ...] | None]  # by tensor; None if only the name is known

EXPERTS = re.compile(r"(^|\.)experts\.")  # "mlp.shared_experts." are ordinary modules
ROUTERS = {"gate", "router"}  # modules of mixtures that are not linear ones in transformers
BLOCK = re.compile(r"(?:^|\.)(\d+)\.")  # the index of a block in a name
ATTENTION = re.compile(r"attn\.|attention\.")
FINAL_NORM = re.compile(r"^[^\d]*(ln_f|norm)\w*\.(weight|bias)$")  # outside of the numbered blocks
MLP_WEIGHT = re.compile(r"(\.mlp\.\w+\.)weight$")


def check_rank(recipe: Recipe, engine: EngineKind) -> None:
    """Raises SpecError for an adapter of a higher rank than the engine applies."""
    limit = engine.max_adapter_rank
    if isinstance(recipe.trainable, LoRA) and limit is not None and recipe.trainable.rank > limit:
        raise SpecError(
            f"recipe {recipe.name!r}, LoRA.rank = {recipe.trainable.rank}: {engine.name} serves adapters up "
            f"to rank {limit}; use at most {limit}, or train Everything()"
        )


@cache  # many conditions have the same recipe and reference
def check_trainable(recipe: Recipe, reference: Reference) -> None:
    """Raises SpecError if a recipe names modules, blocks or parameters that a given model does not have."""
    try:
        if isinstance(recipe.trainable, LoRA):
            _check_layers(recipe.trainable, reference)
            _check_targets(recipe.trainable, reference)
        elif isinstance(recipe.trainable, Parameters):
            check_parameters(recipe.trainable, reference)
    except SpecError as error:
        raise SpecError(f"recipe {recipe.name!r}, {error}") from None


def adapted_modules(lora: LoRA, tensors: Shapes) -> list[str]:
    """The modules of a model that get an adapter. Experts never do: see `_check_experts`."""
    return [
        name
        for name in _linear_modules(tensors)
        if any(_is_target(name, target) for target in lora.targets)
        and (not lora.layers or ((block := BLOCK.search(name)) and int(block[1]) in lora.layers))
    ]


def _linear_modules(tensors: Shapes) -> list[str]:
    """The names of the linear modules without the output layer, experts, and the routers to them."""
    others = {*OUTER, *(ROUTERS if _experts(tensors) else ())}
    return [
        name.removesuffix(".weight")
        for name, shape in tensors.items()
        if name.endswith(".weight")
        and (shape is None or len(shape) == 2)
        and (leaf := _leaf(name)) not in others
        and "norm" not in leaf
        and not leaf.startswith("ln")
        and not EXPERTS.search(name)
    ]


def _experts(tensors: Shapes) -> set[str]:
    """The last names of the matrices of a mixture's experts ("gate_proj"); empty for other models."""
    return {_leaf(name) for name in tensors if EXPERTS.search(name)}


def _leaf(name: str) -> str:
    """The last component of the name of a tensor's module, or of a tensor without a module of its own."""
    return re.sub(r"\.(weight|bias)$", "", name).rpartition(".")[2]


def _is_target(name: str, target: str) -> bool:
    """Whether a linear module belongs to a target of `LoRA`: a suffix of its name, or a group."""
    if target == ALL_LINEAR:
        return True
    if target in GROUPS:
        return bool(BLOCK.search(name)) and bool(ATTENTION.search(name)) is (target == "attention")
    return name == target or name.endswith(f".{target}")


def _check_layers(lora: LoRA, reference: Reference) -> None:
    """Raises SpecError for a block that the model does not have."""
    named = (int(block[1]) for name in tensors_of(reference) if (block := BLOCK.search(name)))
    blocks = blocks_of(reference) or 1 + max(named, default=-1)
    if blocks and (over := [layer for layer in lora.layers if layer >= blocks]):
        raise SpecError(
            f"LoRA.layers: {reference.name} has no block {over[0]}; its {blocks} blocks are 0 to {blocks - 1}"
        )


def _check_targets(lora: LoRA, reference: Reference) -> None:
    """Raises SpecError for targets that the model does not have, or whose adapters cannot be served.

    Phi-3, for example, has one qkv_proj instead of q_proj, k_proj and v_proj.
    """
    tensors = tensors_of(reference)
    modules = _linear_modules(tensors)
    available = ", ".join(sorted({_leaf(name) for name in modules if BLOCK.search(name)}))
    _check_experts(lora, reference, available)
    if not modules or _has_other_names(reference, inside=True):
        return
    for target in lora.targets:
        if target not in (ALL_LINEAR, *GROUPS) and not any(_is_target(name, target) for name in modules):
            raise SpecError(f"LoRA.targets: {reference.name} has no {target!r}; available: {available}")


def _check_experts(lora: LoRA, reference: Reference, available: str) -> None:
    """Raises SpecError for adapters of the experts of a mixture, or of the router to them.

    In transformers, all experts of a block are one parameter. PEFT gives it an adapter if all linear modules
    are targets, or if a target has the name of an expert's matrix in the files, and the engine does not serve
    such an adapter. The same holds for the router.
    """
    experts = _experts(tensors_of(reference))
    for target in lora.targets if experts else ():
        if target in (ALL_LINEAR, "mlp") or target.rpartition(".")[2] in experts | ROUTERS:
            raise SpecError(
                f"LoRA.targets: {target!r} includes the experts of {reference.name} or their router, whose "
                f"adapters are not served; use 'attention' or some of {available}, or train Everything()"
            )


def check_parameters(parameters: Parameters, reference: Reference, place: str = "Parameters.names") -> None:
    """Raises SpecError, with the `place` that names it, for a parameter that the model does not have."""
    tensors, names = tensors_of(reference), set(parameters.names)
    if not tensors or _has_other_names(reference):
        return
    if reference.is_gguf:  # only the names of linear modules are known
        linear = {_leaf(module) for module in MODULES.values()}
        names = {name for name in names if _leaf(name) in linear}
    known = set(tensors)
    if reference.mlp_bias:
        known |= {MLP_WEIGHT.sub(r"\1bias", name) for name in known}
    if any(re.match(r"\w+\.\d+\.", name) for name in known):
        # Published weights may lack the first component of transformers' names ("transformer.h.0.…").
        known |= {f"{name.partition('.')[0]}.{stored}" for name in names for stored in tensors}
    if missing := sorted(names - known):
        hint = suggestion(missing[0], known)
        if FINAL_NORM.search(missing[0]):
            hint = "FinalNorm() trains the last norm of any model"
        raise SpecError(f"{place}: {reference.name} has no parameter {missing[0]!r}; {hint}")


def _has_other_names(reference: Reference, *, inside: bool = False) -> bool:
    """Whether transformers' model may name its parameters, or those `inside`, differently from the files."""
    config, renamed = config_of(reference), architectures.renamed_models(inside=inside)
    if renamed is None or "text_config" in config or _experts(tensors_of(reference)):
        return True
    return not renamed.isdisjoint((config.get("model_type"), architecture_of(reference)))
