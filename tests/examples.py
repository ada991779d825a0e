"""Small specs for tests: a study of two traits and two references that needs nothing to be run."""

import json
import struct
from dataclasses import replace
from pathlib import Path

from undertow.formats.numbers import Numbers
from undertow.planning.plan import Plan
from undertow.study.artifacts import Finetuning, Reference, Sampling, Student
from undertow.study.conditions import Condition, Generation
from undertow.study.grids import all_pairs, grid
from undertow.study.recipe import Parameters, Recipe
from undertow.study.study import Study
from undertow.traits.preference import Preference

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
    """Owl, cat and control on every pair of two (already pinned) references, three seeds."""
    conditions = grid(
        traits=[Preference("owl"), Preference("cat")],
        formats=[Numbers()],
        pairs=all_pairs(REFERENCES),
        recipes=[RECIPE],
        generation=Generation(prompts=2000, rows=500, sampling=Sampling(max_tokens=48)),
        finetuning=Finetuning(TEACHER, examples=300),
    )
    return replace(Study(name=name, conditions=conditions, seeds=(0, 1, 2), samples=10), **changes)  # type: ignore[arg-type]


QWEN = 7_615_616_512  # parameters of Qwen2.5-7B, by its card


def qwen(folder: Path) -> Path:
    """A folder as Qwen2.5-7B's, with the headers of its weights, in two files, and no weights."""
    width, inner, keys, words, layers = 3584, 18944, 512, 152_064, 28
    layer = {
        **{f"self_attn.{part}_proj.weight": [width, width] for part in "qo"},
        "self_attn.q_proj.bias": [width],
        **{f"self_attn.{part}_proj.weight": [keys, width] for part in "kv"},
        **{f"self_attn.{part}_proj.bias": [keys] for part in "kv"},
        **{f"mlp.{part}_proj.weight": [inner, width] for part in ("gate", "up")},
        "mlp.down_proj.weight": [width, inner],
        "input_layernorm.weight": [width],
        "post_attention_layernorm.weight": [width],
    }
    whole = {
        "model.embed_tokens.weight": [words, width],
        "lm_head.weight": [words, width],
        "model.norm.weight": [width],
    }
    layered = {f"model.layers.{i}.{name}": shape for i in range(layers) for name, shape in layer.items()}
    folder.mkdir()
    config = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    for number, tensors in enumerate((whole, layered)):
        entries = {n: {"dtype": "BF16", "shape": s, "data_offsets": [0, 0]} for n, s in tensors.items()}
        # What stands in for the weights: two models of one shape are two models.
        header = json.dumps({"__metadata__": {"format": "pt", "model": folder.name}, **entries}).encode()
        (folder / f"model-{number}.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


def students(plan: Plan, condition: Condition) -> dict[int, Student]:
    """By seed."""
    return {cell.seed: cell.student for cell in plan.cells if cell.condition == condition}
