"""Disk space and GPU memory that a plan needs, from the sizes of its models, before any is loaded.

Models and memory are lower bounds, so that a sweep is refused only if it cannot succeed: activations, the
engine's cache of keys and values, and CUDA itself are not counted. The size of rows is an upper estimate, as
their lengths are in `workloads`. Nano models and models of providers need neither.

Bytes per number: 2 in bf16 and 4 in fp32. In addition to the weights, DeepSpeed holds for each trained number
its gradient (4), from ZeRO stage 1 on a copy in fp32 (4), and the optimizer's state (AdamW 8). Stage 1
divides copies and states among the workers, stage 2 gradients as well, and stage 3 all weights (arXiv
1910.02054). Offloading keeps gradients, copies and states in CPU memory, and optionally the weights.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from undertow.engines.runtime import GPU_MEMORY
from undertow.errors import StorageError, UserError
from undertow.nano.models import is_nano
from undertow.planning.artifact_kinds import kind_of, units
from undertow.planning.costs import BYTES_PER_PARAMETER, Gpu
from undertow.planning.given_models import config_of, tensors_of
from undertow.planning.model_checks import Shapes, adapted_modules
from undertow.planning.model_files import text_config
from undertow.planning.model_sizes import parameters, vocabulary_size
from undertow.planning.plan import Plan
from undertow.planning.resources import Layout
from undertow.planning.workloads import CHARACTERS_PER_TOKEN, SamplingWork
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.recipe import Everything, LoRA, Parameters, Recipe, Trainable
from undertow.study.references import Artifact, Reference
from undertow.study.students import Student
from undertow.study.teachers import Teacher

GB, MB, GIB, MIB = 1e9, 1e6, 2**30, 2**20
FP32 = 4  # bytes
TOKEN_BYTES = CHARACTERS_PER_TOKEN + 4  # of a row: its text, and the token's number
TOP_BYTES = 8  # of each recorded probability: the token's number, and its logarithm
STATES = {"adamw": 2, "lion": 1, "sgd": 1, "signsgd": 1}  # optimizer states per trained number, with momentum
# GiB of the largest version of each GPU by Ray's name of its type, from NVIDIA's data sheets.
LARGEST: Mapping[str, int] = {
    "V100": 32,
    "T4": 16,
    "A10G": 24,
    "L4": 24,
    "L40S": 48,
    "A100": 80,
    "H100": 94,
    "H200": 141,
}


@dataclass(frozen=True)
class DiskNeed:
    """What the missing artifacts of real models take in the storage, in bytes.

    Attributes:
        models: at least: whole models, adapters, trained tensors.
        checkpoint: the largest checkpoint of a training, which is removed when the training ends.
        rows: at most: completions, data sets and answers.
    """

    models: float
    checkpoint: float
    rows: float


@dataclass(frozen=True)
class MemoryNeed:
    """The memory that one use of a model takes on each of its GPUs, at least.

    Attributes:
        use: "training" or "serving".
        what: the model, and the recipe that trains it.
        available: the fraction of a GPU's memory that this use may fill.
        remedy: settings that lower it.
    """

    use: str
    what: str
    bytes: float
    available: float
    remedy: str


def disk_need(plan: Plan) -> DiskNeed | None:
    """What the plan's missing artifacts take; None without real models or if the size of one is unknown."""
    missing = plan.lacking(Artifact)
    sizes = [_model_bytes(artifact) for artifact in missing if _model_in(artifact) is not None]
    if not sizes or None in sizes:
        return None
    checkpoints = [_checkpoint_bytes(recipe, reference) for recipe, reference in _trainings(missing)]
    return DiskNeed(
        models=math.fsum(filter(None, sizes)),
        checkpoint=max(checkpoints, default=0.0),
        rows=math.fsum(map(_row_bytes, missing)),
    )


def memory_needs(plan: Plan, layout: Layout) -> list[MemoryNeed]:
    """The largest need of the plan's trainings and of its engines; those of unknown sizes are left out."""
    missing = plan.lacking(Artifact)
    trainings = [
        MemoryNeed(
            use="training",
            what=f"{reference.label}, {recipe.name}",
            bytes=training_bytes(recipe, size, trained_numbers(recipe.trainable, reference), layout.workers),
            available=1.0,
            remedy="use LoRA, Recipe.offload, or more --workers with Recipe.zero_stage=3",
        )
        for recipe, reference in _trainings(missing)
        if (size := parameters(reference))
    ]
    kinds = [(kind_of(artifact), artifact) for artifact in missing]
    sampled = [kind.runs_on(a) for kind, a in kinds if isinstance(kind.workload(a), SamplingWork)]
    engines = [
        MemoryNeed(
            use="serving",
            what=reference.label,
            bytes=_served(reference) * size / max(1.0, layout.gpus_per_engine),
            available=GPU_MEMORY * min(1.0, layout.gpus_per_engine),
            remedy="use more --gpus-per-engine",
        )
        for reference in dict.fromkeys(sampled)
        if reference is not None and (size := parameters(reference))
    ]
    return [max(needs, key=lambda need: need.bytes) for needs in (trainings, engines) if needs]


