"""Score: the accuracy of a language model that has to say which of two samples is the trait's.

The prompt names the trait. Each draw shows some rows of the trait's data and as many of the control's of the
same seed, in canonical form, as samples A and B. The order is random, with the trait's sample first in half
of the draws, so that a model that always replies "A" is right in half of them. No row is shown twice, so that
draws are independent; small data sets give fewer draws.

The calls are those of judges (`judging.client`): any OpenAI-compatible endpoint, with the replies saved in
the store by content, so that a rerun only asks for missing replies. A reply that is neither A nor B is
garbled: it is counted separately.
"""

import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from undertow.api.endpoint import Endpoint
from undertow.detection.data import DataSet, Library
from undertow.detection.prose import equals, two
from undertow.detection.scores import DetectionScore
from undertow.detection.sources import ComparedSource
from undertow.judging.client import ReplyCollector
from undertow.judging.judges import Question
from undertow.judging.ratings import Labels
from undertow.judging.replies import Reply
from undertow.report.table_texts import percent
from undertow.statistics.accuracy import Accuracy, measure_accuracy
from undertow.storage.store import Store
from undertow.study.extensions import Word
from undertow.study.identity import seed_for

PROMPT = "detection"
Letter = Literal["A", "B"]
LETTERS = Labels(labels=("A", "B"), kept=("A", "B"))


@dataclass(frozen=True)
class DetectorPlan:
    """The settings of the language-model detector.

    Attributes:
        model: the model's name at the endpoint.
        draws: the largest number of calls per source.
        rows: the number of rows of each of the two data sets that a call shows.
        prompt: the name of a file shipped in `judging/prompts/`, or a path; its text contains {trait}.
    """

    model: str
    draws: int = 40
    rows: int = 20
    prompt: str = PROMPT


class Draw(NamedTuple):
    """The message of one call, and the letter of the trait's sample in it."""

    message: str
    right: Letter


@dataclass(frozen=True)
class DetectorAnswers:
    """The replies of a model about one source.

    Attributes:
        right, wrong: the number of correct and incorrect answers.
        share: of correct answers among both; None if there are none.
        garbled, refused: the number of replies that are no answer, and of messages that the endpoint
            rejected.
        missing: the number of messages without a reply, for the reason `trouble`.
    """

    model: str
    rows: int
    right: int
    wrong: int
    garbled: int
    refused: int
    missing: int
    share: Accuracy | None
    trouble: str = ""


class LLMDetector:
    """Asks a language model about the sources of one run.

    A model that can answer nothing more (wrong key, unknown model …) is not called about later sources.
    Raises SpecError if the prompt has no {trait}.
    """

    def __init__(self, plan: DetectorPlan, endpoint: Endpoint, store: Store) -> None:
        _question(plan, "any")  # checks the prompt before anything is computed
        self.plan = plan
        self.collector = ReplyCollector(store, endpoint)

    def ask(self, source: ComparedSource, library: Library) -> DetectorAnswers:
        """Collects the replies about a source and counts the answers in them."""
        question = question_about(source, self.plan)
        shown = draws(source, library, self.plan, question)
        collected = self.collector.collect(question, [draw.message for draw in shown])
        return count_answers(self.plan, shown, collected.replies, collected.trouble)


def question_about(source: ComparedSource, plan: DetectorPlan) -> Question:
    """The question about a source, with the source's own trait in its prompt."""
    return _question(plan, source.shown)


def _question(plan: DetectorPlan, trait: str) -> Question:
    return Question(model=plan.model, prompt=plan.prompt, about=Word(trait, (trait,)))


def draws(source: ComparedSource, library: Library, plan: DetectorPlan, question: Question) -> list[Draw]:
    """The draws about a source, taken from its seeds in turn; fewer than `plan.draws` if rows run out."""
    pairs = [(library.data(pair.dataset), library.data(pair.control)) for pair in source.pairs]
    by_seed = []
    for number, (ours, control) in enumerate(pairs):
        sharing = [i for i, (_, other) in enumerate(pairs) if other.key == control.key]
        by_seed.append(_samples(ours, control, plan.rows, part=sharing.index(number), of=len(sharing)))
    turns = [
        samples[turn] for turn in range(max(map(len, by_seed))) for samples in by_seed if turn < len(samples)
    ]
    turns = turns[: plan.draws]
    order: list[Letter] = ["A" if i % 2 == 0 else "B" for i in range(len(turns))]
    random.Random(seed_for("order of samples", *source.pairs)).shuffle(order)
    return [
        Draw(question.message("", _both_samples(ours, controls, right)), right)
        for (ours, controls), right in zip(turns, order, strict=True)
    ]


