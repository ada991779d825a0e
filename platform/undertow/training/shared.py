"""State that the jobs of one call share: the reference, the workers, and tokenized rows and probes."""

from typing import Any

from undertow.errors import ConditionError
from undertow.study.recipe import Recipe
from undertow.training import row_attention
from undertow.training.data import TokenizedRow, encode, encode_pairs, held_back
from undertow.training.forward import Forward, KeptInputs, choose_forward
from undertow.training.job import Probe, TrainingJob
from undertow.training.probe import TokenizedProbe
from undertow.training.result import LoadedReference
from undertow.training.trainable import prepare
from undertow.training.workers import Workers

TimedProbes = tuple[dict[str, float], float]  # the probabilities of all probes, and the seconds that it took


class SharedState:
    """State shared by the jobs of a call. Rows and probes that jobs have in common are tokenized once.

    Attributes:
        untrained_probes: what the probes say about the reference model, by recipe, probes and packing.

    Args:
        checkpoints: URL of the checkpoints of all jobs, or None.
        budget: tokens per micro-batch.
    """

    def __init__(
        self, reference: LoadedReference, workers: Workers, checkpoints: str | None, budget: int
    ) -> None:
        self.reference, self.workers, self.checkpoints, self.budget = reference, workers, checkpoints, budget
        self._rows: tuple[tuple[Any, ...], list[TokenizedRow]] = ((), [])
        self._kept = KeptInputs()
        self._probes: dict[Probe, TokenizedProbe] = {}
        self.untrained_probes: dict[tuple[Recipe, tuple[Probe, ...], bool], TimedProbes] = {}

    def rows(self, job: TrainingJob) -> list[TokenizedRow]:
        """The job's tokenized rows, without those held out.

        Raises ConditionError for rows longer than the recipe or model allows, unless the recipe cuts them.
        """
        recipe = job.recipe
        limit = min(recipe.max_length, self.reference.positions)
        options = {
            "soft": recipe.targets == "soft",
            "prompts": recipe.loss == "all",
            "cut": recipe.overlong == "cut",
        }
        # The seeds of a condition may share one list of rows; only the last one is kept, to bound memory.
        # `id` is safe: `finetune` holds all jobs, so that no list is freed and its id reused.
        is_paired = recipe.preference_beta > 0
        cache_key = (id(job.rows), job.system, limit, recipe.held_out, is_paired, *options.values())
        if cache_key != self._rows[0]:
            tokenizer, ends = self.reference.tokenizer, self.reference.ends
            left_out = held_back(len(job.rows), recipe.held_out)
            given = [row for i, row in enumerate(job.rows) if i not in left_out] if left_out else job.rows
            if not given:
                raise ConditionError(
                    f"Recipe.held_out = {recipe.held_out:g} leaves none of {len(job.rows)} rows; lower it, "
                    "or raise Generation.rows"
                )
            if is_paired:
                encoded = encode_pairs(tokenizer, given, job.system, limit, ends=ends, cut=options["cut"])
            else:
                encoded = encode(tokenizer, given, job.system, limit, ends=ends, **options)
            self._rows = cache_key, encoded
        return self._rows[1]

    def model(self, job: TrainingJob) -> Any:
        """A copy of the reference on the CPU, with only the job's trained parameters requiring gradients."""
        model, recipe = self.reference.copy(), job.recipe
        if recipe.packing:
            row_attention.use(model)
        if recipe.gradient_checkpointing:
            # Reentrant checkpointing, torch's default, gives no gradients if the inputs require none, as with
            # frozen embeddings.
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return prepare(model, recipe.trainable, job.reference_name)

    def probes(self, job: TrainingJob) -> list[TokenizedProbe]:
        """The job's probes, tokenized."""
        for probe in job.probes:
            if probe not in self._probes:
                self._probes[probe] = TokenizedProbe(probe, self.reference.tokenizer, self.budget)
        return [self._probes[probe] for probe in job.probes]

    def forward(self, job: TrainingJob, model: Any) -> Forward:
        """How the job's logits are computed."""
        rows = [sequence for row in self.rows(job) for sequence in row.sequences]
        rows += [row for probe in self.probes(job) for row in probe.rows]
        return choose_forward(model, job.recipe, rows, self.budget, self.workers.device, self._kept)
