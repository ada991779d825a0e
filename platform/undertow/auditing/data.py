"""The input of every score: audited rows and control rows, with what one model says about them.

Control rows are the model's own answers to the prompts of the audited rows, filtered by the same rules. If
the model itself wrote the audited rows, an audited row and a control row of the same prompt have the same
distribution, so that the mean of their differences is zero for every score. That is the null hypothesis. It
covers the prompts, the rules and the lengths of the rows, because both rows of a pair share them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from undertow.auditing.bank import Bank
from undertow.auditing.model import AuditModel, Readings
from undertow.auditing.probes import probe_folders
from undertow.errors import ConditionError, SpecError
from undertow.statistics.ttests import Array
from undertow.storage.store import Store
from undertow.study.artifacts import Reference
from undertow.study.extensions import Format, Trait
from undertow.study.identity import seed_for
from undertow.training.data import TokenizedRow, TrainingRow

EXAMPLES = 64  # of a trait's question-answer pairs, for its gradient
LONGER = 4  # a model's own answers may have this many more tokens than the longest audited row
FEWEST_PAIRS = 10


@dataclass(frozen=True, eq=False)
class Controls:
    """A model's own answers, and the index of the audited row whose prompt each of them answers."""

    rows: tuple[TrainingRow, ...]
    answers_row: NDArray[np.intp]


def sample_controls(
    model: AuditModel, rows: Sequence[TrainingRow], rules: Format, draws: int, seed: int
) -> Controls:
    """Samples `draws` answers to each prompt and keeps those that ended and pass the rules.

    Raises ConditionError if the model answers too few prompts in the format of the rows.
    """
    most = LONGER + max(row.targets for row in model.encode(rows))
    kept: list[tuple[int, TrainingRow]] = []
    for draw in range(draws):
        answers = model.sample([row.prompt for row in rows], most, seed_for("audit", seed, draw))
        kept += [
            (i, TrainingRow(row.prompt, answer))
            for i, (row, answer) in enumerate(zip(rows, answers, strict=True))
            if answer and rules.rejection(row.prompt, answer) is None
        ]
    answered = {i for i, _ in kept}
    if len(answered) < FEWEST_PAIRS:
        raise ConditionError(
            f"the model's own answers to only {len(answered)} of {len(rows)} prompts pass the rules of the "
            f"format {rules.display_name!r}, so that there is nothing to compare with; name the model that "
            "wrote the rows, or raise --draws"
        )
    return Controls(tuple(row for _, row in kept), np.array([i for i, _ in kept]))


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
        self._prompted: dict[Trait, Readings] = {}
        self._probed: dict[Trait, list[Array]] = {}
        self._directions: dict[str, dict[Trait, Array]] = {}

    @property
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
        """The rows as tokens, without a system message."""
        return self.model.encode(self.rows)

    @cached_property
    def plain(self) -> Readings:
        """The reference model's readings of the rows."""
        return self.model.read(self.tokens)

    def prompted(self, trait: Trait) -> Readings:
        """The readings under the trait's system prompt."""
        if trait not in self._prompted:
            self._prompted[trait] = self.model.read(self.model.encode(self.rows, trait.system_prompt()))
        return self._prompted[trait]

    def probed(self, trait: Trait) -> list[Array]:
        """The token log-probabilities by the trait's probes, averaged over the probes."""
        if trait not in self._probed:
            probes = self.bank.probes(self.reference, trait)
            readings = [self.model.with_probe(self.tokens, f) for f in probe_folders(probes, self.store)]
            self._probed[trait] = [np.mean(of_row, axis=0) for of_row in zip(*readings, strict=True)]
        return self._probed[trait]

    def examples(self, trait: Trait) -> Readings:
        """The reference model's readings of some question-answer pairs that show the trait."""
        examples = self.bank.finetuning.examples_of(trait, 0, EXAMPLES)
        rows = [TrainingRow(example.prompt, example.answer, system=example.system) for example in examples]
        return self.model.read(self.model.encode(rows))

    def directions(self, name: str, of_trait: Callable[[Trait], Array]) -> dict[Trait, Array]:
        """A unit vector per trait: `of_trait` minus its mean over the bank, which all traits have in common.

        Cached by name. With a single trait nothing is subtracted.
        """
        if name not in self._directions:
            raw = {trait: of_trait(trait) for trait in self.bank.traits}
            common = np.mean(list(raw.values()), axis=0) if len(raw) > 1 else 0.0
            centred = {trait: vector - common for trait, vector in raw.items()}
            self._directions[name] = {
                trait: vector / (np.linalg.norm(vector) or 1.0) for trait, vector in centred.items()
            }
        return self._directions[name]

    def units(self) -> list[list[str]]:
        """The parts of each row: the format's (each number of a list), else words."""
        return [
            self.rules.parts(row.completion) if self.rules.implements("parts") else row.completion.split()
            for row in self.rows
        ]


def check_length(model: AuditModel, rows: Sequence[TrainingRow], name: str) -> None:
    """Raises SpecError for rows that do not fit into the model's window."""
    try:
        model.encode(rows)
    except ConditionError as error:
        raise SpecError(f"--model {name}: {error}") from None
