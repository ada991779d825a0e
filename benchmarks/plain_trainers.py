"""Training with transformers' Trainer and TRL's SFTTrainer, as the other sides of the training benchmarks."""

import tempfile
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.paired import Figures
from undertow.training.data import TokenizedRow


def train(
    model: Any, tokenizer: Any, rows: Sequence[TokenizedRow], *, sft: bool, limit: int, **chosen: Any
) -> Figures:
    """Trains two epochs, with defaults except what all sides have in common; the second epoch is timed.

    Args:
        model: in training mode, with gradients for the trained parameters only.
        sft: whether SFTTrainer trains, else Trainer.
        limit: maximum tokens of a row.
        chosen: what the sides have in common, as arguments of `TrainingArguments`.

    Returns the tokens of the rows per second, without padding, and the mean loss of both epochs.
    """
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    data = [
        {"input_ids": row.ids.tolist(), "labels": [-100] * row.start + row.ids[row.start :].tolist()}
        for row in rows
    ]
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        common: dict[str, Any] = {
            "output_dir": folder,
            "num_train_epochs": 2,
            "gradient_checkpointing": False,  # on by default in SFTConfig
            "logging_strategy": "no",
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            **chosen,
        }
        if sft:
            from datasets import Dataset
            from trl import SFTConfig, SFTTrainer

            settings, rows_of_trl = SFTConfig(**common, max_length=limit), Dataset.from_list(data)
            made = SFTTrainer(model, settings, train_dataset=rows_of_trl, processing_class=tokenizer)
        else:
            collator = DataCollatorForSeq2Seq(tokenizer, padding=True)
            made = Trainer(model, TrainingArguments(**common), data_collator=collator, train_dataset=data)
        made.add_callback(Clock())
        done = made.train()
    seconds = times[-1] - times[-2]
    return {"tokens/s": sum(len(row.ids) for row in rows) / seconds, "loss": float(done.training_loss)}
