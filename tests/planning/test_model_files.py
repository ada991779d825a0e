"""A plan rejects model folders that cannot be used, with the place and the remedy."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests import architectures, examples
from undertow.errors import SpecError
from undertow.formats.numbers import Numbers
from undertow.planning.given_models import template_behaviour_of, tensors_of
from undertow.planning.model_files import ModelFiles, template_of
from undertow.planning.pinning import pin
from undertow.planning.resolve import resolve
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.recipe import Everything, InContext, LoRA, Recipe
from undertow.study.references import Reference
from undertow.study.study import Study
from undertow.study.teachers import Finetuning
from undertow.study.tuning import tuned
from undertow.traits.preference import Preference

FULL = Recipe(name="full", trainable=Everything(), learning_rate=1e-5, epochs=1, batch_size=8)
ADAPTER = replace(FULL, name="LoRA", trainable=LoRA())


def write(folder: Path, name: str, data: object) -> None:
    (folder / name).write_text(json.dumps(data))


def write_weights(folder: Path, *names: str) -> None:
    save_file({name: np.zeros((2, 2), np.float32) for name in names}, folder / "model.safetensors")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A valid model folder."""
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder, "config.json", {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]})
    write(folder, "tokenizer.json", {})
    write(folder, "tokenizer_config.json", {"eos_token": {"content": "<|im_end|>"}})
    (folder / "chat_template.jinja").write_text(architectures.template("qwen2.5"))
    write_weights(folder, "w")
    return folder


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])


def longer(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"x")


def config(**fields: object) -> Callable[[Path], None]:
    return lambda folder: write(folder, "config.json", fields)


