"""Log-probabilities of some training rows, by which an engine can be shown to serve the trained model.

An engine that ignores an adapter, or a tensor of a model, answers like the reference model and raises no
error; its students would count as students to which no trait was transmitted. Each training therefore stores
what the finished model and the untrained reference say about a few of its rows (`served_check.json`), and
`stages.served_check` compares an engine with it.

    {"version": 1, "rows": [{"ids": […], "start": 41, "reference": […], "trained": […]}, …]}

`ids` are a row's tokens up to the last one that is scored; `reference` and `trained` have one log-probability
(nats) for each token from position `start` on. A row with a token mask also has the `positions` in `ids` that
are scored, and the version is then 2. This module imports torch only where the model is run.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.errors import StorageError
from undertow.training.data import TokenizedRow, split_by_tokens

if TYPE_CHECKING:  # imports torch
    from undertow.training.forward import Forward

SERVED_CHECK = "served_check.json"  # in a trained model's artifact
ROWS = 16
SCORED = 64  # the most tokens of a row that are scored, its first ones with a loss
# The most tokens of a row up to its last scored one. An engine computes the whole vocabulary's logits at each
# of them (600 MB for a vocabulary of 150,000), and its window must have room for one token more.
LONGEST = 1023
VERSION, MASKED_VERSION = 1, 2  # without and with masked rows
DIGITS = 6


@dataclass(frozen=True)
class ServedRow:
    """A row and its log-probabilities (nats) by the `reference` and the `trained` model.

    They are those of all tokens from `start` on, or of the tokens at `positions` if there are any.
    """

    ids: tuple[int, ...]
    start: int
    reference: tuple[float, ...]
    trained: tuple[float, ...]
    positions: tuple[int, ...] = ()

    def scored(self, logprobs: Sequence[float]) -> Sequence[float]:
        """Those of the row's tokens that are scored, from the values of all tokens from `start` on."""
        return [logprobs[place - self.start] for place in self.positions] if self.positions else logprobs


class CheckedRows:
    """Some of a job's rows, spread evenly over them, and how many tokens of each are scored.

    Rows whose prompt alone is too long are left out, so that there may be none.

    Attributes:
        scored: the number of tokens of each row that are scored.

    Args:
        positions: the longest sequence that the model supports.
        budget: tokens per batch, including padding.
    """

    def __init__(self, rows: Sequence[TokenizedRow], positions: int, budget: int) -> None:
        limit = min(LONGEST, positions - 1)  # vLLM scores a prompt only if it has room for an answer
        fitting = [row for row in rows if row.positions[0] < limit]
        number = min(ROWS, len(fitting))
        # In ascending order of length, as batches are formed; the order has no meaning.
        self._rows = sorted(
            (fitting[i * len(fitting) // number] for i in range(number)), key=lambda row: len(row.ids)
        )
        self.scored = [int((row.positions[:SCORED] < limit).sum()) for row in self._rows]
        lengths = [len(row.ids) for row in self._rows]
        self._batches = list(split_by_tokens(lengths, range(number), budget))

    def logprobs(self, engine: Any, forward: "Forward") -> list[tuple[float, ...]]:
        """The scored tokens' log-probabilities, row by row. Leaves the engine in evaluation mode.

        Collective under ZeRO 3. Rows are padded even if training packs them, because an engine serves each
        one alone. They are the job's own objects: `LastNormForward` knows no others.
        """
        import torch

        from undertow.training.objective import target_logprobs

        was_packing, forward.packing = forward.packing, False
        engine.eval()  # without dropout; no random number is drawn
        found: list[tuple[float, ...]] = []
        with torch.no_grad():
            for batch in self._batches:
                rows = [self._rows[i] for i in batch]
                logprobs = target_logprobs(forward.logits(engine, rows), rows).cpu()
                pieces = torch.split(logprobs, [row.targets for row in rows])
                found += [tuple(own[: self.scored[i]].tolist()) for i, own in zip(batch, pieces, strict=True)]
        forward.packing = was_packing
        return found

    def write(
        self, folder: Path, reference: Sequence[Sequence[float]], trained: Sequence[Sequence[float]]
    ) -> None:
        """Writes the rows with both models' log-probabilities; nothing if there are no rows."""
        write(
            folder,
            [
                _served(row, row.positions[:scored].tolist(), rounded(old), rounded(new))
                for row, scored, old, new in zip(self._rows, self.scored, reference, trained, strict=True)
            ],
        )


def _served(
    row: TokenizedRow, scored: Sequence[int], reference: tuple[float, ...], trained: tuple[float, ...]
) -> ServedRow:
    """A row whose tokens at the positions `scored` have log-probabilities."""
    ids = tuple(row.ids[: scored[-1] + 1].tolist())
    return ServedRow(ids, row.start, reference, trained, () if row.mask is None else tuple(scored))


def write(folder: Path, rows: Sequence[ServedRow]) -> None:
    """Writes rows; nothing if there are none."""
    if rows:
        is_masked = any(row.positions for row in rows)
        stored = [
            {name: value for name, value in asdict(row).items() if name != "positions" or row.positions}
            for row in rows
        ]
        content = {"version": MASKED_VERSION if is_masked else VERSION, "rows": stored}
        (folder / SERVED_CHECK).write_text(json.dumps(content))


def rounded(values: Sequence[float]) -> tuple[float, ...]:
    """Log-probabilities as they are stored."""
    return tuple(round(value, DIGITS) for value in values)


def read(folder: Path) -> list[ServedRow]:
    """The rows stored in a trained model's folder; empty for one that was trained before there were any.

    Raises StorageError for a file of a later version.
    """
    file = folder / SERVED_CHECK
    if not file.exists():
        return []
    content = json.loads(file.read_text())
    if content["version"] not in (VERSION, MASKED_VERSION):
        raise StorageError(
            f"{file}: version {content['version']}, not {VERSION} or {MASKED_VERSION}; use a newer Undertow"
        )
    return [
        ServedRow(
            tuple(row["ids"]),
            row["start"],
            tuple(row["reference"]),
            tuple(row["trained"]),
            tuple(row.get("positions", ())),
        )
        for row in content["rows"]
    ]
