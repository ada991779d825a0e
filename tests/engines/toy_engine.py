"""An engine added from outside the package, as a user does: it answers with the prompt reversed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.engines.protocol import Answer, Engine, Request
from undertow.engines.registry import EngineKind
from undertow.study.completions import Sampling
from undertow.study.extensions import Word
from undertow.study.references import Reference


@dataclass
class ToyEngine:
    """Implements `Engine`. Every word has the same mass."""

    folder: Path | None
    settings: Mapping[str, Any]

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        texts = [request.user[::-1] for request in requests]
        return [Answer(text, tuple(map(ord, text)), finished=True) for text in texts]

    def word_masses(self, requests: Sequence[Request], words: Sequence[Word]) -> list[dict[str, float]]:
        return [{word.name: 1 / (len(words) + 1) for word in words} for _ in requests]

    def close(self) -> None:
        """Holds no resources."""


def serves(reference: Reference) -> bool:
    return reference.name.startswith("toy/")


def build(reference: Reference, folder: Path | None, settings: Mapping[str, Any]) -> Engine:
    return ToyEngine(folder, settings)


TOY = EngineKind("toy", serves, build, needs_weights=False, cpus=1, gpus=0)