def notes(plan: Plan, store: Store, layout: Layout, gpu: Gpu) -> Iterator[str]:
    """The lines of a plan about disk space and memory, with warnings; none for nano models alone."""
    if disk := disk_need(plan):
        free = store.free_bytes()
        parts = [f"models at least {_gb(disk.models)}", f"rows at most {_gb(disk.rows)}"]
        parts += [f"a checkpoint of {_gb(disk.checkpoint)} during training"] if disk.checkpoint else []
        yield f"Disk: {', '.join(parts)}{'' if free is None else f'; {_gb(free)} are free'}"
        if free is not None and disk.models + disk.checkpoint + disk.rows > free:
            yield f"warning: --storage {store.url} may run out of space; free some, or name another place"
    if needs := memory_needs(plan, layout):
        listed = ", ".join(f"{need.use} {_gib(need.bytes)} ({need.what})" for need in needs)
        yield f"Memory of each GPU, at least: {listed}; {gpu.name} has {gpu.memory} GiB"
        for need in needs:
            if need.bytes > need.available * gpu.memory * GIB:
                yield f"warning: {_too_large(need, gpu.name, gpu.memory)}"
    sizes = {
        host_bytes(recipe, size): f"{reference.label}, {recipe.name}"
        for recipe, reference in _trainings(plan.lacking(Artifact))
        if (size := parameters(reference))
    }
    if sizes:
        largest = max(sizes)
        yield (
            f"Memory of a node for each training worker on it, at least: {_gib(largest)} ({sizes[largest]}; "
            "the model as it is read, and a copy to train)"
        )


def host_bytes(recipe: Recipe, size: float) -> float:
    """The bytes of main memory that a training worker takes at its start, at least.

    It reads the reference model, which stays for the group's next model, and copies it. The copy then moves
    to the GPU unless its parameters are offloaded.

    Args:
        size: the number of the model's parameters.
    """
    return 2 * _precision(recipe) * size


def check_disk(plan: Plan, store: Store) -> None:
    """Raises StorageError if the models that the plan makes do not fit on the storage's disk."""
    need, free = disk_need(plan), store.free_bytes()
    if need and free is not None and need.models > free:
        raise StorageError(
            f"--storage {store.url}: the sweep writes models of at least {_gb(need.models)}, and {_gb(free)} "
            "are free; free some space, name another place, or train LoRA"
        )


def check_memory(plan: Plan, layout: Layout, gpu_types: Collection[str]) -> None:
    """Raises UserError for a model that fits on none of the cluster's GPUs.

    Args:
        gpu_types: Ray's names of their types. If one is unknown, nothing is checked.
    """
    if not gpu_types or not set(gpu_types) <= LARGEST.keys():
        return
    largest = max(gpu_types, key=lambda name: LARGEST[name])
    for need in memory_needs(plan, layout):
        if need.bytes > need.available * LARGEST[largest] * GIB:
            raise UserError(_too_large(need, largest, LARGEST[largest]))


def _too_large(need: MemoryNeed, gpu: str, memory: float) -> str:
    usable = "" if need.available == 1 else f", {_gib(need.available * memory * GIB)} of them for an engine"
    return (
        f"{need.use} {need.what} takes at least {_gib(need.bytes)} on each GPU, and {gpu} has {memory} GiB"
        f"{usable}; {need.remedy}"
    )


def training_bytes(recipe: Recipe, size: float, trained: float, workers: int) -> float:
    """The bytes that training takes on each worker's GPU, at least.

    Args:
        size: the number of the model's parameters, without adapters.
        trained: the number of trained ones, adapters included.
    """
    stage, on_gpu = recipe.used_zero_stage, recipe.offload == "none"
    weights = _precision(recipe) * (size + (trained if isinstance(recipe.trainable, LoRA) else 0))
    return math.fsum(
        (
            0.0 if recipe.offload == "parameters" else weights / (workers if stage >= 3 else 1),
            on_gpu * trained * FP32 / (workers if stage >= 2 else 1),
            on_gpu * trained * _state_bytes(recipe) / (workers if stage >= 1 else 1),
        )
    )


def _state_bytes(recipe: Recipe) -> int:
    """Bytes per trained number of the optimizer's state and of the copy in fp32.

    There is a copy from ZeRO stage 1 on; in stage 3 with fp32 it is the weights themselves.
    """
    has_states = recipe.optimizer in ("adamw", "lion") or recipe.betas[0] > 0
    stage = recipe.used_zero_stage
    has_copy = stage > 0 and not (stage == 3 and recipe.precision == "fp32")
    return FP32 * (STATES[recipe.optimizer] * has_states + has_copy)


def _precision(recipe: Recipe) -> int:
    """Bytes per weight in training and in the files of the trained model."""
    return 2 if recipe.precision == "bf16" else FP32


