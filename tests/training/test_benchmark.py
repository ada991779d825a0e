"""The number of operations in the benchmark, compared with torch's FLOP counter."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.train_7b import Arguments, operations, random_rows, write_model
from undertow.study.recipe import LoRA
from undertow.training.data import encode
from undertow.training.forward import FullForward
from undertow.training.objective import summed_loss
from undertow.training.result import LoadedReference
from undertow.training.trainable import prepare


def test_the_counted_operations_match_torchs_counter(tmp_path: Path) -> None:
    """Within 6%: torch does not count attention on a CPU, and the formula neglects the adapter's own
    operations and that nothing before the first block needs a gradient.
    """
    arguments = Arguments(layers=2, width=256, vocabulary=1000, rows=3)
    write_model(tmp_path, arguments)
    reference = LoadedReference.read(tmp_path, torch.float32)
    rows = encode(reference.tokenizer, random_rows(arguments), None, 500)
    assert all(75 <= len(row.ids) <= 130 and 20 <= row.targets <= 45 for row in rows)
    model = prepare(reference.copy(), LoRA(rank=1), "reference")
    forward, counter = FullForward(model, torch.device("cpu")), FlopCounterMode(display=False)
    with counter:
        for row in rows:
            summed_loss(forward.logits(model, [row]), [row]).backward()  # type: ignore[no-untyped-call]
    counted = counter.get_total_flops()
    assert operations(reference.model.config, rows) == pytest.approx(counted, rel=0.06)
