"""API models that their provider finetunes: one fine-tuning job per student or teacher, followed to its end.

    rows → file of conversations → job → its status, polled at growing intervals → the model's name

A job costs money, so it is never started twice: the ids of file and job are saved in the store as parts of
the artifact as soon as they are known, and before a job is created the provider's list is searched for a job
on the same file (a sweep that was killed between the two calls leaves one). A sweep that ends leaves its jobs
running, and the next sweep resumes polling. A job that failed or was cancelled is reported once and then
forgotten, so that the next sweep starts another.

The artifact is a small JSON file with the model's name at the provider. Calling the model from another
machine needs a key of the same account.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from undertow.api import finetuning
from undertow.api.client import error_message
from undertow.api.endpoint import MODELS, Endpoint
from undertow.api.finetuning import ENDED_BADLY, WHO, FineTuning
from undertow.api.retries import GarbageError, is_spent, should_retry, status
from undertow.engines.openai import POINTER
from undertow.engines.registry import engine_for
from undertow.errors import ConditionError, UserError
from undertow.stages.conversations import conversations
from undertow.stages.weights import Trained, trained_by
from undertow.storage.manifest import HISTORY
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.recipe import ProviderFinetuning
from undertow.study.references import Reference

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

Advance = Callable[[str, float], None]
FILE, JOB = "file.json", "job.json"  # parts of the artifact: the ids at the provider
FIRST_WAIT, LONGEST_WAIT, GROWTH = 1.0, 30.0, 1.5  # seconds between two rounds of polling
SEEDS = 2**31  # the provider's seeds are below
FULL = 429  # also the status for an account with the maximum number of concurrent jobs
BEFORE_RUNNING, RUNNING = 0.05, 0.5  # assumed progress if the provider reports none


def check(sampled: Iterable[Reference], trained: Iterable[Reference]) -> list[str]:
    """Checks the engines of the reference models in `sampled`, and fine-tuning if `trained` has an API model.

    Sends one small request to each. Returns transient problems as text. Raises UserError for a problem that
    retrying cannot solve.
    """
    roots = dict.fromkeys(reference.root for reference in sampled)
    problems = [engine_for(reference).check(reference) for reference in roots]
    for reference in trained:
        if reference.is_api:
            endpoint = Endpoint.from_environment(MODELS).for_check()
            problems.append(finetuning.check(reference.served_name, endpoint))
            break
    return [problem for problem in problems if problem]


class Jobs:
    """The jobs of several models. Calls `advance` with a model's key and its progress, 0 to 1."""

    def __init__(
        self, models: Sequence[Trained], store: Store, advance: Advance, endpoint: Endpoint | None = None
    ) -> None:
        self.models = {key(model): model for model in models}
        self.store, self.advance, self.endpoint = store, advance, endpoint
        self.failures: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._tries = Counter[str]()  # failed rounds in a row, by model key
        self._done: set[str] = set()

    def begin(self) -> None:
        """Starts as many jobs as the provider accepts; `finish` starts the others as these end."""
        self._run(once=True)

    def finish(self) -> dict[str, str]:
        """Polls all jobs to their end and commits the models; returns the reasons of failures by key."""
        self._run(once=False)
        return self.failures

    def _run(self, *, once: bool) -> None:
        if not self._open:
            return
        try:
            self.endpoint = self.endpoint or Endpoint.from_environment(MODELS)
            asyncio.run(self._follow(self.endpoint, once))
        except UserError as error:
            self.failures |= {k: str(error) for k in self._open}

    @property
    def _open(self) -> list[str]:
        return [k for k in self.models if k not in self._done and k not in self.failures]

    async def _follow(self, endpoint: Endpoint, once: bool) -> None:
        """Polls all jobs that have not ended, in rounds."""
        calls, wait = asyncio.Semaphore(endpoint.concurrency), FIRST_WAIT
        async with endpoint.client() as client:

            async def poll(model_key: str) -> None:
                async with calls:
                    await self._poll(FineTuning(client, endpoint), model_key)

            while True:
                await asyncio.gather(*map(poll, self._open))
                if once or not self._open:
                    return
                await asyncio.sleep(wait)
                wait = min(wait * GROWTH, LONGEST_WAIT)

    async def _poll(self, provider: FineTuning, model_key: str) -> None:
        """Starts one model's job if it has none, and handles its status."""
        from openai import APIError

        model = self.models[model_key]
        try:
            job = await self._job(provider, model_key)
            self._tries.pop(model_key, None)
            if job.status == "succeeded":
                self._commit(model, job)
                self._done.add(model_key)
                self.advance(model_key, 1.0)
            elif job.status in ENDED_BADLY:
                self.store.drop_parts(model)
                ended = "was cancelled" if job.status == "cancelled" else "failed"
                reason = f": {job.error.message}" if job.error and job.error.message else ""
                self.failures[model_key] = f"the provider's job {job.id} {ended}{reason}"
            else:
                self.advance(model_key, _share(job))
        except (ConditionError, UserError) as error:
            self.failures[model_key] = str(error)
        except (APIError, TimeoutError, GarbageError) as error:
            if not self._may_retry(model_key, error, provider.endpoint.attempts):
                name = model.reference.served_name
                self.failures[model_key] = error_message(error, provider.endpoint, WHO, name)

    def _may_retry(self, model_key: str, error: Exception, most: int) -> bool:
        """Whether to retry in the next round: for some rounds in a row, or until another job ends."""
        # A full account accepts a job as soon as another ends; that may take hours and counts as no try.
        others = (set(self._ids) & set(self._open)) - {model_key}
        if status(error) == FULL and others and not is_spent(error):
            return True
        self._tries[model_key] += 1
        return should_retry(error) is not False and self._tries[model_key] < most

    async def _job(self, provider: FineTuning, model_key: str) -> "FineTuningJob":
        """The current state of the model's job, which is started if there is none.

        The id of the uploaded file is saved before the job is created. If the response with the job's id is
        lost, the next round finds the job by its file and does not pay for another.
        """
        model = self.models[model_key]
        job_id = self._ids.get(model_key) or self._part(model, JOB)
        if job_id is not None:
            self._ids[model_key] = job_id
            return await self._known(provider, model, job_id)
        file = self._part(model, FILE)
        job = None
        if file is None:
            file = await provider.upload(f"{model_key}.jsonl", conversations(model, self.store))
            self._keep(model, FILE, file)
        else:
            job = await provider.job_of(file)
        if job is None:
            name = _served(model.reference, self.store)
            suffix = f"undertow-{model_key[:8]}"
            job = await provider.start(name, file, _settings(model), model.seed % SEEDS, model_key, suffix)
        self._keep(model, JOB, job.id)
        self._ids[model_key] = job.id
        return job

    async def _known(self, provider: FineTuning, model: Trained, job_id: str) -> "FineTuningJob":
        """The state of a job whose id was saved. Raises ConditionError if the account has no such job."""
        from openai import NotFoundError

        try:
            return await provider.job(job_id)
        except NotFoundError:
            raise ConditionError(
                f"{provider.endpoint.url} ({provider.endpoint.variable}) has no job {job_id}, which was "
                f"started for {model.kind} {key(model)[:16]}; use the account that started it, or "
                f"delete {self.store.url}/partial/{model.kind}/{key(model)} to pay for another"
            ) from None

    def _part(self, model: Trained, name: str) -> str | None:
        """An id that this or an earlier sweep saved; None without one."""
        if name not in self.store.parts(model):
            return None
        return str(json.loads(self.store.read_part(model, name))["id"])

    def _keep(self, model: Trained, name: str, value: str) -> None:
        """Saves an id as a part of the artifact."""
        self.store.write_part(model, name, json.dumps({"id": value}).encode())

    def _commit(self, model: Trained, job: "FineTuningJob") -> None:
        """Commits the finished model's name as the artifact. Raises ConditionError if the job has none."""
        if not job.fine_tuned_model:
            raise ConditionError(
                f"the provider's job {job.id} succeeded but names no model; ask the provider"
            )
        facts = {
            "model": job.fine_tuned_model,
            "job": job.id,
            "trained_tokens": job.trained_tokens,
            **{name: getattr(job.hyperparameters, name, None) for name in _settings(model)},  # as chosen
        }
        # `seconds` is the provider's own time: this process may have started hours after the job.
        folder = self.store.aside()
        (folder / POINTER).write_text(json.dumps(facts, indent=1))
        (folder / HISTORY).write_text("[]")  # a provider has no reports of epochs
        self.store.commit(model, folder, float((job.finished_at or job.created_at) - job.created_at), facts)
        self.store.drop_parts(model)


def _served(reference: Reference, store: Store) -> str:
    """The provider's name for a reference model; for a student, the id that the provider gave it."""
    if reference.student is None:
        return reference.served_name
    return str(json.loads((store.fetch(reference.student) / POINTER).read_text())["model"])


def _settings(model: Trained) -> dict[str, Any]:
    """The hyperparameters of a model's job, by their names in the provider's API."""
    recipe = trained_by(model)
    if not isinstance(recipe, ProviderFinetuning):
        raise ValueError("only models with a ProviderFinetuning recipe have a job")
    return {
        "n_epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "learning_rate_multiplier": recipe.learning_rate_multiplier,
    }


def _share(job: "FineTuningJob") -> float:
    """A job's progress from 0 to 1, by the provider's estimate of when it ends."""
    if job.status != "running":
        return BEFORE_RUNNING
    if not job.estimated_finish:
        return RUNNING
    whole = max(1.0, job.estimated_finish - job.created_at)
    return min(0.95, max(BEFORE_RUNNING, (time.time() - job.created_at) / whole))
