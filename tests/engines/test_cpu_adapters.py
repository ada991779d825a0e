"""Tests of the matrix products of adapters against vLLM's own operations, token by token."""

from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow  # vLLM is imported in the tests

SLOTS, RANK, WIDTH, COLUMNS = 3, 4, 16, 6
BATCHES = [[0, 0, 0], [2, 2, 0, 0, 1], [0, 1, 0, 1, 2, 1], [1]]


def adapters(slots: list[int]) -> Any:
    from undertow.engines.cpu_adapters import CPUAdapters, rows_of_adapters

    made = CPUAdapters(max_num_batched_tokens=8, max_batches=8, device="cpu")
    made._rows = rows_of_adapters(torch.tensor(slots))
    return made


@pytest.mark.parametrize("slots", BATCHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_products_are_those_of_vllm(slots: list[int], dtype: torch.dtype) -> None:
    from vllm.lora.ops.torch_ops import bgmv_expand_slice, bgmv_shrink

    torch.manual_seed(0)
    count, index = len(slots), torch.tensor(slots)
    x = torch.randn(count, WIDTH).to(dtype)
    a = torch.randn(SLOTS, 1, RANK, WIDTH).to(dtype)
    b = torch.randn(SLOTS, 1, COLUMNS, RANK).to(dtype)
    start = torch.randn(count, WIDTH).to(dtype)
    found, expected = start.clone(), start.clone()
    inner, expected_inner = torch.zeros(count, RANK), torch.zeros(count, RANK)
    made = adapters(slots)
    made._apply_shrink(inner, x, a, 0.5)
    bgmv_shrink(x, a, expected_inner, index, 0.5)
    torch.testing.assert_close(inner, expected_inner)
    for add in (True, False):
        made._apply_expand(found, inner, b, 2, COLUMNS, add)
        bgmv_expand_slice(expected_inner, b, expected, index, 2, COLUMNS, add)
        torch.testing.assert_close(found, expected)


def test_tokens_without_an_adapter_are_not_changed() -> None:
    made = adapters([-1, 1, -1])
    inner = torch.zeros(3, RANK)
    made._apply_shrink(inner, torch.ones(3, WIDTH), torch.ones(SLOTS, 1, RANK, WIDTH), 1.0)
    assert inner.sum(1).tolist() == [0.0, RANK * WIDTH, 0.0]
    found = torch.zeros(3, WIDTH)
    made._apply_expand(found, torch.ones(3, RANK), torch.ones(SLOTS, 1, WIDTH, RANK), 0, WIDTH)
    assert found.sum(1).tolist() == [0.0, WIDTH * RANK, 0.0]


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        ([-1, -1], []),
        ([1, 1, 0], [(0, slice(2, 3)), (1, slice(0, 2))]),
        ([0, -1, 0, 2], [(0, [0, 2]), (2, slice(3, 4))]),
    ],
)
def test_rows_that_follow_each_other_are_a_slice(
    slots: list[int], expected: list[tuple[int, slice | list[int]]]
) -> None:
    from undertow.engines.cpu_adapters import rows_of_adapters

    found = rows_of_adapters(torch.tensor(slots))
    assert [(n, rows if isinstance(rows, slice) else rows.tolist()) for n, rows in found] == expected
