"""The table of engines: which engine answers for a reference model, and how it is built.

The pool (`cluster/engine_pool.py`) and every other caller choose an engine by this table alone. To add one,
write a class that implements `protocol.Engine` and register it, for example in a study file:

    from undertow import EngineKind, register_engine

    register_engine(EngineKind("llama.cpp", serves=lambda reference: ..., build=build))

Ray workers do not run the study file's `register_engine` call. The pool sends the entry along with its tasks
and registers it in the worker; `build` and `serves` must therefore be picklable (a module that workers can
import, or a study file, whose functions travel by value).

Importing this module imports neither vLLM, torch nor the openai library: `build` and `check` import them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undertow.engines.architectures import WITHOUT_ADAPTERS
from undertow.engines.protocol import Engine
from undertow.engines.runtime import LORA_RANKS
from undertow.errors import UserError
from undertow.study.references import Reference

Build = Callable[[Reference, Path | None, Mapping[str, Any]], Engine]


def _no_check(reference: Reference) -> str:
    return ""


def _any_architecture(architecture: str) -> bool:
    return True


@dataclass(frozen=True)
class EngineKind:
    """One entry of the table.

    Attributes:
        name: the engine's name in messages.
        serves: whether the engine answers for a reference model.
        build: builds the engine from the reference model, its local folder in Hugging Face's layout (None
            unless `needs_weights`), and settings: the fields of `runtime.EngineSettings` that the machine and
            the tasks require, by name. An engine ignores the settings it has no use for.
        needs_weights: whether the pool must provide the reference's weights as a local folder.
        runs_in_driver: whether the engine runs in the sweep's own process, without a Ray actor. For an engine
            that only sends requests: its limit on concurrent calls then holds for the whole sweep, and its
            key stays in that process's environment.
        cpus, gpus: what one engine of the pool reserves; None for the machine's own division (`Machine`).
        gives_probabilities: whether `word_masses` is available, and the log-probabilities of tokens are.
            Evaluations by an engine without them are planned with exact=False.
        applies_adapters: whether the engine applies LoRA adapters to an architecture, given by its
            transformers class name. Studies that would need one are rejected before anything is trained.
        max_adapter_rank: the highest rank of the adapters that the engine applies; None for any rank.
        is_metered: whether answers are counted (and charged) by a provider: they carry `Answer.usage` and no
            token ids, and are stored in small parts, so that an interrupted sweep pays for none twice.
        check: sends one small request before a sweep; returns a transient problem as text, or "". Raises
            UserError for a problem that retrying cannot solve.
    """

    name: str
    serves: Callable[[Reference], bool]
    build: Build
    needs_weights: bool = True
    runs_in_driver: bool = False
    cpus: float | None = None
    gpus: float | None = None
    gives_probabilities: bool = True
    applies_adapters: Callable[[str], bool] = _any_architecture
    max_adapter_rank: int | None = None
    is_metered: bool = False
    check: Callable[[Reference], str] = _no_check


def _has_weights(reference: Reference) -> bool:
    return not reference.is_api


def _is_api(reference: Reference) -> bool:
    return reference.is_api


def _build_vllm(reference: Reference, folder: Path | None, settings: Mapping[str, Any]) -> Engine:
    from undertow.engines.vllm import VLLMEngine

    return VLLMEngine(str(folder), precision=reference.precision or None, **settings)


def _vllm_applies_adapters(architecture: str) -> bool:
    return architecture not in WITHOUT_ADAPTERS


def _build_openai(reference: Reference, folder: Path | None, settings: Mapping[str, Any]) -> Engine:
    from undertow.api.endpoint import MODELS, Endpoint
    from undertow.engines.openai import OpenAIEngine

    return OpenAIEngine(reference.served_name, Endpoint.from_environment(MODELS))


def _check_openai(reference: Reference) -> str:
    from undertow.api.endpoint import MODELS, Endpoint
    from undertow.engines.openai import check

    return check(reference.served_name, Endpoint.from_environment(MODELS).for_check())


# The first entry that serves a reference model answers for it; `register_engine` puts new entries first.
ENGINES: list[EngineKind] = [
    EngineKind(
        "OpenAI-compatible endpoint",
        serves=_is_api,
        build=_build_openai,
        needs_weights=False,
        runs_in_driver=True,
        gives_probabilities=False,
        is_metered=True,
        check=_check_openai,
    ),
    EngineKind(
        "vLLM",
        serves=_has_weights,
        build=_build_vllm,
        applies_adapters=_vllm_applies_adapters,
        max_adapter_rank=max(LORA_RANKS),
    ),
]


def register_engine(kind: EngineKind) -> None:
    """Adds an engine to the table, ahead of the others. An entry with the same name is replaced."""
    ENGINES[:] = [kind, *(other for other in ENGINES if other.name != kind.name)]


def engine_for(reference: Reference) -> EngineKind:
    """The engine that answers for a reference model and for every model trained from it.

    Raises UserError if no entry of the table serves the reference model.
    """
    for kind in ENGINES:
        if kind.serves(reference):
            return kind
    names = ", ".join(kind.name for kind in ENGINES)
    raise UserError(
        f"no engine serves the reference model {reference.name!r} (registered: {names}); register one with "
        "undertow.register_engine"
    )
