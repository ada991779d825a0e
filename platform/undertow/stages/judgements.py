"""Collects the replies of judges about rows of data sets and about answers of models, in the driver process.

A single process makes all calls, so that the limit on concurrent calls holds for the whole sweep and API keys
never leave the driver's environment. Rows are selected exactly as `filters` and `assessment` select them
later: first by the format's rules, then judge by judge, each judge seeing only the rows that the previous
ones kept. Messages whose replies are in the store are not sent again.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from undertow.api.endpoint import Endpoint
from undertow.errors import ConditionError, UserError, last_line
from undertow.judging.client import ReplyCollector, probe
from undertow.judging.judges import LLMJudge
from undertow.stages.assessment import answers_of
from undertow.stages.filters import FilteredRows, by_judge, by_rules, replies_to
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.datasets import Dataset
from undertow.study.extensions import Judge
from undertow.study.identity import key
from undertow.study.measurements import Assessment

ToJudge = Dataset | Assessment
OnProgress = Callable[[float], None]


@dataclass(frozen=True)
class Judged:
    """The outcome of judging one artifact.

    Attributes:
        asked: for each judge that was called, its name and the counts of its calls (see `Tally.facts`).
        failure: why the artifact still lacks replies; "" if it lacks none.
        traceback: of an unexpected failure: a bug in this package or in a user's own judge.
    """

    artifact: ToJudge
    asked: tuple[dict[str, Any], ...]
    failure: str = ""
    traceback: str = ""


def models_of(artifact: ToJudge) -> list[LLMJudge]:
    """The judges of an artifact that call an endpoint."""
    judges = artifact.judges if isinstance(artifact, Dataset) else artifact.panel.judges
    return [judge for judge in judges if isinstance(judge, LLMJudge)]


def check_judges(artifacts: Iterable[ToJudge]) -> list[str]:
    """Makes one small call to each model that judges `artifacts`; returns the reasons of temporary failures.

    Raises UserError if no call to a model can succeed, so that the user learns it before the sweep spends
    anything.
    """
    questions = [judge.question for artifact in artifacts for judge in models_of(artifact)]
    if not questions:
        return []
    endpoint = Endpoint.from_environment().for_check()
    models = {(q.model, q.temperature, q.max_tokens, q.probability_of): q for q in questions}
    return [trouble for question in models.values() if (trouble := probe(question, endpoint))]


def judge_all(
    artifacts: Sequence[ToJudge],
    store: Store,
    advance: OnProgress,
    endpoint: Endpoint | None = None,
    collector: ReplyCollector | None = None,
) -> Iterator[Judged]:
    """Collects every reply that the artifacts need and the store lacks, one artifact after the other.

    `advance` is called with increments that add up to 1 per artifact. A failure (no endpoint, no answer)
    fails only its artifact. A model that cannot answer any more messages fails every artifact that needs it.

    Args:
        collector: shared by several calls, so that such a model is not called again.
    """
    collector = collector or ReplyCollector(store, endpoint)
    for artifact in artifacts:
        progress = _Progress(advance)
        asked: list[dict[str, Any]] = []
        failure, trace = "", ""
        try:
            _complete(artifact, collector, asked, progress)
        except (ConditionError, UserError) as error:
            failure = str(error)
        except Exception as error:
            failure, trace = f"its judges failed: {last_line(error)}", traceback.format_exc()
        progress.set(1.0)
        yield Judged(artifact, tuple(asked), failure, trace)


def _complete(
    artifact: ToJudge, collector: ReplyCollector, asked: list[dict[str, Any]], progress: "_Progress"
) -> None:
    """Puts the missing replies about one artifact into the store; appends each judge's counts to `asked`.

    `asked` is an argument instead of a result, so that the counts survive an error. Raises ConditionError if
    replies stay missing.
    """
    judges, left = _judges_and_rows(artifact, collector.store)
    for number, judge in enumerate(judges):
        trouble = ""
        if isinstance(judge, LLMJudge):
            messages = [judge.question.message(row["prompt"], row["completion"]) for row in left.rows]
            collected = collector.collect(
                judge.question, messages, progress.part(number / len(judges), 1 / len(judges))
            )
            if collected.tally:
                asked.append({"judge": judge.name, **collected.tally.facts()})
            replies = [collected.replies.get(message) for message in messages]
            trouble = collected.trouble
        else:
            replies = replies_to(judge, left.rows, collector.store)
        by_judge(judge, left, replies, f"{artifact.kind} {key(artifact)[:16]}", trouble)


def _judges_and_rows(artifact: ToJudge, store: Store) -> tuple[Sequence[Judge], FilteredRows]:
    """An artifact's judges in their order, and the rows that the first of them sees."""
    if isinstance(artifact, Assessment):
        return artifact.panel.judges, answers_of(artifact, store)
    folder = store.fetch(artifact.completions) / DATA
    rows = pq.read_table(folder, columns=["prompt", "completion", "finished"]).to_pylist()
    return artifact.judges, by_rules(artifact, rows)


class _Progress:
    """The judged share of an artifact, from 0 to 1; reports increments to `advance`."""

    def __init__(self, advance: OnProgress) -> None:
        self.advance, self.share = advance, 0.0

    def part(self, start: float, width: float) -> OnProgress:
        """A callback that takes the finished share of the part that begins at `start` and is `width` wide."""
        return lambda share: self.set(start + share * width)

    def set(self, share: float) -> None:
        """Sets the share of the whole artifact; a smaller one than before is ignored."""
        if share > self.share:
            self.advance(share - self.share)
            self.share = share
