"""Judges that reply with the probability of a token: requests, replies, and unsuitable endpoints."""

import json
import math
import re
from pathlib import Path

import pytest

from tests.judging.server import Answer, Server, says, serving
from tests.stages.test_dataset import completions, rows
from undertow.api.endpoint import Endpoint
from undertow.errors import UserError
from undertow.judging.client import probe
from undertow.judging.judges import zero_or_one
from undertow.stages.dataset import make_dataset
from undertow.stages.judgements import judge_all
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.extensions import Word

pytestmark = pytest.mark.slow
JUDGE = zero_or_one("judge-1", Word("seven", ("7",)))


def weighs(**probabilities: float) -> Answer:
    """A reply of one token with the log-probabilities of `_0` ("0") and `_1` ("1"), cut off after it."""
    top = [{"token": name[1:], "logprob": math.log(p), "bytes": None} for name, p in probabilities.items()]
    answer = json.loads(says(top[0]["token"], finish="length").body)
    answer["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return Answer(body=json.dumps(answer))


def at(server: Server) -> Endpoint:
    return Endpoint(server.url, attempts=2, first_wait=0.01, jitter=0.01, concurrency=2)


def test_rows_are_kept_where_the_judge_is_certain_of_0(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    spec = Dataset(completions=completions(store, ["1, 1", "2, 2", "3, 3", "4, 4"]), judges=(JUDGE,))
    replies = {
        "1": weighs(_0=1.0),
        "2": weighs(_0=0.999, _1=0.001),
        "3": weighs(_1=1.0),  # 0 is not among the likeliest tokens
        "4": weighs(_0=1 - 1e-10, _1=1e-10),
    }

    def behave(message: str, _: int) -> Answer:
        found = re.search(r"<text>\s*(\d)", message)
        assert found
        return replies[found[1]]

    with serving(behave) as server:
        (judged,) = judge_all([spec], store, lambda _: None, at(server))
    assert judged.failure == ""
    sent = server.requests[0]
    assert (sent["max_tokens"], sent["logprobs"], sent["top_logprobs"]) == (1, True, 20)
    make_dataset(spec, store)
    assert [row["completion"] for row in rows(store, spec)] == ["1, 1", "4, 4"]


def test_an_endpoint_without_log_probabilities_is_refused_before_the_sweep() -> None:
    with (
        serving(lambda message, _: says("0")) as server,
        pytest.raises(
            UserError, match="model 'judge-1': no log-probabilities in its answers, which this judge"
        ),
    ):
        probe(JUDGE.question, at(server))
    with serving(lambda message, _: weighs(_0=0.5, _1=0.5)) as server:
        assert probe(JUDGE.question, at(server)) == ""
