"""The input of every score: audited rows and control rows, with what one model says about them.

Control rows are the model's own answers to the prompts of the audited rows, filtered by the same rules. If
the model itself wrote the audited rows, an audited row and a control row of the same prompt have the same
distribution, so that the mean of their differences is zero for every score. That is the null hypothesis. It
covers the prompts, the rules and the lengths of the rows, because both rows of a pair share them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from undertow.auditing.bank import Bank
from undertow.auditing.model import AuditModel, Readings, totals
from undertow.auditing.rows import FEWEST
from undertow.errors import ConditionError
from undertow.statistics.ttests import Array
from undertow.storage.store import Store
from undertow.study.extensions import Format, Trait
from undertow.study.identity import seed_for
from undertow.study.references import Reference
from undertow.training.data import TokenizedRow, TrainingRow

EXAMPLES = 64  # of a trait's question-answer pairs, for its gradient
LONGER = 4  # a model's own answers may have this many more tokens than the longest audited row
CHECKED = 8  # of the model's own answers, to compare derivatives with ratios
LEAST_CORRELATION = 0.7  # of the two; .93 and more in nano


@dataclass(frozen=True, eq=False)
class Controls:
    """A model's own answers, and the index of the audited row whose prompt each of them answers."""

    rows: tuple[TrainingRow, ...]
    answers_row: NDArray[np.intp]


def sample_controls(
    model: AuditModel,
    rows: Sequence[TrainingRow],
    rules: Format,
    draws: int,
    seed: int,
    system: str | None = None,
) -> Controls:
    """Samples `draws` answers to each prompt and keeps those that ended and pass the rules.

    Args:
        system: the system message before the prompts.

    Raises ConditionError if the model answers too few prompts in the format of the rows.
    """
    most = LONGER + max(row.targets for row in model.encode(rows, system))
    prompts = [row.prompt for row in rows] * draws
    answers = model.sample(prompts, most, seed_for("audit", seed), system)
    kept = [
        (place % len(rows), TrainingRow(prompt, answer))
        for place, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
        if answer and rules.rejection(prompt, answer) is None
    ]
    answered = {number for number, _ in kept}
    if len(answered) < FEWEST:
        raise ConditionError(
            f"the model's own answers to only {len(answered)} of {len(rows)} prompts pass the rules of the "
            f"format {rules.display_name!r}, so that there is too little to compare with (at least "
            f"{FEWEST}); name the model that wrote the rows, or raise --rows or --draws"
        )
    return Controls(tuple(row for _, row in kept), np.array([number for number, _ in kept]))