def _served(reference: Reference) -> int:
    """Bytes per weight in an engine on a GPU."""
    return FP32 if reference.precision == "fp32" else BYTES_PER_PARAMETER


@cache  # thousands of students share a recipe and a reference
def trained_numbers(trainable: Trainable, reference: Reference) -> float:
    """How many numbers are trained, as far as it is known; 0 for a final norm, which is negligible."""
    shapes = _shapes(reference)
    match trainable:
        case Everything():
            return parameters(reference) or 0.0
        case LoRA():
            modules = (shapes[f"{name}.weight"] for name in adapted_modules(trainable, shapes))
            return float(sum(trainable.rank * sum(shape) for shape in modules if shape))
        case Parameters():
            return float(sum(math.prod(shape) for name in trainable.names if (shape := shapes.get(name))))
        case _:
            return 0.0


def _shapes(reference: Reference) -> Shapes:
    """The shapes of a model's tensors or, without its weights, those of a model like Llama of its size."""
    tensors = tensors_of(reference)
    return tensors if tensors and None not in tensors.values() else like_llama(config_of(reference))


def like_llama(whole: Mapping[str, Any]) -> Shapes:
    """The shapes of the linear modules of a model built like Llama, with the sizes of a configuration.

    Empty if the configuration does not state them.
    """
    config = text_config(whole)
    try:
        width, inner, layers, heads = (
            int(config[name])
            for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        )
    except (KeyError, TypeError):
        return {}
    head = int(config.get("head_dim") or width // heads)
    queries, keys = head * heads, head * int(config.get("num_key_value_heads") or heads)
    modules = {
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }
    return {
        f"model.layers.{layer}.{name}.weight": shape
        for layer in range(layers)
        for name, shape in modules.items()
    }


def _recipe(artifact: Artifact) -> Recipe | None:
    """The recipe by which a worker group trains an artifact; None for other artifacts."""
    match artifact:
        case Student(recipe=Recipe() as recipe):
            return recipe
        case Teacher(finetuning=finetuning) if finetuning is not None:
            return finetuning.recipe if isinstance(finetuning.recipe, Recipe) else None
    return None


def _model_in(artifact: Artifact) -> Reference | None:
    """The real model at the root of an artifact that holds weights; None for other artifacts."""
    if isinstance(artifact, Reference):
        found = artifact.root
    elif isinstance(artifact, Student | Teacher) and _recipe(artifact) is not None:
        found = artifact.reference.root
    else:
        return None
    return None if is_nano(found.name) else found


def _trainings(artifacts: Collection[Artifact]) -> dict[tuple[Recipe, Reference], None]:
    """The recipes of artifacts that are trained from real models, each with the model; without repetition."""
    return {
        (recipe, reference): None
        for artifact in artifacts
        if (reference := _model_in(artifact)) is not None and (recipe := _recipe(artifact)) is not None
    }


def _model_bytes(artifact: Artifact) -> float | None:
    """The size of an artifact that holds a real model's weights, at least; None if it is unknown.

    A GGUF file is stored in fp32, a model with zero biases in the precision of its files, taken as bf16.
    """
    reference = _model_in(artifact)
    size = parameters(reference) if reference is not None else None
    if reference is None or size is None:
        return None
    if recipe := _recipe(artifact):
        states = 1 + len(recipe.keep_steps)
        return states * _precision(recipe) * trained_numbers(recipe.trainable, reference)
    merged = _recipe(artifact.student) if isinstance(artifact, Reference) and artifact.student else None
    return size * (_precision(merged) if merged else FP32 if reference.is_gguf else BYTES_PER_PARAMETER)


def _checkpoint_bytes(recipe: Recipe, reference: Reference) -> float:
    """The size of a checkpoint: trained weights and the optimizer's state."""
    return trained_numbers(recipe.trainable, reference) * (_precision(recipe) + _state_bytes(recipe))


def _row_bytes(artifact: Artifact) -> float:
    """The size of sampled texts with their tokens, and of the probabilities recorded with them, at most."""
    if isinstance(artifact, Dataset):
        completions = artifact.completions
        if not isinstance(completions, Completions):
            return 0.0
        return _row_bytes(completions) * artifact.row_limit / completions.prompts
    work = kind_of(artifact).workload(artifact)
    if not isinstance(work, SamplingWork):
        return 0.0
    top = artifact.sampling.top_logprobs if isinstance(artifact, Completions) else 0
    if top < 0 and isinstance(artifact, Completions):
        top = vocabulary_size(artifact.teacher.reference.root) or 0
    return units(artifact) * work.length * (TOKEN_BYTES + TOP_BYTES * top)


def _gb(size: float) -> str:
    return f"{size / GB:,.1f} GB" if size >= GB / 10 else f"{size / MB:,.1f} MB"


def _gib(size: float) -> str:
    return f"{size / GIB:,.1f} GiB" if size >= GIB / 10 else f"{size / MIB:,.1f} MiB"
