"""Estimates for each wave of a plan: how much there is to make, its time on this machine, and its cost.

Two independent estimates. Wall-clock seconds come from earlier sweeps on the same storage (see `timings`).
GPU-hours come from the size of the reference models and the lengths of texts (see `costs`), and so exist
before the first sweep. Neither includes work of a provider.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from undertow.planning import timings
from undertow.planning.artifact_kinds import WAVES, Wave, runs_on, units, wave_of
from undertow.planning.costs import Cost, Hardware, cost_of, total
from undertow.planning.model_sizes import parameters
from undertow.planning.plan import Plan
from undertow.planning.timings import Pace
from undertow.study.references import Artifact


@dataclass(frozen=True)
class WaveEstimate:
    """The work of one wave: artifacts needed and missing, with estimates of time and cost.

    Attributes:
        units: rows generated, rows × epochs trained or answers sampled, of the missing artifacts.
        seconds: wall-clock time, or None before anything was measured on this storage.
        cost: on a GPU, or None if the size of a reference model is unknown (nano models have none).
        dollars: for the GPU, or for this machine if all models are nano; None without a price.
        computed: how many of the missing artifacts are made by engines, worker groups or providers.
        at_provider: how many of those a provider makes.
    """

    wave: Wave
    needed: int
    missing: int
    units: int
    seconds: float | None
    cost: Cost | None = None
    dollars: float | None = None
    computed: int = 0
    at_provider: int = 0

    @property
    def is_at_provider(self) -> bool:
        """Whether there is work and a provider does all of it."""
        return 0 < self.at_provider == self.computed

    @property
    def has_cost(self) -> bool:
        """Whether the cost of GPU work is known and not zero."""
        return self.cost is not None and self.cost.seconds > 0

    @property
    def gpu_hours(self) -> float | None:
        return self.cost.seconds / 3600 if self.cost else None


def estimate(plan: Plan, paces: Mapping[str, Pace], hardware: Hardware | None = None) -> list[WaveEstimate]:
    """The estimate of every wave.

    Args:
        paces: from `timings.read`.
        hardware: what costs are estimated for; None leaves them out.
    """
    needed: dict[Wave, list[tuple[str, Artifact]]] = {wave: [] for wave in WAVES}
    for artifact_key, artifact in plan.artifacts.items():
        needed[wave_of(artifact)].append((artifact_key, artifact))
    estimates = []
    for wave, artifacts in needed.items():
        missing = [artifact for artifact_key, artifact in artifacts if artifact_key in plan.missing]
        local = [artifact for artifact in missing if not timings.is_at_provider(artifact)]
        seconds = timings.estimate(wave, local, paces)
        cost = _cost(wave, local, paces, hardware) if hardware else None
        dollars = None
        if hardware and hardware.price is not None:
            # Nano models run on this machine's CPUs: its hours are priced, not those of a GPU.
            is_nano = all(map(timings.is_nano, local))
            priced = seconds if is_nano else cost.seconds if cost else None
            dollars = None if priced is None else priced / 3600 * hardware.price
        computed = [artifact for artifact in missing if units(artifact)]
        estimates.append(
            WaveEstimate(
                wave=wave,
                needed=len(artifacts),
                missing=len(missing),
                units=sum(map(units, computed)),
                seconds=seconds,
                cost=cost,
                dollars=dollars,
                computed=len(computed),
                at_provider=sum(map(timings.is_at_provider, computed)),
            )
        )
    return estimates


def _cost(
    wave: Wave, artifacts: Sequence[Artifact], paces: Mapping[str, Pace], hardware: Hardware
) -> Cost | None:
    """The sum over artifacts and starts; None if the size of a reference model is unknown."""
    costs = []
    for artifact in artifacts:
        if units(artifact):
            reference = runs_on(artifact)
            size = parameters(reference) if reference else None
            if size is None:
                return None
            pace = timings.pace_of(wave, artifact, paces)
            costs.append(cost_of(artifact, size, hardware, pace.tokens if pace else None))
    return total([Cost(seconds=timings.starts(artifacts) * hardware.starting(wave)), *costs])
