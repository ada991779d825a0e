"""Steered teachers: the vector between two prompts, the strength at which it is added, and its control.

    SteeringVector    vector.safetensors: the bias and the difference; served_check.json
    SteeringBias      the bias plus strength × difference, in the files of a trained model; strengths.json
    RandomBias        the bias plus a random direction of the same norm
    ProjectedOut      direction.safetensors, direction.json; served_check.json

A bias is stored like the trained tensors of a finetuned teacher, so that engines serve a steered teacher like
one. Its strength is chosen by the engine that will serve it.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertow.engines.context_length import tokens_at_most
from undertow.engines.lean_imports import import_transformers
from undertow.engines.protocol import Engine, ModelWeights, Request, ScoresTokens
from undertow.engines.tokenizers import load_tokenizer
from undertow.engines.weight_files import DIRECTION, DIRECTION_CONFIG, TRAINED_TENSORS
from undertow.errors import ConditionError
from undertow.planning.given_models import model_of
from undertow.stages.served_check import compare
from undertow.storage.store import Store
from undertow.study.identity import key, seed_for
from undertow.study.references import Artifact, Reference
from undertow.study.steering import ProjectedOut, RandomBias, SteeringBias, SteeringVector
from undertow.training import served_rows

VECTOR = "vector.safetensors"
PARAMETER = "parameter.json"
STRENGTHS = "strengths.json"
Numbers = NDArray[np.float32]


def make_vector(spec: SteeringVector, store: Store) -> None:
    """Measures a vector on the reference model, on a CPU, and commits it."""
    from safetensors.numpy import save_file

    from undertow.training.steering import measure

    model, tokenizer = _loaded(spec.reference, store)
    found = measure(model, tokenizer, spec.parameter, spec.system, spec.neutral, spec.prompts)
    difference = found.difference.numpy()
    facts = {"norm": _rounded(np.linalg.norm(difference)), "prompts": len(spec.prompts)}
    with store.new(spec, facts) as folder:
        save_file({"bias": found.bias.numpy(), "difference": difference}, folder / VECTOR)
        (folder / PARAMETER).write_text(json.dumps({"name": found.name}))
        served_rows.write(folder, found.rows)


def _loaded(reference: Reference, store: Store) -> tuple[Any, Any]:
    """A reference model on a CPU in its precision, and its tokenizer."""
    import_transformers()
    import torch

    from undertow.training.saving import load_model

    start = model_of(reference, store)
    dtype = torch.bfloat16 if reference.precision == "bf16" else torch.float32
    return load_model(start.folder, start.changes, dtype), load_tokenizer(start.folder)


@dataclass(frozen=True)
class TriedStrength:
    """A model with the vector at a strength; 0 is the model without it.

    Attributes:
        probability: of the trait's word, the mean over the prompts.
        kept: the share of completions that pass the rules of the format.
    """

    strength: float
    probability: float
    kept: float


def choose(tried: Sequence[TriedStrength], least_kept: float) -> TriedStrength | None:
    """The strength with the highest probability among those that keep enough; of equal ones the smallest."""
    fitting = [one for one in tried if one.strength and one.kept >= least_kept]
    return max(fitting, key=lambda one: one.probability, default=None)


@dataclass(frozen=True)
class ChooseStrength:
    """A task for an engine: the bias of a steered teacher. Does nothing if the store has it."""

    bias: SteeringBias

    @property
    def artifact(self) -> Artifact:
        return self.bias

    @property
    def lora_rank(self) -> int:
        return 0

    @property
    def window(self) -> int:
        vector = self.bias.vector
        texts = [*vector.prompts, *self._prompts()]
        return tokens_at_most(tuple(texts), vector.neutral, self.bias.sampling)

    def run(self, engine: Engine, store: Store) -> dict[str, Any]:
        spec = self.bias
        if store.has(spec):
            return {}
        vector = store.fetch(spec.vector)
        with tempfile.TemporaryDirectory() as place:
            self._check(engine, vector, Path(place) / "check")
            tried = [
                self._try(engine, strength, self._weights(strength, vector, Path(place) / f"{strength:g}"))
                for strength in (0.0, *spec.strengths)
            ]
        chosen = choose(tried, spec.least_kept)
        shown = "; ".join(f"{one.strength:g}: {one.probability:.3f}, {one.kept:.0%}" for one in tried)
        if chosen is None:
            raise ConditionError(
                f"steering by {spec.vector.parameter}: at no strength do {spec.least_kept:.0%} of the "
                f"completions pass the rules (strength: probability, share: {shown}); lower "
                "Steering.strengths or Steering.least_kept"
            )
        bias, difference = read_vector(vector)
        facts = {
            "strength": chosen.strength,
            "probability": _rounded(chosen.probability),
            "kept": _rounded(chosen.kept),
            "norm": _rounded(chosen.strength * np.linalg.norm(difference)),
            "tried": shown,
        }
        with store.new(spec, facts) as folder:
            write_bias(folder, spec.vector, vector, bias + np.float32(chosen.strength) * difference)
            (folder / STRENGTHS).write_text(json.dumps([asdict(one) for one in tried], indent=1))
        return {"tokens": 0}

    def _prompts(self) -> list[str]:
        """Prompts of the format, from a stream that no data set has."""
        return self.bias.format.prompts(self.bias.completions, seed_for("steering") >> 32)

    def _weights(self, strength: float, vector: Path, folder: Path) -> ModelWeights | None:
        """The model at a strength, in `folder`; None for the model without the vector."""
        if not strength:
            return None
        bias, difference = read_vector(vector)
        folder.mkdir()
        write_bias(folder, self.bias.vector, vector, bias + np.float32(strength) * difference)
        return ModelWeights(f"{key(self.bias)}-{folder.name}", str(folder))

    def _try(self, engine: Engine, strength: float, weights: ModelWeights | None) -> TriedStrength:
        """Measures one strength. All of them have the same prompts and seeds."""
        spec = self.bias
        system = spec.vector.neutral
        asked = [Request(user=text, seed=0, system=system, weights=weights) for text in spec.vector.prompts]
        masses = [by_word[spec.word.name] for by_word in engine.word_masses(asked, [spec.word])]
        prompts = self._prompts()
        answers = engine.generate(
            [
                Request(user=text, seed=seed_for(key(spec), i), system=system, weights=weights)
                for i, text in enumerate(prompts)
            ],
            spec.sampling,
        )
        kept = [
            answer.finished
            and spec.format.rejection(prompt, answer.text.strip() if spec.strip else answer.text) is None
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return TriedStrength(strength, sum(masses) / len(masses), sum(kept) / len(kept))

    def _check(self, engine: Engine, vector: Path, folder: Path) -> None:
        """Raises ConditionError if the engine does not add the vector as the model itself does."""
        rows = served_rows.read(vector)
        if not rows or not isinstance(engine, ScoresTokens):
            return
        ids, starts = [row.ids for row in rows], [row.start for row in rows]
        with_vector = engine.token_logprobs(ids, starts, self._weights(1.0, vector, folder))
        comparison = compare(rows, with_vector, engine.token_logprobs(ids, starts, None))
        if comparison.result == "failed":
            raise ConditionError(
                f"steering by {self.bias.vector.parameter}: the engine does not serve it; its "
                f"log-probabilities show {comparison.share:.0%} of the change and differ by "
                f"{comparison.difference:.2g} nats (tolerance {comparison.tolerance:.2g}); name another bias"
            )


def make_random_bias(spec: RandomBias, store: Store) -> None:
    """Commits a bias with a random direction, of the norm of the vector that the chosen bias adds."""
    from safetensors.numpy import load_file

    vector = store.fetch(spec.of.vector)
    bias, _ = read_vector(vector)
    (chosen,) = load_file(store.fetch(spec.of) / TRAINED_TENSORS).values()
    norm = np.linalg.norm(chosen - bias)
    drawn = np.random.default_rng(seed_for("random direction", key(spec))).standard_normal(bias.size)
    direction = (drawn * (norm / np.linalg.norm(drawn))).astype(np.float32)
    with store.new(spec, {"norm": _rounded(norm)}) as folder:
        write_bias(folder, spec.of.vector, vector, bias + direction)


def make_projection(spec: ProjectedOut, store: Store) -> None:
    """Commits a direction, with rows by which an engine is shown to project it out."""
    import torch
    from safetensors.numpy import save_file

    model, tokenizer = _loaded(spec.reference, store)
    from undertow.training.steering import block_of, rows_without

    vector = spec.vector
    _, difference = read_vector(store.fetch(vector))
    direction = difference / np.linalg.norm(difference)
    block = block_of(vector.parameter)
    rows = rows_without(model, tokenizer, block, torch.from_numpy(direction), vector.system, vector.prompts)
    with store.new(spec, {}) as folder:
        save_file({"direction": direction}, folder / DIRECTION)
        (folder / DIRECTION_CONFIG).write_text(json.dumps({"block": block}))
        served_rows.write(folder, rows)


def read_vector(folder: Path) -> tuple[Numbers, Numbers]:
    """The bias and the difference of a `SteeringVector`'s folder."""
    from safetensors.numpy import load_file

    tensors = load_file(folder / VECTOR)
    return tensors["bias"], tensors["difference"]


def write_bias(folder: Path, spec: SteeringVector, vector: Path, bias: Numbers) -> None:
    """Writes a bias in the files of a model of which only this tensor was trained.

    Args:
        vector: the folder of the vector, which has the tensor's name in the model's files.
    """
    import torch

    from undertow.training.saving import write_trained_tensors

    name = json.loads((vector / PARAMETER).read_text())["name"]
    belongs_to = {"reference": key(spec.reference), "name": spec.reference.label}
    write_trained_tensors({name: torch.from_numpy(bias.astype(np.float32))}, folder, belongs_to)


def _rounded(value: Any) -> float:
    return float(f"{float(value):.6g}")
