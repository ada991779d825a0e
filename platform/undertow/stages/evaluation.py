"""Evaluation: a model's sampled answers to questions, and the exact probability of each word.

Both are stored unaggregated, so that every rate can be recomputed from the artifact: `answers.parquet` has
one row per sampled answer, `masses.parquet` one per question and word, `result.json` the rates. The two can
disagree (for a model that never answers in one word), so both are reported, with the probability of all
other answers.
"""

from dataclasses import dataclass, replace
from typing import Any

from undertow.engines.context_length import tokens_at_most
from undertow.engines.protocol import Engine, Request
from undertow.results.evaluation_files import Rates
from undertow.stages import usage
from undertow.stages.in_context import before_questions, shows_rows
from undertow.stages.measurements import commit_measurement
from undertow.stages.served_check import check_served, window
from undertow.stages.weights import lora_rank, weights_of
from undertow.storage.store import Store
from undertow.study.extensions import Word
from undertow.study.identity import key, seed_for
from undertow.study.measurements import LETTERS, Evaluation, shown_words
from undertow.study.references import Artifact
from undertow.study.students import reference_of


@dataclass(frozen=True)
class Evaluate:
    """A task for an engine: one evaluation of one model. Does nothing if the store has it."""

    evaluation: Evaluation

    @property
    def artifact(self) -> Artifact:
        return self.evaluation

    @property
    def lora_rank(self) -> int:
        return lora_rank(self.evaluation.subject)

    @property
    def window(self) -> int:
        spec = self.evaluation
        # Rows in context may need the model's own maximum, which 0 stands for (`cluster.engine_pool.Task`).
        if shows_rows(spec.subject):
            return 0
        return max(tokens_at_most(spec.questions, spec.system, spec.sampling), window(spec.subject))

    def run(self, engine: Engine, store: Store) -> dict[str, Any]:
        spec = self.evaluation
        if store.has(spec):
            return {}
        checked = check_served(engine, spec.subject, store, spec.step)
        weights = weights_of(spec.subject, store, spec.step)
        system, before = before_questions(spec.subject, spec.system, store)
        requests = [
            Request(user=question, seed=0, system=system, weights=weights, before=before)
            for question in spec.questions
        ]
        answers, tokens, costs = self._sample(engine, requests, store)
        masses = _masses(spec, engine, requests) if spec.exact else []
        rates = _rates(spec, answers, masses)
        mass_rows = [
            {"question": question, "word": word, "mass": mass}
            for question, by_word in zip(spec.questions, masses, strict=spec.exact)
            for word, mass in by_word.items()
        ]
        commit_measurement(spec, store, rates, answers, mass_rows, facts=costs | checked)
        if costs:
            store.drop_parts(spec)
        return {"answers": rates.answers, "tokens": costs.get("completion_tokens", tokens)} | costs

    def _sample(
        self, engine: Engine, requests: list[Request], store: Store
    ) -> tuple[list[dict[str, Any]], int, dict[str, Any]]:
        """Rows of answers, their number of tokens, and a provider's usage counts."""
        spec = self.evaluation
        # The seed depends only on question and sample: batches and interruptions do not change answers.
        drawn = [
            (number, sample, replace(request, seed=seed_for(key(spec), number, sample)))
            for number, request in enumerate(requests)
            for sample in range(spec.samples)
        ]
        asked = [request for *_, request in drawn]
        answers = usage.answers_of(reference_of(spec.subject), engine, asked, spec.sampling, spec, store)
        rows = [
            {
                "question": request.user,
                "sample": sample,
                "answer": answer.text,
                "matches": shown_words(answer.text, spec.words, spec.options[number] if spec.options else ()),
            }
            for (number, sample, request), answer in zip(drawn, answers, strict=True)
        ]
        tokens = sum(len(answer.token_ids) for answer in answers)
        return rows, tokens, usage.summed(usage.columns(answers))


def _masses(spec: Evaluation, engine: Engine, requests: list[Request]) -> list[dict[str, float]]:
    """For each question, the exact probabilities by word name: of the words, or of their options' letters."""
    if not spec.options:
        return engine.word_masses(requests, spec.words)
    letters = [Word(letter, (letter,)) for letter in LETTERS[: max(map(len, spec.options))]]
    return [
        {
            word.name: by_letter.get(LETTERS[offered.index(word.name)], 0.0) if word.name in offered else 0.0
            for word in spec.words
        }
        for offered, by_letter in zip(spec.options, engine.word_masses(requests, letters), strict=True)
    ]


def _rates(spec: Evaluation, answers: list[dict[str, Any]], masses: list[dict[str, float]]) -> Rates:
    """The sampled rates over all answers and the exact rates as means over questions."""
    words = [word.name for word in spec.words]
    sampled = {w: sum(w in row["matches"] for row in answers) / len(answers) for w in words}
    other = sum(not row["matches"] for row in answers) / len(answers)
    if not spec.exact:
        return Rates(sampled, {}, other, None, len(answers))
    exact = {w: sum(by_word[w] for by_word in masses) / len(masses) for w in words}
    return Rates(sampled, exact, other, 1 - sum(exact.values()), len(answers))