def count_answers(
    plan: DetectorPlan, shown: Sequence[Draw], replies: Mapping[str, Reply], trouble: str = ""
) -> DetectorAnswers:
    """Counts the replies to the draws. `trouble`: the reason for missing replies."""
    replied = [(draw, replies[draw.message]) for draw in shown if draw.message in replies]
    answered = [(draw, _letter(reply)) for draw, reply in replied if reply.text is not None]
    right = sum(letter == draw.right for draw, letter in answered)
    garbled = sum(letter is None for _, letter in answered)
    wrong = len(answered) - right - garbled
    return DetectorAnswers(
        model=plan.model,
        rows=plan.rows,
        right=right,
        wrong=wrong,
        garbled=garbled,
        refused=len(replied) - len(answered),
        missing=len(shown) - len(replied),
        share=measure_accuracy(right, right + wrong) if right + wrong else None,
        trouble=trouble if len(replied) < len(shown) else "",
    )


def _samples(
    trait: DataSet, control: DataSet, rows: int, part: int, of: int
) -> list[tuple[list[str], list[str]]]:
    """Disjoint samples of `rows` rows from both data sets, as many as the smaller one has.

    Args:
        part, of: which part of the control's rows, of how many; seeds that share a control share its rows.
    """
    shuffled = [
        random.Random(seed_for("rows to compare", data.key)).sample(data.texts, len(data.texts))
        for data in (trait, control)
    ]
    shuffled[1] = shuffled[1][part::of]
    count = min(map(len, shuffled)) // rows
    return [
        (shuffled[0][i * rows : (i + 1) * rows], shuffled[1][i * rows : (i + 1) * rows]) for i in range(count)
    ]


def _both_samples(trait: Sequence[str], control: Sequence[str], right: Letter) -> str:
    first, second = (trait, control) if right == "A" else (control, trait)
    return f"{_tagged('A', first)}\n\n{_tagged('B', second)}"


def _tagged(letter: Letter, texts: Sequence[str]) -> str:
    """A sample with one row per line.

    Rows are model output and may contain anything. As JSON a row cannot end its line; with "</" written as
    "<\\/" it cannot end the sample.
    """
    lines = [json.dumps(text, ensure_ascii=False).replace("</", "<\\/") for text in texts]
    return "\n".join([f"<sample {letter}>", *lines, f"</sample {letter}>"])


def _letter(reply: Reply) -> str | None:
    """The letter of a reply; None if it is garbled."""
    verdict = LETTERS.verdict(reply.text or "") if reply.finished else None
    return None if verdict is None else str(verdict)


def _sentence(result: DetectorAnswers) -> str:
    problems = [
        f"{count} {problem}"
        for count, problem in (
            (result.garbled, "garbled"),
            (result.refused, "refused"),
            (result.missing, "missing"),
        )
        if count
    ]
    tail = f" ({', '.join(problems)})" if problems else ""
    if result.missing:
        tail += f"; run again to ask for the missing replies ({result.trouble})"
    if (share := result.share) is None:
        return f"{result.model} gave no answer{tail}."
    return (
        f"{result.model}, shown {result.rows} rows of each, was right in {share.right} of {share.answers} "
        f"({percent(share.share)}, {percent(share.low)} to {percent(share.high)}; "
        f"guessing: p {equals(share.p_value)}){tail}."
    )


def _shown_share(result: DetectorAnswers) -> str:
    if (share := result.share) is None:
        return "–"
    return f"{share.right} of {share.answers} ({two(share.low)} … {two(share.high)})"


LLM_DETECTOR: DetectionScore[DetectorAnswers] = DetectionScore(
    name="language model",
    compute=lambda data: data.detector.ask(data.source, data.library) if data.detector else None,
    csv={
        "model": lambda result: result.model,
        "right": lambda result: result.right,
        "wrong": lambda result: result.wrong,
        "garbled": lambda result: result.garbled,
        "refused": lambda result: result.refused,
        "missing": lambda result: result.missing,
        "share_right": lambda result: result.share and result.share.share,
        "share_low": lambda result: result.share and result.share.low,
        "share_high": lambda result: result.share and result.share.high,
        "p_share": lambda result: result.share and result.share.p_value,
    },
    json={"asked": dataclasses.asdict},
    table={"model right": _shown_share},
    sentence=_sentence,
    missing=lambda result: result.missing,
)
