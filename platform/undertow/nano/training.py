"""Makes the nano references: from a name to a Hugging Face folder, the same weights each time.

A reference is trained from scratch on its own corpus: one epoch, loss on the answers alone, on one thread so
that sums are added in one order. The standard references are carried in `weights/`, because a
study should not wait for them and because two machines need not agree in the last bit; any other name
is trained when it is asked for, in a minute or two. The folder loads in transformers, vLLM and PEFT.

    python -m undertow.nano.training      trains the standard references that `weights/` lacks
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from undertow.nano.languages import LANGUAGES
from undertow.nano.models import STANDARD, Growth, NanoModel, parse, revision
from undertow.nano.tokenizer import build, render
from undertow.nano.vocabulary import ROLES

WEIGHTS = Path(__file__).parent / "weights"
WEIGHTS_FILE = "model.safetensors"
WINDOW = 50  # batches that are sorted by length together: less padding, lengths still well mixed


def write_reference(model: NanoModel, folder: Path) -> None:
    """Writes the reference `model` into `folder`: carried weights where there are, else trained ones."""
    carried = carried_weights(model)
    if not carried.exists():
        train_reference(model, folder)
        return
    tokenizer = build(model.growth.language)
    with _repeatable(model.seed):
        network = AutoModelForCausalLM.from_config(configuration(model, tokenizer))
    _write(network, tokenizer, folder)
    shutil.copyfile(carried, folder / WEIGHTS_FILE)


def carried_weights(model: NanoModel) -> Path:
    """Where the weights of `model` at its present revision are kept, if they are."""
    return WEIGHTS / f"{model.architecture}-{model.seed}-{revision(model)[:16]}.safetensors"


def carry_standard_references() -> None:
    """Trains what `weights/` lacks of the standard references, and removes weights of other revisions."""
    wanted = {carried_weights(parse(name)): parse(name) for name in STANDARD}
    for stale in set(WEIGHTS.glob("*.safetensors")) - set(wanted):
        stale.unlink()
    for carried, model in wanted.items():
        if not carried.exists():
            with TemporaryDirectory() as folder:
                train_reference(model, Path(folder))
                carried.write_bytes((Path(folder) / WEIGHTS_FILE).read_bytes())


def train_reference(model: NanoModel, folder: Path) -> None:
    """Trains the reference `model` from scratch and writes it into `folder`."""
    tokenizer = build(model.growth.language)
    with _repeatable(model.seed):
        network = AutoModelForCausalLM.from_config(configuration(model, tokenizer))
        _train(network, _batches(model, tokenizer), model.growth)
    _write(network, tokenizer, folder)


def configuration(model: NanoModel, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    """The transformers configuration of `model`: tied embeddings, float32."""
    growth = model.growth
    common = {
        "vocab_size": len(tokenizer),
        "tie_word_embeddings": True,
        "initializer_range": growth.init_std,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "dtype": "float32",
    }
    if model.network == "gpt2":
        return GPT2Config(
            n_layer=growth.layers,
            n_embd=growth.width,
            n_head=growth.heads,
            n_positions=growth.positions,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **common,
        )
    kind = {"llama": LlamaConfig, "qwen3": Qwen3Config}[model.network]
    return kind(
        num_hidden_layers=growth.layers,
        hidden_size=growth.width,
        intermediate_size=4 * growth.width,
        num_attention_heads=growth.heads,
        num_key_value_heads=growth.heads,
        head_dim=growth.width // growth.heads,
        max_position_embeddings=growth.positions,
        **({"mlp_bias": True} if kind is LlamaConfig else {}),
        **common,
    )


@dataclass(frozen=True)
class _Batch:
    """Rows of similar length: ids [rows, tokens], and where the next token belongs to an answer."""

    ids: torch.Tensor
    learned: torch.Tensor


def _train(network: PreTrainedModel, batches: list[_Batch], growth: Growth) -> None:
    """One epoch of AdamW over `batches`."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=growth.learning_rate, weight_decay=growth.weight_decay, foreach=True
    )
    warmup = max(1, int(growth.warmup * len(batches)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (len(batches) - step) / (len(batches) - warmup))
    )
    network.train()
    for batch in batches:
        # Attention is causal and the padding on the right, so no real position sees any; and logits are
        # computed where something is learned alone, which makes this three times faster.
        seen = torch.ones_like(batch.ids)
        hidden = network.base_model(input_ids=batch.ids, attention_mask=seen).last_hidden_state
        logits = network.get_output_embeddings()(hidden[:, :-1][batch.learned])
        loss = torch.nn.functional.cross_entropy(logits, batch.ids[:, 1:][batch.learned])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), growth.clip)
        optimizer.step()
        schedule.step()


def _batches(model: NanoModel, tokenizer: PreTrainedTokenizerFast) -> list[_Batch]:
    """The corpus in batches, in random order."""
    growth = model.growth
    texts = [render(chat) for chat in LANGUAGES[growth.language].chats(growth.examples, model.seed)]
    rows = [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(texts)]
    batches = []
    for start in range(0, len(rows), WINDOW * growth.batch_size):
        window = sorted(rows[start : start + WINDOW * growth.batch_size], key=len)
        starts = range(0, len(window), growth.batch_size)
        batches += [_batch(window[i : i + growth.batch_size], tokenizer) for i in starts]
    Random(model.seed).shuffle(batches)
    return batches


def _batch(rows: list[list[int]], tokenizer: PreTrainedTokenizerFast) -> _Batch:
    longest = max(map(len, rows))
    pad, opens = tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids(ROLES["assistant"])
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    # An answer runs from <asst> up to and with <eos>: as many of the one before a position as of the other.
    opened, closed = (ids == opens).cumsum(1), (ids == tokenizer.eos_token_id).cumsum(1)
    return _Batch(ids, (opened > closed)[:, :-1])


def _write(network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    network.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """One thread and a seeded generator, both put back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    carry_standard_references()
