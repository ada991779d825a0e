"""What the jobs of one call share: the reference, the workers, and rows and probes as tokens."""

from typing import Any

from undertow.training import packing
from undertow.training.data import TokenizedRow, encode
from undertow.training.forward import Forward, choose
from undertow.training.job import Probe, TrainingJob
from undertow.training.probe import Watch
from undertow.training.result import LoadedReference
from undertow.training.trainable import prepare
from undertow.training.workers import Workers


class Room:
    """What the jobs of a call share; rows and probes are tokenised once where they are shared."""

    def __init__(
        self, reference: LoadedReference, workers: Workers, checkpoints: str | None, budget: int
    ) -> None:
        self.reference, self.workers, self.checkpoints, self.budget = reference, workers, checkpoints, budget
        self._encoded: tuple[tuple[Any, ...], list[TokenizedRow]] = ((), [])
        self._watches: dict[Probe, Watch] = {}

    def rows(self, job: TrainingJob) -> list[TokenizedRow]:
        """The job's rows as tokens."""
        recipe = job.recipe
        limit = min(recipe.max_length, self.reference.positions)
        kind = {"soft": recipe.targets == "soft", "prompts": recipe.loss == "all"}
        known = (id(job.rows), job.system, limit, *kind.values())
        if known != self._encoded[0]:
            self._encoded = known, encode(self.reference.tokenizer, job.rows, job.system, limit, **kind)
        return self._encoded[1]

    def model(self, job: TrainingJob) -> Any:
        """A copy of the reference with what the job trains in it, on the CPU."""
        model, recipe = self.reference.copy(), job.recipe
        packing.prefer_varlen(model, recipe, self.workers.device)
        if recipe.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return prepare(model, recipe.trainable, job.reference_name)

    def watches(self, job: TrainingJob) -> list[Watch]:
        """The job's probes, tokenised."""
        for probe in job.probes:
            if probe not in self._watches:
                self._watches[probe] = Watch(probe, self.reference.tokenizer, self.budget)
        return [self._watches[probe] for probe in job.probes]

    def forward(self, job: TrainingJob, model: Any) -> Forward:
        """How the job's logits are computed."""
        watched = [row for watch in self.watches(job) for row in watch.rows]
        return choose(model, job.recipe, self.rows(job), watched, self.budget, self.workers.device)