class AuditData:
    """Audited and control rows with one model's readings of them, each computed on first use.

    Arrays over rows have the audited rows first, then the control rows.

    Attributes:
        rows: the audited rows, then the control rows.
        audited: the number of audited rows.
    """

    def __init__(
        self,
        reference: Reference,
        model: AuditModel,
        store: Store,
        bank: Bank,
        rows: Sequence[TrainingRow],
        controls: Controls,
        rules: Format,
    ) -> None:
        self.reference, self.model, self.store, self.bank = reference, model, store, bank
        self.rows = (*rows, *controls.rows)
        self.audited = len(rows)
        self.rules = rules
        self._answers_row = controls.answers_row
        self._prompted: dict[Trait, Readings | None] = {}

    @cached_property
    def is_audited(self) -> NDArray[np.bool_]:
        """For each row, whether it is an audited one."""
        return np.arange(len(self.rows)) < self.audited

    @cached_property
    def prompt_numbers(self) -> NDArray[np.intp]:
        """For each row, the number of the audited row whose prompt it has."""
        return np.concatenate([np.arange(self.audited), self._answers_row])

    @cached_property
    def paired(self) -> NDArray[np.intp]:
        """The audited rows with at least one control row."""
        return np.unique(self._answers_row)

    def differences(self, values: Array) -> Array:
        """For each of the `paired` rows, its value minus the mean value of its control rows."""
        own, controls = values[: self.audited], values[self.audited :]
        sums = np.bincount(self._answers_row, weights=controls, minlength=self.audited)
        counts = np.bincount(self._answers_row, minlength=self.audited)
        return np.asarray(own[self.paired] - sums[self.paired] / counts[self.paired])

    @cached_property
    def tokens(self) -> list[TokenizedRow]:
        """The rows as tokens, after the audit's system message."""
        return self.model.encode(self.rows, self.bank.system)

    @cached_property
    def plain(self) -> Readings:
        """The reference model's readings of the rows."""
        return self.model.read(self.tokens)

    def prompted(self, trait: Trait) -> Readings | None:
        """The readings under the trait's system prompt, without gradients.

        None if the trait has no such prompt, or if rows with it are longer than the model's window.
        """
        if trait not in self._prompted:
            prompts = [row.prompt for row in self.rows]
            system = trait.system_prompt()
            rows = self.model.after_system(self.tokens, prompts, system) if system else None
            self._prompted[trait] = self.model.read(rows, gradients=False) if rows else None
        return self._prompted[trait]

    def probed(self, trait: Trait) -> list[Array]:
        """The token log-probabilities by the trait's probes, averaged over the probes. A pass each."""
        probes = self.bank.probes(self.reference, trait)
        readings = [self.model.with_probe(self.tokens, self.store.fetch(probe)) for probe in probes]
        return [np.mean(of_row, axis=0) for of_row in zip(*readings, strict=True)]

    @cached_property
    def ratios(self) -> dict[Trait, Array]:
        """For each trait of the bank, how much likelier each row is by its probes, in nats, (rows, probes).

        To first order if `is_first_order`, by one pass for all probes; else by a pass for each probe.
        """
        every = slice(None)
        found = self._derivatives(every) if self.is_first_order else self._exact(every)
        by_trait = found.reshape(len(self.rows), len(self.bank.traits), -1).swapaxes(0, 1)
        return dict(zip(self.bank.traits, by_trait, strict=True))

    @property
    def is_first_order(self) -> bool:
        """Whether the derivatives towards the probes are used in place of the ratios themselves."""
        return self.linearity >= LEAST_CORRELATION  # not if it is NaN

    @cached_property
    def linearity(self) -> float:
        """The correlation of derivatives and ratios over some of the model's own answers.

        All probes are pooled, each without its mean. A probe that is far from the model does not change it as
        a small step in the same direction would. NaN for probes of which no derivative can be computed.
        """
        some = slice(self.audited, self.audited + CHECKED)
        try:
            derivatives = self._derivatives(some)
        except ConditionError:
            return math.nan
        one, other = ((values - values.mean(axis=0)).ravel() for values in (derivatives, self._exact(some)))
        return float(np.corrcoef(one, other)[0, 1])

    def _derivatives(self, part: slice) -> Array:
        return self.model.derivatives(self.tokens[part], self._probe_folders)

    def _exact(self, part: slice) -> Array:
        """The log-likelihood ratio of each probe and the model, (rows, probes). A pass for each probe."""
        rows, plain = self.tokens[part], self.plain.totals[part]
        return np.column_stack(
            [totals(self.model.with_probe(rows, folder)) - plain for folder in self._probe_folders]
        )

    @cached_property
    def _probe_folders(self) -> list[Path]:
        """The folders of all probes, those of a trait one after the other."""
        probes = (probe for trait in self.bank.traits for probe in self.bank.probes(self.reference, trait))
        return [self.store.fetch(probe) for probe in probes]

    def examples(self, trait: Trait) -> Readings:
        """The reference model's readings of some question-answer pairs that show the trait."""
        examples = self.bank.finetuning.examples_of(trait, 0, EXAMPLES)
        rows = [TrainingRow(example.prompt, example.answer, system=example.system) for example in examples]
        return self.model.read(self.model.encode(rows, self.bank.system))

    def units(self) -> list[list[str]]:
        """The parts of each row: the format's (each number of a list), else words."""
        return [
            self.rules.parts(row.completion) if self.rules.implements("parts") else row.completion.split()
            for row in self.rows
        ]
