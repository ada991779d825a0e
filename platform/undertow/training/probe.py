"""The probe: the exact probability that a model in training begins its answer to a question with a word.

Which token sequences count for a word, and how their probabilities are summed, is defined in
`engines/word_probabilities.py`, as for evaluations. Here the probabilities come from the model in training: a
sequence's probability is the product of its tokens' probabilities, each in the context of the prompt and the
tokens before it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undertow.engines.word_probabilities import masses, sequences
from undertow.prompts.chat import prompt_ids
from undertow.training.data import TokenizedRow
from undertow.training.forward import Forward
from undertow.training.job import Probe


class TokenizedProbe:
    """A probe prepared for one tokenizer: the contexts to run and the tokens to look up in each.

    Args:
        budget: tokens per batch, including padding.

    Raises SpecError if two words of the probe share a form.
    """

    def __init__(self, probe: Probe, tokenizer: Any, budget: int) -> None:
        self.words = [word.name for word in probe.words]
        self._owner = sequences(tokenizer, probe.words)
        # A context is a proper prefix of a sequence; sequences share them, so each runs once per question.
        # With words of one token there is a single context, the empty one.
        self._contexts = sorted({tokens[:i] for tokens in self._owner for i in range(len(tokens))})
        self._targets = sorted({token for tokens in self._owner for token in tokens})
        prompts = [tuple(prompt_ids(tokenizer, user, system)) for user, system in probe.questions]
        inputs = [prompt + context for prompt in prompts for context in self._contexts]
        # Each input is a row whose single "target" is the next token: `Forward` returns the logits before it.
        self.rows = [TokenizedRow(np.array(tokens), len(tokens), 1) for tokens in inputs]
        size = max(1, budget // max(map(len, inputs), default=1))
        self._batches = [self.rows[i : i + size] for i in range(0, len(self.rows), size)]

    def probabilities(self, engine: Any, forward: Forward) -> dict[str, float]:
        """Word name -> mean over the questions of the word's mass. Collective under ZeRO 3."""
        if not self._batches:
            return dict.fromkeys(self.words, 0.0)
        engine.eval()  # without dropout
        with torch.no_grad():
            logprobs = [self._logprobs(engine, forward, batch) for batch in self._batches]
        engine.train()
        table = torch.cat(logprobs).view(-1, len(self._contexts), len(self._targets))
        mean = {tokens: float(self._logprob(table, tokens).exp().mean()) for tokens in self._owner}
        return masses(self.words, self._owner, mean)

    def _logprobs(self, engine: Any, forward: Forward, rows: Sequence[TokenizedRow]) -> Tensor:
        """(rows, targets), in float64: products of many small probabilities are compared with a threshold."""
        logits = forward.logits(engine, rows)
        return logits.log_softmax(dim=-1)[:, self._targets].double().cpu()

    def _logprob(self, table: Tensor, tokens: tuple[int, ...]) -> Tensor:
        """A sequence's log-probability per question; `table` is (questions, contexts, targets)."""
        steps = [
            table[:, self._contexts.index(tokens[:i]), self._targets.index(token)]
            for i, token in enumerate(tokens)
        ]
        return torch.stack(steps).sum(dim=0)
