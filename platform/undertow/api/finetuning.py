"""Calls to a provider's fine-tuning endpoint, retried until they are answered or abandoned.

The contract is the OpenAI API's: POST /files; POST, GET /fine_tuning/jobs; GET /fine_tuning/jobs/{id}.
Calls raise the openai library's APIError, TimeoutError or GarbageError.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from undertow.api.client import FATAL_ERRORS, attempts, error_message
from undertow.api.endpoint import Endpoint
from undertow.api.responses import parsed
from undertow.api.retries import GarbageError, status
from undertow.errors import UserError

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.pagination import AsyncCursorPage
    from openai.types.fine_tuning import FineTuningJob

WHO = "fine-tuning"
JOB, JOBS = "fine-tuning job", "list of fine-tuning jobs"  # in messages
PAGE = 100  # jobs per listing; the library requests further pages
ENDED_BADLY = ("failed", "cancelled")


class FineTuning:
    """One provider's files and jobs."""

    def __init__(self, client: "AsyncOpenAI", endpoint: Endpoint) -> None:
        self.client, self.endpoint = client, endpoint

    async def upload(self, name: str, content: bytes) -> str:
        """Uploads a file of conversations and returns its id. A repeated upload is free of charge."""

        async def create() -> str:
            file = self.client.files.create(file=(name, content), purpose="fine-tune")
            return await parsed("file", file, lambda file: _text(file.id))

        return await attempts(create, self.endpoint)

    async def start(
        self, model: str, file: str, hyperparameters: Mapping[str, Any], seed: int, name: str, suffix: str
    ) -> "FineTuningJob":
        """Starts a job, with a single call: one without a response may still have started a (paid) job.

        Args:
            hyperparameters: None as a value leaves the choice to the provider.
            name: stored in the job's metadata.
            suffix: part of the finetuned model's name.
        """
        chosen: Any = {key: "auto" if value is None else value for key, value in hyperparameters.items()}
        async with asyncio.timeout(self.endpoint.timeout):
            job = self.client.fine_tuning.jobs.create(
                model=model,
                training_file=file,
                method={"type": "supervised", "supervised": {"hyperparameters": chosen}},
                seed=seed,
                suffix=suffix,
                metadata={"undertow": name},
            )
            return await parsed(JOB, job, _job)

    async def job(self, job_id: str) -> "FineTuningJob":
        """The current state of a job."""

        async def retrieve() -> "FineTuningJob":
            return await parsed(JOB, self.client.fine_tuning.jobs.retrieve(job_id), _job)

        return await attempts(retrieve, self.endpoint)

    async def job_of(self, file: str) -> "FineTuningJob | None":
        """The job that was started for a file; None if there is none, or if it failed or was cancelled."""

        async def find() -> "FineTuningJob | None":
            page = await parsed(JOBS, self.client.fine_tuning.jobs.list(limit=PAGE), _page)
            while True:
                # Each artifact uploads its own file, which therefore identifies its job.
                for job in page.data:
                    if job.training_file == file and job.status not in ENDED_BADLY:
                        return job
                if not page.has_next_page():
                    return None
                page = await parsed(JOBS, page.get_next_page(), _page)

        return await attempts(find, self.endpoint)


def check(model: str, endpoint: Endpoint) -> str:
    """Requests the list of jobs. Returns a transient problem as text, or "" if the list is returned.

    Raises UserError if the endpoint cannot train: a wrong key, or a server without fine-tuning, which may
    also answer with status 200 and something else than a list.
    """
    from openai import APIError

    async def listed() -> None:
        async with endpoint.client() as client:
            await parsed(JOBS, client.fine_tuning.jobs.list(limit=1), _page)

    try:
        asyncio.run(attempts(listed, endpoint))
    except (APIError, TimeoutError, GarbageError) as error:
        words = error_message(error, endpoint, WHO, model)
        if status(error) in FATAL_ERRORS or (isinstance(error, GarbageError) and status(error) is None):
            raise UserError(words) from None
        return words
    return ""


def _job(job: "FineTuningJob") -> "FineTuningJob":
    _text(job.id), _text(job.status)
    return job


def _page(page: "AsyncCursorPage[FineTuningJob]") -> "AsyncCursorPage[FineTuningJob]":
    for job in page.data:
        _job(job)
    return page


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("expected a non-empty string")
    return value
