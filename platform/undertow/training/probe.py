"""The exact probability that a model's answer to a question begins with a word, in any of its spellings.

A surface form may be several tokens long, and then its probability is a product over them. A form that
extends another ("owls" after "owl", where "s" is a token) is already counted by the shorter one, so only
forms that extend no other are summed: the sum stays a probability.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undertow.prompts.chat import prompt_ids
from undertow.training.data import TokenizedRow, answer_ids
from undertow.training.forward import Forward
from undertow.training.job import Probe

Form = tuple[int, ...]


def distinct(forms: Sequence[Form]) -> list[Form]:
    """The forms that extend no other form, each once, in order."""
    unique = list(dict.fromkeys(forms))
    return [form for form in unique if not any(form[:length] in unique for length in range(1, len(form)))]


class Watch:
    """A probe made ready for one tokenizer: the contexts to run and the tokens to look up in each."""

    def __init__(self, probe: Probe, tokenizer: Any, budget: int) -> None:
        self.names = [word.name for word in probe.words]
        self._forms = [distinct([answer_ids(tokenizer, form) for form in word.forms]) for word in probe.words]
        every = [form for forms in self._forms for form in forms]
        self._contexts = sorted({form[:i] for form in every for i in range(len(form))})
        self._targets = sorted({token for form in every for token in form})
        prompts = [tuple(prompt_ids(tokenizer, user, system)) for user, system in probe.questions]
        sequences = [prompt + context for prompt in prompts for context in self._contexts]
        longest = max(map(len, sequences), default=1)
        size = max(1, budget // longest)
        self.rows = [TokenizedRow(np.array(sequence), len(sequence), 1) for sequence in sequences]
        self._batches = [self.rows[i : i + size] for i in range(0, len(self.rows), size)]

    def probabilities(self, engine: Any, forward: Forward) -> dict[str, float]:
        """Word name -> mean over questions of the word's mass."""
        if not self._batches:
            return {}
        engine.eval()
        with torch.no_grad():
            rows = [self._logprobs(engine, forward, batch) for batch in self._batches]
        engine.train()
        table = torch.cat(rows).view(-1, len(self._contexts), len(self._targets))
        return {name: self._mass(table, forms) for name, forms in zip(self.names, self._forms, strict=True)}

    def _logprobs(self, engine: Any, forward: Forward, rows: Sequence[TokenizedRow]) -> Tensor:
        logits = forward.logits(engine, rows)
        return logits.log_softmax(dim=-1)[:, self._targets].double().cpu()

    def _mass(self, table: Tensor, forms: Sequence[Form]) -> float:
        """`table`: (questions, contexts, targets) log-probabilities."""
        mass = torch.zeros(len(table), dtype=torch.float64)
        for form in forms:
            logprob = torch.zeros_like(mass)
            for i, token in enumerate(form):
                logprob += table[:, self._contexts.index(form[:i]), self._targets.index(token)]
            mass += logprob.exp()
        return float(mass.mean())
