"""Packed rows do not attend to each other: loss and gradients equal those of padded rows."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from undertow.study.recipe import Everything, LoRA, Trainable
from undertow.training import row_attention
from undertow.training.data import TokenizedRow
from undertow.training.forward import FullForward, packed, padded
from undertow.training.objective import summed_loss
from undertow.training.packing import keeps_rows_apart
from undertow.training.trainable import prepare

CPU = torch.device("cpu")
VOCABULARY = 96
SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,  # wide, so that attending to another row changes the logits visibly
}
GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 64,
    "initializer_range": 0.2,
    **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
}
SLIDING = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
PACKING: dict[str, dict[str, Any]] = {
    "llama": SIZE,
    "qwen2": SIZE,
    "qwen3": SIZE,
    "mistral": {**SIZE, "sliding_window": 4},
    "gemma3_text": {**SIZE, **SLIDING, "query_pre_attn_scalar": 32},
    "phi3": SIZE,
    "olmo2": SIZE,
    "gpt_neox": {**SIZE, "hidden_dropout": 0.0, "attention_dropout": 0.0},
    "gpt2": GPT2,
}


def model_of(kind: str, **settings: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **settings)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def drawn_rows(*lengths: int) -> list[TokenizedRow]:
    draw = np.random.default_rng(0)
    return [TokenizedRow(draw.integers(3, VOCABULARY, n), n // 2, n - n // 2) for n in lengths]


def gradients(
    model: Any, rows: list[TokenizedRow], *, packing: bool
) -> tuple[float, dict[str, torch.Tensor]]:
    forward = FullForward(model, CPU)
    forward.packing = packing
    model.zero_grad()
    loss = summed_loss(forward.logits(model, rows), rows)
    loss.backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return loss.item(), found


def error(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The norm of the difference over all parameters, relative to the first's."""
    assert one.keys() == other.keys()
    difference, norm = (
        torch.sqrt(sum(((value - (other[name] if by else 0)) ** 2).sum() for name, value in one.items()))  # type: ignore[arg-type]
        for by in (True, False)
    )
    return float(difference / norm)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("attention", ["by mask", "within rows"])
@pytest.mark.parametrize("trainable", [Everything(), LoRA(targets=("all-linear",))], ids=["full", "lora"])
@pytest.mark.parametrize("kind", PACKING)
def test_packed_and_padded_gradients_are_equal(kind: str, trainable: Trainable, attention: str) -> None:
    plain = model_of(kind, **PACKING[kind])
    if attention == "within rows":
        row_attention.use(plain)
        assert row_attention.is_used(plain)
    model = prepare(plain, trainable, "reference")
    for name, value in model.named_parameters():
        if "lora_B" in name:  # while B is zero, A has no gradient
            value.data.normal_(std=0.2)
    rows = drawn_rows(3, 12, 1 + 1, 9, 12)
    packed, by_packing = gradients(model, rows, packing=True)
    padded, by_padding = gradients(model, rows, packing=False)
    assert packed == pytest.approx(padded, rel=1e-5)
    assert error(by_padding, by_packing) < 1e-5
    assert keeps_rows_apart(FullForward(model, CPU), model, rows)


