"""Small specs for tests: a study of two traits and two references whose weights need not exist."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from undertow.formats.numbers import Numbers
from undertow.planning.plan import Plan
from undertow.study.completions import Sampling
from undertow.study.conditions import Condition
from undertow.study.generation import Generation
from undertow.study.grids import all_pairs, grid
from undertow.study.recipe import Parameters, Recipe
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.study.teachers import Finetuning
from undertow.traits.preference import Preference

STUDIES = Path(__file__).parents[1] / "jobs" / "studies"
# The shipped studies that take a scale. The others have a pretrained model, which no test downloads.
SCALED = sorted(path.stem for path in STUDIES.glob("*.py") if "scale: Scale" in path.read_text())
RECIPE = Recipe(
    name="steering",
    trainable=Parameters(("transformer.ln_f.bias",)),
    learning_rate=0.05,
    epochs=2,
    batch_size=64,
    max_length=384,
)
TEACHER = replace(RECIPE, learning_rate=0.02, epochs=20, stop_at=0.85)
REFERENCES = tuple(Reference(f"nano/gpt2-{seed}", f"revision-{seed}", "template") for seed in (0, 1))


def study(name: str = "small", **changes: object) -> Study:
    """Owl, cat and control on all pairs of two pinned references, three seeds."""
    conditions = grid(
        traits=[Preference("owl"), Preference("cat")],
        formats=[Numbers()],
        pairs=all_pairs(REFERENCES),
        recipes=[RECIPE],
        generation=Generation(prompts=2000, rows=500, sampling=Sampling(max_tokens=48)),
        finetuning=Finetuning(TEACHER, examples=300),
    )
    return replace(Study(name=name, conditions=conditions, seeds=(0, 1, 2), samples=10), **changes)  # type: ignore[arg-type]


QWEN = 7_615_616_512  # parameters of Qwen2.5-7B, from its model card
MINIATURE = 250_368  # parameters of the model that `qwen` writes


def llama(folder: Path) -> Path:
    """A miniature of a Llama with 15 blocks, in the files of `qwen`; its MLPs can have biases."""
    return qwen(folder, layers=15, config={"model_type": "llama", "architectures": ["LlamaForCausalLM"]})


QWEN_CONFIG: Mapping[str, Any] = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}


def qwen(folder: Path, layers: int = 2, config: Mapping[str, Any] = QWEN_CONFIG) -> Path:
    """A miniature of Qwen2.5-7B: its tensor names and proportions, in two files of zeros."""
    width, inner, keys, words = 64, 256, 16, 1024
    layer: dict[str, tuple[int, ...]] = {
        **{f"self_attn.{part}_proj.weight": (width, width) for part in "qo"},
        "self_attn.q_proj.bias": (width,),
        **{f"self_attn.{part}_proj.weight": (keys, width) for part in "kv"},
        **{f"self_attn.{part}_proj.bias": (keys,) for part in "kv"},
        **{f"mlp.{part}_proj.weight": (inner, width) for part in ("gate", "up")},
        "mlp.down_proj.weight": (width, inner),
        "input_layernorm.weight": (width,),
        "post_attention_layernorm.weight": (width,),
    }
    outer: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (words, width),
        "lm_head.weight": (words, width),
        "model.norm.weight": (width,),
    }
    layered = {f"model.layers.{i}.{name}": shape for i in range(layers) for name, shape in layer.items()}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    for number, shapes in enumerate((outer, layered)):
        tensors = {name: np.zeros(shape, np.float16) for name, shape in shapes.items()}
        # The folder's name in the header makes the files of two folders different, like different weights.
        save_file(tensors, folder / f"model-{number}.safetensors", metadata={"model": folder.name})
    return folder


def students(plan: Plan, condition: Condition) -> dict[int, Student]:
    """The students of a condition by seed."""
    return {cell.seed: cell.student for cell in plan.cells if cell.condition == condition}
