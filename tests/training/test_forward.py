"""The two ways to compute logits: through the whole model, and through its last norm and head."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.conftest import ROWS, STEERING, recipe
from undertow.study.recipe import FinalNorm, Parameters, Trainable
from undertow.training.data import encode
from undertow.training.forward import Forward, FullForward, KeptInputs, LastNormForward, choose_forward
from undertow.training.result import LoadedReference
from undertow.training.trainable import prepare

CPU = torch.device("cpu")


def chosen(folder: Path, trainable: Any = STEERING, **changes: Any) -> tuple[Forward, Any, list[Any]]:
    reference = LoadedReference.read(folder, torch.float32)
    rows = encode(reference.tokenizer, ROWS, None, 100)
    model = prepare(reference.copy(), trainable, "")
    return choose_forward(model, recipe(trainable, **changes), rows, 40, CPU, KeptInputs()), model, rows


def test_narrowed_logits_equal_the_models_logits(llama: Path) -> None:
    full, model, rows = chosen(llama, Parameters(("model.embed_tokens.weight",)))
    assert isinstance(full, FullForward)
    logits = full.logits(model, rows[:2])
    expected = model(input_ids=torch.from_numpy(rows[1].ids)[None]).logits[0]
    torch.testing.assert_close(logits[rows[0].targets :], expected[rows[1].start - 1 : -1])


@pytest.mark.parametrize(
    ("architecture", "trainable"),
    [
        ("gpt2", STEERING),
        ("llama", Parameters(("model.norm.weight",))),
        ("gpt2", FinalNorm()),
        ("llama", FinalNorm()),
        ("qwen3", FinalNorm()),
    ],
)
def test_the_last_norm_and_head_give_the_whole_models_logits(
    request: pytest.FixtureRequest, architecture: str, trainable: Trainable
) -> None:
    end, model, rows = chosen(request.getfixturevalue(architecture), trainable)
    assert isinstance(end, LastNormForward)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained
    for parameter in trained:
        parameter.data += torch.randn_like(parameter)
    some = [rows[3], rows[0]]
    torch.testing.assert_close(end.logits(end.module, some), FullForward(model, CPU).logits(model, some))
    assert end.logits(end.module, []).shape[0] == 0


def test_a_job_with_the_rows_of_the_one_before_uses_its_inputs(gpt2: Path) -> None:
    reference, kept = LoadedReference.read(gpt2, torch.float32), KeptInputs()
    rows = encode(reference.tokenizer, ROWS, None, 100)

    def inputs_of(trainable: Trainable, some: list[Any]) -> dict[Any, torch.Tensor]:
        model = prepare(reference.copy(), trainable, "")
        choose_forward(model, recipe(trainable), some, 40, CPU, kept)
        return kept.inputs

    first = inputs_of(STEERING, rows)
    assert inputs_of(FinalNorm(), list(rows)) is first, "the same rows, and the same norm"
    assert inputs_of(STEERING, rows[:2]) is not first
    assert inputs_of(Parameters(("transformer.wpe.weight",)), rows) == {}, "not the last norm"
    again = inputs_of(STEERING, rows)
    assert again is not first
    assert all(torch.equal(again[row], first[row]) for row in rows)


def test_masked_rows_have_logits_only_for_the_tokens_in_the_mask(gpt2: Path) -> None:
    plain, model, rows = chosen(gpt2)
    everything = plain.logits(plain.module, [rows[3]])
    masked = replace(rows[3], mask=np.arange(rows[3].targets) % 2 == 0, targets=(rows[3].targets + 1) // 2)
    end = choose_forward(model, recipe(STEERING), [masked], 40, CPU, KeptInputs())
    assert isinstance(end, LastNormForward)
    torch.testing.assert_close(end.logits(end.module, [masked]), everything[::2])


def test_dropout_an_inner_parameter_or_zero_need_the_whole_model(gpt2: Path, tmp_path: Path) -> None:
    shutil.copytree(gpt2, tmp_path, dirs_exist_ok=True)
    config = json.loads((gpt2 / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "embd_pdrop": 0.1}))
    assert isinstance(chosen(tmp_path)[0], FullForward)
    assert isinstance(chosen(gpt2, Parameters(("transformer.h.0.mlp.c_proj.bias",)))[0], FullForward)
    assert isinstance(
        chosen(gpt2, Parameters(("transformer.ln_f.bias", "transformer.wpe.weight")))[0], FullForward
    )
    assert isinstance(chosen(gpt2, zero_stage=1)[0], FullForward)
