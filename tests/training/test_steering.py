"""Steering vectors against hidden states that transformers returns, and biases that cannot steer."""

from pathlib import Path

import pytest
import torch

from tests import tiny_models
from undertow.engines.tokenizers import load_tokenizer
from undertow.errors import ConditionError
from undertow.prompts.chat import prompt_ids
from undertow.training.saving import load_model
from undertow.training.steering import MeasuredVector, measure, rows_without

pytestmark = pytest.mark.slow
PROMPTS = ("what is your favourite animal", "i like", "the big red tree")
SYSTEM, NEUTRAL = "owl owl owl", "the tree"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_gpt2(tmp_path_factory.mktemp("gpt2"), layers=2)


def measured(folder: Path, parameter: str, system: str = SYSTEM) -> MeasuredVector:
    return measure(load_model(folder), load_tokenizer(folder), parameter, system, NEUTRAL, PROMPTS)


def test_the_vector_is_the_difference_of_the_mean_hidden_states(gpt2: Path) -> None:
    model, tokenizer = load_model(gpt2).eval(), load_tokenizer(gpt2)
    found = measured(gpt2, "transformer.h.0.mlp.c_proj.bias")
    means = []
    for system in (SYSTEM, NEUTRAL):
        prompts = [torch.tensor([prompt_ids(tokenizer, prompt, system)]) for prompt in PROMPTS]
        with torch.no_grad():  # the first hidden state is the embedding, the second the first block's output
            states = [model(ids, output_hidden_states=True).hidden_states[1][0, -1] for ids in prompts]
        means.append(torch.stack(states).mean(0))
    torch.testing.assert_close(found.difference, means[0] - means[1], atol=1e-5, rtol=1e-4)
    assert found.name == "transformer.h.0.mlp.c_proj.bias"
    torch.testing.assert_close(found.bias, model.get_parameter(found.name).float())


def test_the_last_block_can_be_steered_too(gpt2: Path) -> None:
    assert measured(gpt2, "transformer.h.1.mlp.c_proj.bias").difference.shape == (64,)


def test_the_rows_have_the_log_probabilities_of_both_models(gpt2: Path) -> None:
    found = measured(gpt2, "transformer.h.0.mlp.c_proj.bias")
    model, tokenizer = load_model(gpt2).eval(), load_tokenizer(gpt2)
    assert [row.ids for row in found.rows] == [
        tuple(prompt_ids(tokenizer, prompt, NEUTRAL)) for prompt in PROMPTS
    ]
    for steered in (False, True):
        if steered:
            with torch.no_grad():
                model.get_parameter(found.name).add_(found.difference)
        for row in found.rows:
            ids = torch.tensor(row.ids)
            with torch.no_grad():
                logprobs = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
            expected = logprobs.gather(1, ids[1:, None])[:, 0].tolist()
            assert (row.trained if steered else row.reference) == pytest.approx(expected, abs=1e-4)
            assert row.start == 1


def test_a_direction_is_projected_out_at_every_token(gpt2: Path) -> None:
    """Subtracting it from the hidden states of one block changes the rest of the pass."""
    model, tokenizer = load_model(gpt2).eval(), load_tokenizer(gpt2)
    unit = torch.nn.functional.normalize(torch.arange(64.0), dim=0)
    rows = rows_without(model, tokenizer, "transformer.h.0", unit, SYSTEM, PROMPTS)
    transformer = model.transformer
    for row in rows:
        ids = torch.tensor(row.ids)
        with torch.no_grad():
            hidden = transformer.wte(ids) + transformer.wpe(torch.arange(len(ids)))
            first = transformer.h[0](hidden[None])
            first = first[0] if isinstance(first, tuple) else first
            projected = first - (first @ unit)[..., None] * unit
            assert (projected @ unit).abs().max() < 1e-4
            second = transformer.h[1](projected)
            second = second[0] if isinstance(second, tuple) else second
            logprobs = model.lm_head(transformer.ln_f(second))[0, :-1].log_softmax(-1)
        assert row.trained == pytest.approx(logprobs.gather(1, ids[1:, None])[:, 0].tolist(), abs=1e-4)
        assert row.trained != pytest.approx(row.reference, abs=1e-3)
    assert [row.ids for row in rows] == [tuple(prompt_ids(tokenizer, one, SYSTEM)) for one in PROMPTS]


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("transformer.h.9.mlp.c_proj.bias", "the model has no such bias; did you mean 'transformer.h."),
        ("transformer.ln_f.bias", "the model has no such bias"),
        ("transformer.h.0.attn.c_attn.bias", "it has 192 numbers, and the residual stream has 64"),
        ("transformer.h.0.ln_2.bias", "it is not added to the residual stream"),
    ],
)
def test_a_bias_that_cannot_steer_is_an_error(gpt2: Path, parameter: str, message: str) -> None:
    with pytest.raises(ConditionError, match=f"Steering.parameter = '{parameter}': .*{message}"):
        measured(gpt2, parameter)


def test_system_messages_without_a_difference_are_an_error(gpt2: Path) -> None:
    with pytest.raises(ConditionError, match="both system messages give the same hidden states"):
        measured(gpt2, "transformer.h.0.mlp.c_proj.bias", system=NEUTRAL)
