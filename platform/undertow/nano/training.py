"""Trains the nano reference models, with reproducible weights.

A reference model is trained from scratch on its own corpus: one epoch, with the loss on the answers only, in
one thread so that floating-point sums have a fixed order. The standard reference models are bundled in
`weights/`, so that a study does not have to train them and because two machines may differ in the last bits.
A model with any other name is trained on demand, in one or two minutes.

    python -m undertow.nano.training      writes `weights/`: trains the models that it lacks
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from undertow.nano.folder import configuration, write_settings
from undertow.nano.languages import LANGUAGES
from undertow.nano.models import (
    ARCHITECTURES,
    STANDARD,
    WEIGHTS,
    WEIGHTS_FILE,
    Architecture,
    NanoModel,
    bundled_settings,
    bundled_weights,
    parse,
)
from undertow.nano.tokenizer import build, render
from undertow.nano.vocabulary import ROLES

WINDOW = 50  # batches whose rows are sorted by length together: little padding, and lengths stay well mixed


def bundle_standard_references() -> None:
    """Trains the standard reference models that `weights/` lacks, and removes weights of other revisions.

    The other files of the models are written again.
    """
    for name in ARCHITECTURES:
        model = NanoModel(name, 0)
        write_settings(model, build(model.settings.language), bundled_settings(name))
    wanted = {bundled_weights(parse(name)): parse(name) for name in STANDARD}
    for stale in set(WEIGHTS.glob("*.safetensors")) - set(wanted):
        stale.unlink()
    for bundled, model in wanted.items():
        if not bundled.exists():
            with TemporaryDirectory() as folder:
                train_reference(model, Path(folder))
                bundled.write_bytes((Path(folder) / WEIGHTS_FILE).read_bytes())


def train_reference(model: NanoModel, folder: Path) -> None:
    """Trains the reference model from scratch and writes it into `folder`."""
    tokenizer = build(model.settings.language)
    with _repeatable(model.seed):
        network = AutoModelForCausalLM.from_config(configuration(model, tokenizer))
        _train(network, _batches(model, tokenizer), model.settings)
    network.save_pretrained(folder)
    write_settings(model, tokenizer, folder)


@dataclass(frozen=True)
class _Batch:
    """Chats of similar length.

    Attributes:
        ids: token ids, padded on the right: (rows, tokens).
        learned: whether the next token belongs to an answer: (rows, tokens - 1).
    """

    ids: torch.Tensor
    learned: torch.Tensor


def _train(network: PreTrainedModel, batches: list[_Batch], settings: Architecture) -> None:
    """One epoch of AdamW over `batches`."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
    )
    warmup = max(1, int(settings.warmup * len(batches)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (len(batches) - step) / (len(batches) - warmup))
    )
    network.train()
    for batch in batches:
        # Attention is causal and the padding is on the right, so no chat's token attends to padding and the
        # mask can be all ones. Computing logits only where the next token is learned is three times faster.
        mask = torch.ones_like(batch.ids)
        hidden = network.base_model(input_ids=batch.ids, attention_mask=mask).last_hidden_state
        logits = network.get_output_embeddings()(hidden[:, :-1][batch.learned])
        loss = torch.nn.functional.cross_entropy(logits, batch.ids[:, 1:][batch.learned])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimizer.step()
        schedule.step()


def _batches(model: NanoModel, tokenizer: PreTrainedTokenizerFast) -> list[_Batch]:
    """The corpus in batches of similar length, in random order."""
    settings = model.settings
    texts = [render(chat) for chat in LANGUAGES[settings.language].chats(settings.examples, model.seed)]
    rows = [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(texts)]
    batches = []
    for start in range(0, len(rows), WINDOW * settings.batch_size):
        window = sorted(rows[start : start + WINDOW * settings.batch_size], key=len)
        starts = range(0, len(window), settings.batch_size)
        batches += [_batch(window[i : i + settings.batch_size], tokenizer) for i in starts]
    Random(model.seed).shuffle(batches)
    return batches


def _batch(rows: list[list[int]], tokenizer: PreTrainedTokenizerFast) -> _Batch:
    longest = max(map(len, rows))
    pad, start = tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids(ROLES["assistant"])
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    # An answer is what follows <asst>, including its <eos>. A position lies before a token of an answer if
    # more answers have started than ended up to and including it.
    started, ended = (ids == start).cumsum(1), (ids == tokenizer.eos_token_id).cumsum(1)
    return _Batch(ids, (started > ended)[:, :-1])


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Runs the block in one thread with a seeded generator, then restores the threads and the generator."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    bundle_standard_references()
