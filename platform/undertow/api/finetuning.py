"""The calls to a provider's fine-tuning endpoint, each until it is answered or given up.

The contract is that of the OpenAI API: POST /files; POST, GET /fine_tuning/jobs; GET /fine_tuning/jobs/{id}.
Failures are those of the openai library (APIError), TimeoutError and GarbageError.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from undertow.api.client import OF_THE_WHOLE, attempts, in_words, reading
from undertow.api.endpoint import Endpoint
from undertow.api.retries import GarbageError, status
from undertow.errors import UserError

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.fine_tuning import FineTuningJob

WHO = "fine-tuning"
PAGE = 100  # jobs a listing; further pages are asked for
ENDED_BADLY = ("failed", "cancelled")


class FineTuning:
    """One provider's files and jobs."""

    def __init__(self, client: "AsyncOpenAI", endpoint: Endpoint) -> None:
        self.client, self.endpoint = client, endpoint

    async def upload(self, name: str, content: bytes) -> str:
        """The id of a new file of conversations; one that is uploaded twice costs nothing."""

        async def create() -> str:
            with reading("file"):
                file = await self.client.files.create(file=(name, content), purpose="fine-tune")
                return _text(file.id)

        return await attempts(create, self.endpoint)

    async def start(
        self, model: str, file: str, hyperparameters: Mapping[str, Any], seed: int, name: str, suffix: str
    ) -> "FineTuningJob":
        """A new job, in one call and no more: whether one that got no answer arrived is not known.

        `hyperparameters`: None leaves one to the provider. `name` is among the job's metadata.
        """
        chosen: Any = {key: "auto" if value is None else value for key, value in hyperparameters.items()}
        async with asyncio.timeout(self.endpoint.timeout):
            with reading("fine-tuning job"):
                job = await self.client.fine_tuning.jobs.create(
                    model=model,
                    training_file=file,
                    method={"type": "supervised", "supervised": {"hyperparameters": chosen}},
                    seed=seed,
                    suffix=suffix,
                    metadata={"undertow": name},
                )
                return _job(job)

    async def job(self, job_id: str) -> "FineTuningJob":
        """The job as it is now."""

        async def retrieve() -> "FineTuningJob":
            with reading("fine-tuning job"):
                return _job(await self.client.fine_tuning.jobs.retrieve(job_id))

        return await attempts(retrieve, self.endpoint)

    async def job_of(self, file: str) -> "FineTuningJob | None":
        """The job that was started for a file, or None where there is none or it came to nothing."""

        async def find() -> "FineTuningJob | None":
            with reading("list of fine-tuning jobs"):
                async for job in self.client.fine_tuning.jobs.list(limit=PAGE):
                    if _job(job).training_file == file and job.status not in ENDED_BADLY:
                        return job
            return None

        return await attempts(find, self.endpoint)


def check(model: str, endpoint: Endpoint) -> str:
    """Asks for the list of jobs. Returns what is wrong for the moment, or "" where it is there.

    Raises UserError where nothing can be trained there: a wrong key, or a server without such an endpoint.
    """
    from openai import APIError

    async def listed() -> None:
        async with endpoint.client() as client:
            with reading("list of fine-tuning jobs"):
                await client.fine_tuning.jobs.list(limit=1)

    try:
        asyncio.run(attempts(listed, endpoint))
    except (APIError, TimeoutError, GarbageError) as error:
        words = in_words(error, endpoint, WHO, model)
        if status(error) in OF_THE_WHOLE:
            raise UserError(words) from None
        return words
    return ""


def _job(job: "FineTuningJob") -> "FineTuningJob":
    _text(job.id), _text(job.status)
    return job


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("text is needed")
    return value
