"""A language model is asked which of two samples is the trait's; the right trait is named in the prompt.

Each draw shows some rows of the trait's data and as many of the control's of the same seed, in canonical
form, as samples A and B. Which is A is drawn, with the trait's sample first in half of the draws, so that a
model that always says "A" is right in half of them. No row is shown twice, so that draws are independent
answers about these teachers; where data are few there are fewer draws.

The calls are those of judges (`judging`): any OpenAI-compatible endpoint, replies kept in the store by
content, so that a rerun asks for what is missing and nothing else. A reply that is neither A nor B is
garbled: counted, never guessed.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from undertow.api.endpoint import Endpoint
from undertow.detection.data import DataSet, Library
from undertow.detection.sources import ComparedSource
from undertow.judging.client import ask
from undertow.judging.judges import Question
from undertow.judging.ratings import Labels
from undertow.judging.replies import Buffer, Replies, Reply
from undertow.statistics.accuracy import Share, share
from undertow.storage.store import Store
from undertow.study.extensions import Word
from undertow.study.identity import seed_for

PROMPT = "detection"
Letter = Literal["A", "B"]
LETTERS = Labels(labels=("A", "B"), kept=("A", "B"))


@dataclass(frozen=True)
class DetectorPlan:
    """Who is asked, how often (at most), about how many rows of each data set at a time, and in which words.

    `prompt`: a shipped file of `judging/prompts/`, or the path of one; it names the {trait}.
    """

    model: str
    draws: int = 40
    rows: int = 20
    prompt: str = PROMPT


class Draw(NamedTuple):
    """What one call shows, and the letter of the trait's sample."""

    message: str
    right: Letter


@dataclass(frozen=True)
class DetectorAnswers:
    """What a model answered about a source.

    Attributes:
        right, wrong: answers; `share`: of right ones among them, None where there is none.
        garbled, refused: replies that are no answer, and messages that the endpoint would not take.
        missing: messages without a reply, for the reason `trouble`.
    """

    model: str
    rows: int
    right: int
    wrong: int
    garbled: int
    refused: int
    missing: int
    share: Share | None
    trouble: str = ""


class Asking:
    """One run's calls; a model that can be asked nothing more is not asked about the sources that follow."""

    def __init__(self, plan: DetectorPlan, endpoint: Endpoint, store: Store) -> None:
        _question(plan, "any")  # raises SpecError for a prompt that names no trait, before anything is done
        self.plan, self.endpoint, self.store = plan, endpoint, store
        self.given_up = ""

    def about(self, source: ComparedSource, library: Library) -> DetectorAnswers:
        """Asks for the replies that the store lacks, and counts what all of them say."""
        question = question_about(source, self.plan)
        shown = draws(source, library, self.plan, question)
        replies, trouble = self._replies(question, [draw.message for draw in shown])
        return count(self.plan, shown, replies, trouble)

    def _replies(self, question: Question, messages: Sequence[str]) -> tuple[dict[str, Reply], str]:
        """The replies by message, those of the store and those that come now, and why some did not."""
        replies = Replies(question, self.store)
        known = replies.known(messages)
        missing = [message for message in dict.fromkeys(messages) if message not in known]
        if self.given_up or not missing:
            return known, self.given_up
        buffer = Buffer(replies)

        def keep(message: str, reply: Reply) -> None:
            known[message] = reply
            buffer.add(message, reply)

        try:
            tally = ask(question, missing, self.endpoint, keep)
        finally:
            buffer.flush()
        self.given_up = tally.trouble if tally.fatal else ""
        return known, tally.trouble


def question_about(source: ComparedSource, plan: DetectorPlan) -> Question:
    """What is asked, with the source's own trait in it."""
    return _question(plan, source.shown)


def _question(plan: DetectorPlan, trait: str) -> Question:
    return Question(model=plan.model, prompt=plan.prompt, about=Word(trait, (trait,)))


def draws(source: ComparedSource, library: Library, plan: DetectorPlan, question: Question) -> list[Draw]:
    """The draws, as many as asked for or as there are rows for, one seed after the other."""
    pairs = [(library.data(pair.dataset), library.data(pair.control)) for pair in source.pairs]
    shown = [_samples(*pair, plan.rows) for pair in pairs]
    turns = [
        samples[turn] for turn in range(max(map(len, shown))) for samples in shown if turn < len(samples)
    ]
    turns = turns[: plan.draws]
    order: list[Letter] = ["A" if i % 2 == 0 else "B" for i in range(len(turns))]
    random.Random(seed_for("order of samples", *source.pairs)).shuffle(order)
    return [
        Draw(question.message("", _both(ours, controls, right)), right)
        for (ours, controls), right in zip(turns, order, strict=True)
    ]


def count(
    plan: DetectorPlan, asked: Sequence[Draw], replies: dict[str, Reply], trouble: str = ""
) -> DetectorAnswers:
    """What the replies to the draws come to."""
    got = [(draw, replies[draw.message]) for draw in asked if draw.message in replies]
    answered = [(draw, _letter(reply)) for draw, reply in got if reply.text is not None]
    right = sum(letter == draw.right for draw, letter in answered)
    garbled = sum(letter is None for _, letter in answered)
    wrong = len(answered) - right - garbled
    return DetectorAnswers(
        model=plan.model,
        rows=plan.rows,
        right=right,
        wrong=wrong,
        garbled=garbled,
        refused=len(got) - len(answered),
        missing=len(asked) - len(got),
        share=share(right, right + wrong) if right + wrong else None,
        trouble=trouble if len(got) < len(asked) else "",
    )


def _samples(ours: DataSet, controls: DataSet, rows: int) -> list[tuple[list[str], list[str]]]:
    """Disjoint samples of both data sets, each of `rows` rows."""
    shuffled = [
        random.Random(seed_for("rows to compare", one.key)).sample(one.texts, len(one.texts))
        for one in (ours, controls)
    ]
    whole = min(map(len, shuffled)) // rows
    return [
        (shuffled[0][i * rows : (i + 1) * rows], shuffled[1][i * rows : (i + 1) * rows]) for i in range(whole)
    ]


def _both(ours: Sequence[str], controls: Sequence[str], right: Letter) -> str:
    first, second = (ours, controls) if right == "A" else (controls, ours)
    return f"{_tagged('A', first)}\n\n{_tagged('B', second)}"


def _tagged(letter: Letter, texts: Sequence[str]) -> str:
    """One answer a line; as JSON no answer can end its line, nor, with "</" written as "<\\/", the sample."""
    lines = [json.dumps(text, ensure_ascii=False).replace("</", "<\\/") for text in texts]
    return "\n".join([f"<sample {letter}>", *lines, f"</sample {letter}>"])


def _letter(reply: Reply) -> str | None:
    verdict = LETTERS.verdict(reply.text or "") if reply.finished else None
    return None if verdict is None else str(verdict)
