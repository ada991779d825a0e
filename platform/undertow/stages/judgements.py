"""Asking judges about rows of data sets and answers of models: in the sweep's own process.

One process makes all calls, so that the number of calls at a time holds for the whole sweep, and keys stay in
its environment and travel nowhere. Rows are found as filters and assessments will find them: by the format's
rules, then judge by judge, each asked about what those before it kept. What is in the store is not asked
again.
"""

import dataclasses
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from undertow.api.client import Tally
from undertow.api.endpoint import Endpoint
from undertow.errors import ConditionError, UserError, last_line
from undertow.judging.client import ask, probe
from undertow.judging.judges import LLMJudge, Question
from undertow.judging.replies import Buffer, Replies, Reply
from undertow.stages.assessment import answers_of
from undertow.stages.filters import Sieve, by_judge, by_rules, missing_replies, replies_to
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.artifacts import Assessment, Dataset
from undertow.study.extensions import Judge
from undertow.study.identity import key

PROBES = 2  # attempts: whether an endpoint is up is only worth a warning before it is needed

ToJudge = Dataset | Assessment
OnProgress = Callable[[float], None]


@dataclass(frozen=True)
class Judged:
    """What became of an artifact's judging: what each judge was asked anew, and why it failed ("" if not).

    Attributes:
        traceback: of a failure that is ours, or of a user's own judge.
    """

    artifact: ToJudge
    asked: tuple[dict[str, Any], ...]
    failure: str = ""
    traceback: str = ""


def models_of(artifact: ToJudge) -> list[LLMJudge]:
    """The judges that are asked at an endpoint."""
    judges = artifact.judges if isinstance(artifact, Dataset) else artifact.panel.judges
    return [judge for judge in judges if isinstance(judge, LLMJudge)]


def check_judges(artifacts: Iterable[ToJudge]) -> list[str]:
    """One small call to each model that is to judge `artifacts`; what is wrong for the moment, in words.

    Raises UserError where asking can never work, so that it is known before anything is spent.
    """
    questions = [judge.question for artifact in artifacts for judge in models_of(artifact)]
    if not questions:
        return []
    endpoint = dataclasses.replace(Endpoint.from_environment(), attempts=PROBES)
    models = {(q.model, q.temperature, q.max_tokens): q for q in questions}
    return [trouble for question in models.values() if (trouble := probe(question, endpoint))]


def judge_all(
    artifacts: Sequence[ToJudge], store: Store, advance: OnProgress, endpoint: Endpoint | None = None
) -> Iterator[Judged]:
    """Asks for every reply that the artifacts need and the store lacks, one artifact after the other.

    `advance` is called with finished parts of an artifact that add up to 1. A failure (no endpoint, no
    answer) is that of its artifact; a model that can be asked nothing more fails those that need it.
    """
    asking = _JudgementQueue(store, endpoint)
    for artifact in artifacts:
        progress = _Progress(advance)
        asked: list[dict[str, Any]] = []
        failure, trace = "", ""
        try:
            asking.complete(artifact, asked, progress)
        except (ConditionError, UserError) as error:
            failure = str(error)
        except Exception as error:
            failure, trace = f"its judges failed: {last_line(error)}", traceback.format_exc()
        progress.to(1.0)
        yield Judged(artifact, tuple(asked), failure, trace)


class _JudgementQueue:
    """One sweep's calls: the endpoint, opened when it is first needed, and the models given up."""

    def __init__(self, store: Store, endpoint: Endpoint | None) -> None:
        self.store, self.endpoint = store, endpoint
        self.given_up: dict[str, str] = {}

    def complete(self, artifact: ToJudge, asked: list[dict[str, Any]], progress: "_Progress") -> None:
        """Puts an artifact's missing replies into the store.

        Raises ConditionError where some stay missing.
        """
        if isinstance(artifact, Dataset):
            self._ask_all(artifact, artifact.judges, self._rows(artifact), asked, progress)
        else:
            counted, shows = artifact.panel.counted, artifact.panel.shows
            self._ask_all(artifact, (*counted, shows), answers_of(artifact, self.store), asked, progress)

    def _rows(self, dataset: Dataset) -> Sieve:
        folder = self.store.fetch(dataset.completions) / DATA
        rows = pq.read_table(folder, columns=["prompt", "completion", "finished"]).to_pylist()
        return by_rules(dataset, rows)

    def _ask_all(
        self,
        artifact: ToJudge,
        judges: Sequence[Judge],
        left: Sieve,
        asked: list[dict[str, Any]],
        progress: "_Progress",
    ) -> None:
        """Each judge about the rows that those before it kept."""
        for number, judge in enumerate(judges):
            replies = replies_to(judge, left.rows, self.store)
            if isinstance(judge, LLMJudge) and None in replies:
                progress.within(number, len(judges))
                replies = self._ask_about(judge, left, replies, asked, progress)
            if missing := replies.count(None):
                reason = self.given_up.get(judge.question.model) if isinstance(judge, LLMJudge) else None
                place = f"{artifact.kind} {key(artifact)[:16]}"
                why = f" ({reason or asked[-1]['trouble']})"
                raise ConditionError(missing_replies(place, judge, missing, len(replies)) + why)
            by_judge(judge, left, [reply for reply in replies if reply is not None])

    def _ask_about(
        self,
        judge: LLMJudge,
        left: Sieve,
        replies: Sequence[Reply | None],
        asked: list[dict[str, Any]],
        progress: "_Progress",
    ) -> list[Reply | None]:
        """The replies with those that can be had now; what it took is added to `asked`."""
        question = judge.question
        messages = [question.message(row["prompt"], row["completion"]) for row in left.rows]
        missing = [m for m, reply in zip(messages, replies, strict=True) if reply is None]
        if question.model in self.given_up:
            return list(replies)
        got, tally = self._ask(question, list(dict.fromkeys(missing)), progress)
        if tally.fatal:
            self.given_up[question.model] = tally.trouble
        asked.append({"judge": judge.name, **tally.facts()})
        return [reply or got.get(m) for m, reply in zip(messages, replies, strict=True)]

    def _ask(
        self, question: Question, messages: list[str], progress: "_Progress"
    ) -> tuple[dict[str, Reply], Tally]:
        """Replies by message, each stored as it comes: a sweep that is ended keeps what it was told."""
        self.endpoint = self.endpoint or Endpoint.from_environment()
        got: dict[str, Reply] = {}
        buffer = Buffer(Replies(question, self.store))

        def keep(message: str, reply: Reply) -> None:
            got[message] = reply
            buffer.add(message, reply)
            progress.part(len(got) / len(messages))

        try:
            tally = ask(question, messages, self.endpoint, keep)
        finally:
            buffer.flush()
        return got, tally


class _Progress:
    """How much of an artifact is judged, from 0 to 1, told on as it grows."""

    def __init__(self, advance: OnProgress) -> None:
        self.advance = advance
        self.done, self.start, self.width = 0.0, 0.0, 1.0

    def within(self, number: int, parts: int) -> None:
        """What follows is part `number` of `parts`."""
        self.start, self.width = number / parts, 1 / parts

    def part(self, share: float) -> None:
        """So much of the present part is done."""
        self.to(self.start + share * self.width)

    def to(self, share: float) -> None:
        """So much of the whole is done."""
        if share > self.done:
            self.advance(share - self.done)
            self.done = share
