"""Calls to a provider's fine-tuning endpoint that answers with something else."""

import asyncio

import pytest

from tests.api.provider import providing
from tests.judging.server import Answer, fails
from undertow.api.endpoint import Endpoint
from undertow.api.finetuning import FineTuning, check
from undertow.api.retries import GarbageError
from undertow.errors import UserError

PAGE = (("Content-Type", "text/html"),)


def endpoint(url: str) -> Endpoint:
    return Endpoint(url, timeout=30, attempts=2, first_wait=0.01, jitter=0.0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(body='{"error": {"message": "no such feature"}}'), "no such feature"),
        (Answer(body='{"error": {"message": "no such feature", "code": 404}}'), "no such feature"),
        (Answer(body="<html><p>Log in</p></html>", headers=PAGE), "Log in"),
        (Answer(body='{"hello": 1}'), "hello"),
        (Answer(body=""), "but empty"),
        (fails(403, "no fine-tuning with this key"), "no fine-tuning with this key; check OPENAI_API_KEY"),
    ],
)
def test_a_server_without_fine_tuning_is_refused_with_its_own_words(answer: Answer, words: str) -> None:
    with providing(orders=lambda *_: answer) as provider, pytest.raises(UserError, match=words):
        check("base-1", endpoint(provider.url))


def test_a_server_that_is_busy_causes_a_warning() -> None:
    busy = Answer(body='{"error": {"message": "busy", "code": 503}}')
    with providing(orders=lambda *_: busy) as provider:
        assert "busy" in check("base-1", endpoint(provider.url))
    with providing() as provider:
        assert check("base-1", endpoint(provider.url)) == ""


def test_an_upload_that_returns_no_file_quotes_the_server() -> None:
    async def upload(url: str) -> str:
        async with endpoint(url).client() as client:
            return await FineTuning(client, endpoint(url)).upload("rows.jsonl", b"{}")

    full = Answer(body='{"error": "the disk is full"}')
    with (
        providing(orders=lambda *_: full) as provider,
        pytest.raises(GarbageError, match="not a file: the disk is full"),
    ):
        asyncio.run(upload(provider.url))