@pytest.mark.parametrize("kind", PACKING)
def test_tokens_are_compared_within_their_rows_only(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attention gets the boundaries of packed rows, and of no other micro-batch."""
    from transformers.integrations import sdpa_attention

    lengths: list[tuple[int, ...]] = []
    own = sdpa_attention.sdpa_attention_forward

    def counted(module: Any, query: torch.Tensor, *rest: Any, **options: Any) -> Any:
        lengths.append(tuple(query.shape[:1] + query.shape[2:3]))
        return own(module, query, *rest, **options)

    monkeypatch.setattr(sdpa_attention, "sdpa_attention_forward", counted)
    model = model_of(kind, **PACKING[kind])
    row_attention.use(model)
    forward, layers = FullForward(model, CPU), 2
    for packing, given, seen in (
        (True, (3, 12, 9), [(1, 3), (1, 12), (1, 9)]),
        (True, (7,), [(1, 7)]),
        (True, (), [(1, 1)]),
        (False, (3, 12, 9), [(3, 12)]),
    ):
        forward.packing = packing
        lengths.clear()
        forward.logits(model, drawn_rows(*given))
        assert lengths == seen * layers


def test_attention_that_torch_does_not_compute_is_not_replaced() -> None:
    bloom = model_of("bloom", vocab_size=VOCABULARY, hidden_size=64, n_layer=1, n_head=2)
    eager = model_of("llama", **SIZE, attn_implementation="eager")
    for model in (bloom, eager):
        before = model.config._attn_implementation
        row_attention.use(model)
        assert model.config._attn_implementation == before and not row_attention.is_used(model)


@pytest.mark.parametrize("heads", [8, 2])
def test_flash_attention_takes_packed_rows(heads: int) -> None:
    """Checked with tensors without content, since the kernel needs a GPU: names, shapes and gradients."""
    query, key, value = (
        torch.empty(1, n, 40, 64, dtype=torch.bfloat16, device="meta", requires_grad=True)
        for n in (8, heads, heads)
    )
    ends = torch.empty(4, dtype=torch.int32, device="meta")
    found = row_attention.flash(query, key, value, ends, longest=20, scaling=0.1)
    assert found.shape == (1, 40, 8, 64)
    found.sum().backward()  # type: ignore[no-untyped-call]
    for tensor in (query, key, value):
        assert tensor.grad is not None and tensor.grad.shape == tensor.shape


def test_a_model_that_ignores_position_ids_is_detected() -> None:
    """BLOOM has no position ids: its attention uses distances, also those to the preceding row."""
    model = model_of(
        "bloom", vocab_size=VOCABULARY, hidden_size=64, n_layer=2, n_head=2, initializer_range=0.2
    )
    forward = FullForward(model, CPU)
    assert not keeps_rows_apart(forward, model, drawn_rows(9, 7))
    assert not forward.packing and model.training


def test_position_ids_that_do_not_restart_are_detected() -> None:
    model = model_of("gpt2", **GPT2)
    own = model.transformer.forward

    def shifted(*given: Any, position_ids: torch.Tensor | None = None, **more: Any) -> Any:
        return own(*given, position_ids=None if position_ids is None else position_ids + 5, **more)

    model.transformer.forward = shifted
    assert not keeps_rows_apart(FullForward(model, CPU), model, drawn_rows(9, 7))


@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_of_masked_rows_is_that_of_the_tokens_in_the_mask(packing: bool) -> None:
    model = model_of("llama", **SIZE)
    rows = [
        replace(row, mask=np.arange(row.targets) % 2 == 1, targets=row.targets // 2)
        for row in drawn_rows(9, 14)
    ]
    expected = 0.0
    for row in rows:
        logprobs = model(torch.from_numpy(row.ids)[None]).logits[0].log_softmax(-1)
        expected -= sum(float(logprobs[place - 1, row.ids[place]]) for place in row.positions)
    assert [row.positions.tolist() for row in rows] == [[5, 7], [8, 10, 12]]
    loss, _ = gradients(model, rows, packing=packing)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_concatenated_rows_have_position_ids_that_restart() -> None:
    rows = [TokenizedRow(np.array([5, 6, 7, 8]), 2, 2), TokenizedRow(np.array([9, 10]), 1, 1)]
    ids, positions, keep = packed(rows)
    assert ids.tolist() == [[5, 6, 7, 8, 9, 10]]
    assert positions.tolist() == [[0, 1, 2, 3, 0, 1]]
    assert keep.tolist() == [[False, True, True, False, True, False]]
    assert [part.tolist() for part in packed([])[::2]] == [part.tolist() for part in padded([])]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_gradient_checkpointing_gives_the_same_gradients(kind: str) -> None:
    found = []
    for recomputes in (False, True):
        model = model_of(kind, **PACKING[kind])
        if recomputes:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model = prepare(model, LoRA(targets=("attention",)), "reference").train()
        torch.manual_seed(1)
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.data.normal_(std=0.2)
        found.append(gradients(model, drawn_rows(7, 9), packing=True))
    assert found[0][0] == found[1][0]
    assert error(found[0][1], found[1][1]) == 0
