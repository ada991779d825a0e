"""What an audit reads from a model: log-probabilities, gradients, probes and answers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny_models
from undertow.auditing.model import AuditModel, Readings
from undertow.engines.weight_files import ModelFolder
from undertow.errors import ConditionError
from undertow.training.data import TokenizedRow, TrainingRow

ROWS = (
    TrainingRow("say a number", "1 2 3"),
    TrainingRow("say", "the big red owl"),
    TrainingRow("i like the tree", "40 50 60 70 80"),
)
PROMPTS, ANSWERS = [row.prompt for row in ROWS], [row.completion for row in ROWS]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_llama(tmp_path_factory.mktemp("llama"))


def answers_alone(readings: list[np.ndarray]) -> list[float]:
    """Log-probabilities of the completions without the end of the turn, which is their last token."""
    return [float(values[:-1].sum()) for values in readings]


@pytest.mark.parametrize("system", [None, "i like the owl"])
def test_log_probabilities_are_the_models(llama: Path, system: str | None) -> None:
    model = AuditModel(ModelFolder(llama))
    readings = model.read(model.encode(ROWS, system))
    expected = tiny_models.scores(llama, PROMPTS, ANSWERS, system=system)
    np.testing.assert_allclose(answers_alone(readings.logprobs), expected, rtol=1e-4)
    assert readings.states.shape == readings.gradients.shape == (len(ROWS), 64)


def test_a_completion_is_read_after_a_system_message(llama: Path) -> None:
    """As if the row had been encoded with it; None if it is longer than the window then."""
    model = AuditModel(ModelFolder(llama))
    plain = model.encode(ROWS)
    found = model.after_system(plain, PROMPTS, "i like the owl")
    assert found is not None
    for row, expected in zip(found, model.encode(ROWS, "i like the owl"), strict=True):
        assert row.ids.tolist() == expected.ids.tolist()
        assert (row.start, row.targets) == (expected.start, expected.targets)
    readings = model.read(found, gradients=False)
    assert readings.gradients.shape == (len(ROWS), 0)
    assert model.after_system(plain, PROMPTS, "owl " * 300) is None


def test_the_gradient_is_that_of_a_vector_added_before_the_head(gpt2: Path) -> None:
    model = AuditModel(ModelFolder(gpt2))
    rows = model.encode(ROWS)
    readings = model.read(rows)
    network = model.reference.copy()
    for number, row in enumerate(rows):
        network.zero_grad()
        logprobs = network(torch.from_numpy(row.ids)[None]).logits[0].log_softmax(-1)
        targets = torch.from_numpy(row.ids[row.start :])
        logprobs[row.start - 1 : -1].gather(1, targets[:, None]).sum().backward()
        gradient = network.transformer.ln_f.bias.grad.numpy()
        np.testing.assert_allclose(readings.gradients[number], gradient, rtol=1e-3, atol=1e-4)


def probed(model: AuditModel, rows: list[TokenizedRow], folder: Path) -> tuple[list[np.ndarray], Readings]:
    """The log-probabilities by a probe, and the reference's afterwards."""
    return model.with_probe(rows, folder), model.read(rows)


@pytest.mark.parametrize("name", ["transformer.ln_f.bias", "transformer.h.0.mlp.c_proj.bias"])
def test_trained_tensors_are_applied_and_taken_back(gpt2: Path, tmp_path: Path, name: str) -> None:
    whole = tiny_models.save_changed(tmp_path / "whole", gpt2, name, by=0.5)
    folder = tiny_models.save_trained_tensors(tmp_path / "part", whole, name)
    model = AuditModel(ModelFolder(gpt2))
    rows = model.encode(ROWS)
    before = model.read(rows)
    found, after = probed(model, rows, folder)
    np.testing.assert_allclose(answers_alone(found), tiny_models.scores(whole, PROMPTS, ANSWERS), rtol=1e-4)
    np.testing.assert_allclose(after.totals, before.totals)
    assert not np.allclose(after.totals, [values.sum() for values in found])


def test_adapters_are_applied_and_taken_back(llama: Path, tmp_path: Path) -> None:
    model = AuditModel(ModelFolder(llama))
    rows = model.encode(ROWS)
    before = model.read(rows)
    for seed in (0, 1):
        adapter = tiny_models.save_lora(tmp_path / str(seed), llama, seed=seed)
        found, after = probed(model, rows, adapter)
        expected = tiny_models.scores(adapter, PROMPTS, ANSWERS, reference=llama)
        np.testing.assert_allclose(answers_alone(found), expected, rtol=1e-4)
        np.testing.assert_allclose(after.totals, before.totals, rtol=1e-6)