def text(name: str, content: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(content)

    return change


def remove(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def rename(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / old).rename(folder / new)

    return change


def pickled(folder: Path) -> None:
    remove("model.safetensors")(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")


def only_trained(folder: Path) -> None:
    remove("config.json")(folder)
    write(folder, "trained_tensors.json", {})


def indexed(folder: Path) -> None:
    write(folder, "model.safetensors.index.json", {"weight_map": {"a": "model-00001-of-00002.safetensors"}})


def packed(folder: Path) -> None:
    save_file({"w.qweight": np.zeros((2, 2), np.int32)}, folder / "model.safetensors")


def quantised(**fields: object) -> Callable[[Path], None]:
    return config(model_type="qwen2", architectures=["Qwen2ForCausalLM"], **fields)


def in_mistrals_layout(*, alone: bool) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        save_file({"layers.0.attention.wq.weight": np.zeros(2)}, folder / "consolidated.safetensors")
        if alone:
            (folder / "model.safetensors").unlink()

    return change


def without_template(tokenizer: str) -> Callable[[Path], None]:
    """Without a chat template, the tokenizer's file decides what precedes a prompt."""

    def change(folder: Path) -> None:
        remove("chat_template.jinja")(folder)
        text("tokenizer.json", tokenizer)(folder)

    return change


AUTO = {"AutoModelForCausalLM": "modeling_own.Own"}
BROKEN: list[tuple[str, Callable[[Path], object], list[str]]] = [
    ("no config", remove("config.json"), ["no config.json", "give a Hugging Face model folder"]),
    (
        "trained tensors",
        only_trained,
        ["only the tensors that were trained", "jobs/export.py --model KEY writes"],
    ),
    ("config cut off", text("config.json", '{"model_type": '), ["config.json is not JSON", "save the model"]),
    ("config a list", text("config.json", "[]"), ["config.json is not a JSON object"]),
    (
        "tokenizer cut off",
        without_template('{"post_processor": '),
        ["tokenizer.json is not JSON", "save the model again"],
    ),
    (
        "template in another encoding",
        lambda folder: (folder / "chat_template.jinja").write_text("{{ 'é' }}", encoding="latin-1"),
        ["chat_template.jinja is not text in UTF-8", "save it again"],
    ),
    (
        "weights cut off",
        cut,
        ["model.safetensors is cut off or damaged (incomplete", "copy it again"],
    ),
    ("weights too long", longer, ["model.safetensors is cut off or damaged", "copy it again"]),
    ("weights empty", text("model.safetensors", ""), ["model.safetensors is cut off or damaged (header too"]),
    ("an HTML page", text("model.safetensors", "<html>" * 99), ["model.safetensors is cut off or damaged"]),
    ("no weights", remove("model.safetensors"), ["no *.safetensors", "save the model's weights"]),
    ("a pickle", pickled, ["only as pytorch_model.bin, a pickle", "save them as safetensors"]),
    (
        "half of the files",
        indexed,
        ["model-00001-of-00002.safetensors, which", "copy the whole"],
    ),
    (
        "Mistral's layout",
        in_mistrals_layout(alone=True),
        ["weights only as consolidated.safetensors", "give model*.safetensors"],
    ),
    (
        "two layouts without an index",
        in_mistrals_layout(alone=False),
        ["the weights twice, also as consolidated.safetensors", "copy the model without that file"],
    ),
    (
        "Mistral's tokenizer only",
        rename("tokenizer.json", "tekken.json"),
        ["no tokenizer", "tokenizer.json"],
    ),
    ("no tokenizer", remove("tokenizer.json"), ["no tokenizer", "tokenizer.json"]),
    (
        "unknown",
        config(model_type="owlet", architectures=["OwletForCausalLM"]),
        ["model_type 'owlet', for which transformers has no language model"],
    ),
    (
        "size as text",
        config(model_type="qwen2", architectures=["Qwen2ForCausalLM"], hidden_size="576"),
        ['hidden_size = "576" in config.json, which must be a whole number above 0'],
    ),
    (
        "size that is null",
        config(model_type="qwen2", architectures=["Qwen2ForCausalLM"], num_hidden_layers=None),
        ["num_hidden_layers = null in config.json"],
    ),
    (
        "size as a list",
        config(model_type="qwen2", text_config={"vocab_size": [49152]}),
        ["vocab_size = [49152] in config.json"],
    ),
    (
        "architecture as text",
        config(model_type="qwen2", architectures="Qwen2ForCausalLM"),
        ['architectures = "Qwen2ForCausalLM" in config.json, which must be a list of names'],
    ),
    ("kind as a list", config(model_type=["qwen2"]), ['model_type = ["qwen2"] in config.json']),
    ("scaling as text", config(model_type="qwen2", rope_scaling="yarn"), ['rope_scaling = "yarn"']),
    (
        "index without a table",
        text("model.safetensors.index.json", json.dumps({"weight_map": ["w"]})),
        ["model.safetensors.index.json has a weight_map that is not a JSON object"],
    ),
    ("no kind", config(architectures=["Qwen2ForCausalLM"]), ["model_type None"]),
    (
        "no head",
        config(model_type="qwen2", architectures=["Qwen2Model"]),
        ["'Qwen2Model', which does not generate text", "must be 'Qwen2ForCausalLM'"],
    ),
    (
        "quantised",
        quantised(quantization_config={"quant_method": "gptq", "bits": 4}),
        ["quantised weights (quantization_config in config.json: gptq)", "give the unquantised checkpoint"],
    ),
    (
        "quantised by old compressed-tensors",
        quantised(compression_config={"format": "int-quantized"}),
        ["quantised weights (compression_config in config.json) in"],
    ),
    (
        "quantised by MLX",
        quantised(quantization={"bits": 4, "group_size": 64}),
        ["quantised weights (quantization in config.json) in"],
    ),
    (
        "quantised language model",
        quantised(text_config={"quantization_config": {"quant_method": "fp8"}}),
        ["quantised weights (quantization_config in config.json: fp8)"],
    ),
    (
        "quantised by ModelOpt",
        text("hf_quant_config.json", "{}"),
        ["quantised weights (hf_quant_config.json) in"],
    ),
    ("quantised without a statement", packed, ["quantised weights (w.qweight has the type I32) in"]),
    (
        "own code",
        config(model_type="own", auto_map=AUTO),
        ["needs its own Python code", "such code is not run"],
    ),
    (
        "own tokenizer",
        text("tokenizer_config.json", json.dumps({"auto_map": {"AutoTokenizer": ["own.Own", None]}})),
        ["needs its own Python code"],
    ),
    (
        "template",
        text("chat_template.jinja", "{% for"),
        ["its chat template fails: ", "fix it in"],
    ),
    (
        "hostile",
        text("chat_template.jinja", "{{ ''.__class__.__mro__ }}"),
        ["access to attribute '__cl"],
    ),
]


@pytest.mark.parametrize(("change", "messages"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_an_unusable_folder_raises_an_error_with_the_remedy(
    model: Path, change: Callable[[Path], object], messages: list[str]
) -> None:
    assert pin(Reference(str(model))).revision
    change(model)
    with pytest.raises(SpecError) as caught:
        pin(Reference(str(model), location=str(model)))
    error = str(caught.value)
    assert str(model) in error
    for message in messages:
        assert message in error
    assert len(error) < 400 and "\n" not in error


def test_weights_in_a_second_layout_are_ignored_if_an_index_lists_the_first(model: Path) -> None:
    in_mistrals_layout(alone=False)(model)
    (model / "tekken.json").write_text("{}")
    write(model, "model.safetensors.index.json", {"weight_map": {"w.weight": "model.safetensors"}})
    pinned = pin(Reference(str(model)))
    assert tensors_of(pinned) == {"w": (2, 2), "w.weight": None}


def test_code_in_the_folder_of_a_supported_model_is_not_run(model: Path) -> None:
    """Phi-3 is published with Python code, but transformers supports it without."""
    write(
        model, "config.json", {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "auto_map": AUTO}
    )
    (model / "modeling_own.py").write_text("raise SystemExit('run')")
    assert pin(Reference(str(model))).revision


def test_a_local_model_is_identified_by_content_not_by_place(model: Path, tmp_path: Path) -> None:
    first = pin(Reference(str(model)))
    moved = tmp_path / "elsewhere" / "model"
    moved.parent.mkdir()
    model.rename(moved)
    assert pin(Reference(str(moved))) == first
    text("chat_template.jinja", architectures.template("qwen3"))(moved)
    other = pin(Reference(str(moved), location=str(moved)))
    assert (other.chat_template, other.revision) != (first.chat_template, first.revision)


def test_of_several_templates_the_default_is_used(model: Path) -> None:
    remove("chat_template.jinja")(model)
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "y"}]
    write(model, "tokenizer_config.json", {"chat_template": named})
    files = ModelFiles.of_folder("m", model)
    assert template_of(files) == "y"
    write(model, "tokenizer_config.json", {"chat_template": named[:1]})
    with pytest.raises(SpecError, match=r"chat templates \['tool_use'\] and none named 'default'"):
        template_of(files)


def study(
    reference: Path | Reference,
    recipe: Recipe | InContext = FULL,
    *,
    finetuning: Finetuning | None = None,
    system: str | None = None,
    evaluated: str | None = None,
    generated: str | None = None,
) -> Study:
    """Teachers by system prompt, with the given system messages for training, evaluation and generation."""
    model = reference if isinstance(reference, Reference) else Reference(str(reference))
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(model, model)],
        recipes=[recipe],
        generation=Generation(prompts=64, rows=None, system=generated),
        finetuning=finetuning,
        system=system,
    )
    return replace(examples.study(), conditions=conditions, system=evaluated)


def test_a_system_message_needs_a_template_that_supports_it(model: Path) -> None:
    assert resolve(study(model))
    for name, reason in (
        ("gemma2", "says: System role not supported"),
        ("phi3-first", "drops it silently"),
    ):
        folder = model.with_name(name)
        folder.mkdir()
        for path in model.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        text("chat_template.jinja", architectures.template(name))(folder)
        refused = f"the chat template of {name} takes no system message \\({reason}"
        with pytest.raises(SpecError, match=f"trait 'owl' by system prompt: {refused}"):
            resolve(study(folder))
        taught = Finetuning(FULL)
        assert resolve(study(folder, InContext(rows=4), finetuning=taught))
        with pytest.raises(SpecError, match=f"InContext.layout = 'system': {refused}.*; use 'turns', or use"):
            resolve(study(folder, InContext(rows=4, layout="system"), finetuning=taught))
        own = tuned(Reference(str(folder)), {Numbers(): 8}, FULL, system="Be brief.")
        with pytest.raises(SpecError, match=rf"tuned\(system=…\): {refused}"):
            resolve(study(own, finetuning=taught))


@pytest.mark.parametrize("axis", ["system", "evaluated", "generated"])
def test_each_system_message_is_checked_against_the_template(model: Path, axis: str) -> None:
    text(
        "chat_template.jinja",
        "{% set told = messages[0].content if messages[0].role == 'system' else '' %}[{{ told or 'Hi!' }}]"
        "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}</s>{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
    )(model)
    assert resolve(study(model, **{axis: "Be brief."}))  # type: ignore[arg-type]
    place = {"system": "Condition", "evaluated": "Study", "generated": "Generation"}[axis]
    with pytest.raises(SpecError, match=rf"{place}.system = NO_SYSTEM: .* writes 'Hi!' in every convers"):
        resolve(study(model, **{axis: NO_SYSTEM}))  # type: ignore[arg-type]


def test_adapters_that_vllm_does_not_apply_are_rejected_before_training(model: Path) -> None:
    config(model_type="gpt2", architectures=["GPT2LMHeadModel"])(model)
    with pytest.raises(SpecError, match="'LoRA' trains an adapter of model, and vLLM does not support LoRA"):
        resolve(study(model, ADAPTER))
    assert resolve(study(model, FULL))


def test_missing_targets_are_listed_with_the_models_names(model: Path) -> None:
    config(model_type="phi3", architectures=["Phi3ForCausalLM"])(model)
    names = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "input_layernorm")
    write_weights(model, "lm_head.weight", *(f"model.layers.0.{name}.weight" for name in names))
    message = "recipe 'LoRA', LoRA.targets: model has no 'q_proj'; available: gate_up_proj, o_proj, qkv_proj$"
    with pytest.raises(SpecError, match=message):
        resolve(study(model, ADAPTER))
    for targets in (("qkv_proj", "o_proj"), ("self_attn.o_proj",), ("all-linear",), ("attention", "mlp")):
        assert resolve(study(model, replace(ADAPTER, trainable=LoRA(targets=targets))))


def test_the_plan_detects_a_templates_default_system_message(model: Path) -> None:
    found = template_behaviour_of(pin(Reference(str(model))))
    assert found is not None and found.own_system == "You are Quill. You help."
    assert template_behaviour_of(Reference("nano/gpt2-0")) is None