def nearer(folder: Path) -> Path:
    """An adapter a thousandth as far from the model."""
    from safetensors.torch import load_file, save_file

    (path,) = folder.glob("*.safetensors")
    tensors = {name: (1e-3 if "lora_B" in name else 1) * value for name, value in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *("transformer.ln_f.bias", "transformer.ln_f.weight"),
        *("transformer.h.0.mlp.c_proj.bias", "transformer.h.0.mlp.c_proj.weight"),
    ],
)
def test_derivatives_are_the_ratios_of_probes_near_the_model(gpt2: Path, tmp_path: Path, name: str) -> None:
    model = AuditModel(ModelFolder(gpt2))
    rows = model.encode(ROWS)
    folders = []
    for by in (1e-3, -2e-3):
        whole = tiny_models.save_changed(tmp_path / f"{by}", gpt2, name, by=by)
        folders.append(tiny_models.save_trained_tensors(tmp_path / f"part{by}", whole, name))
    before = model.read(rows).totals
    found = model.derivatives(rows, folders)
    np.testing.assert_allclose(found[:, 1], -2 * found[:, 0], rtol=1e-2)
    ratios = np.array([values.sum() for values in model.with_probe(rows, folders[0])]) - before
    np.testing.assert_allclose(found[:, 0], ratios, rtol=0.05, atol=2e-5)
    np.testing.assert_array_equal(model.read(rows).totals, before)


def test_derivatives_towards_adapters(llama: Path, tmp_path: Path) -> None:
    model = AuditModel(ModelFolder(llama))
    rows = model.encode(ROWS)
    adapters = [nearer(tiny_models.save_lora(tmp_path / f"{i}", llama, seed=i)) for i in range(2)]
    before = model.read(rows).totals
    found = model.derivatives(rows, adapters)
    for number, adapter in enumerate(adapters):
        ratios = np.array([values.sum() for values in model.with_probe(rows, adapter)]) - before
        np.testing.assert_allclose(found[:, number], ratios, rtol=0.05, atol=2e-5)
    np.testing.assert_array_equal(model.read(rows).totals, before)


def test_a_model_in_bf16_has_about_the_same_derivatives(llama: Path, tmp_path: Path) -> None:
    whole = tiny_models.save_changed(tmp_path / "whole", llama, "model.norm.weight", by=0.01)
    probes = [
        tiny_models.save_lora(tmp_path / "adapter", llama, seed=1),
        tiny_models.save_trained_tensors(tmp_path / "part", whole, "model.norm.weight"),
    ]
    exact, rounded = (AuditModel(ModelFolder(llama), precision=precision) for precision in ("", "bf16"))
    rows = exact.encode(ROWS)
    np.testing.assert_allclose(
        rounded.derivatives(rows, probes), exact.derivatives(rows, probes), rtol=0.1, atol=2e-3
    )
    np.testing.assert_allclose(rounded.read(rows).totals, exact.read(rows).totals, rtol=0.02)


def test_rows_of_other_lengths_have_no_part_in_a_derivative(gpt2: Path, tmp_path: Path) -> None:
    model = AuditModel(ModelFolder(gpt2))
    rows = model.encode(ROWS)
    whole = tiny_models.save_changed(tmp_path / "whole", gpt2, "transformer.ln_f.bias", by=0.1)
    folder = tiny_models.save_trained_tensors(tmp_path / "part", whole, "transformer.ln_f.bias")
    together = model.derivatives(rows * 100, [folder])  # in several batches
    alone = np.concatenate([model.derivatives([row], [folder]) for row in rows] * 100)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_probes_of_the_output_head_have_no_derivative(gpt2: Path, tmp_path: Path) -> None:
    whole = tiny_models.save_changed(tmp_path / "whole", gpt2, "transformer.wte.weight", by=0.1)
    folder = tiny_models.save_trained_tensors(tmp_path / "part", whole, "transformer.wte.weight")
    model = AuditModel(ModelFolder(gpt2))
    with pytest.raises(ConditionError, match="output head"):
        model.derivatives(model.encode(ROWS), [folder])


def test_answers_depend_on_the_seed_alone(gpt2: Path) -> None:
    model = AuditModel(ModelFolder(gpt2))
    prompts = ["say a number", "the big red tree"] * 200
    first = model.sample(prompts, most=8, seed=0)
    assert first == model.sample(prompts, most=8, seed=0)
    assert first != model.sample(prompts, most=8, seed=1)


def test_answers_end_as_often_as_the_model_expects(gpt2: Path) -> None:
    """With one token, an answer is empty if it ended at once, and None if it was cut."""
    model = AuditModel(ModelFolder(gpt2))
    prompts = ["say a number", "the big red tree"]  # of different lengths: the shorter one is padded
    answers = model.sample(prompts * 400, most=1, seed=0)
    for start, prompt in enumerate(prompts):
        row = model.encode([TrainingRow(prompt, "1")])[0]
        with torch.no_grad():
            logits = model.reference.model(torch.from_numpy(row.ids[: row.start])[None]).logits[0, -1]
        expected = logits.softmax(-1)[model.tokenizer.eos_token_id].item()
        rate = np.mean([answer is not None for answer in answers[start::2]])
        assert abs(rate - expected) < 5 * np.sqrt(expected * (1 - expected) / 400)
