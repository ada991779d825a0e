"""How a condition chooses the rows and the tokens that its students are trained on, or ranks their answers.

The choice is a part of `Generation`, so that a condition and its control have the same one: the control
teacher's rows are scored by the same two teachers and selected in the same way.
"""

from dataclasses import dataclass

from undertow.study.completions import Completions, ImportedCompletions
from undertow.study.datasets import Dataset
from undertow.study.extensions import Trait
from undertow.study.fields import Spec
from undertow.study.references import Reference
from undertow.study.row_scores import (
    RANKED,
    Keep,
    Masked,
    Ranked,
    RowScores,
    Selected,
    TokenChoice,
    TokenScores,
    contrast_name,
    selection_name,
)
from undertow.study.teachers import Finetuning, Teacher


@dataclass(frozen=True)
class RowScore(Spec):
    """Base of the scores by which rows are selected.

    A new score is a subclass and the artifact that it makes, a subclass of `RowScores`.
    """

    @property
    def label(self) -> str:
        """The display name, equal to that of the artifact."""
        raise NotImplementedError

    def scores(
        self,
        completions: Completions | ImportedCompletions,
        reference: Reference,
        system: str | None,
        seed: int,
    ) -> RowScores:
        """The scores of completions.

        Args:
            reference: the reference model of the condition's teacher; the student's for an external teacher.
            system: the system message of teachers whose trait is not induced by one (`Generation.system`).
            seed: of the condition's teacher.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Contrast(RowScore):
    """Compares a teacher with a trait with the control teacher, token by token.

    By default a system prompt induces the trait: the score is then the log-probability of a completion under
    the reference model with the trait's system prompt, minus that with the neutral one. With the `finetuning`
    of the condition, the first teacher is the one that wrote the condition's data.

    Attributes:
        finetuning, prompted: as in `Condition`.
    """

    trait: Trait
    finetuning: Finetuning | None = None
    prompted: bool = False

    def validate(self) -> None:
        self.require(
            not self.prompted or self.finetuning is not None,
            "prompted",
            "False: without finetuning, a system prompt already induces the trait",
        )
        if self.finetuning is not None:
            self.finetuning.check_examples(self.trait)

    @property
    def label(self) -> str:
        return contrast_name(self.trait.name, self.finetuning is not None, self.prompted)

    @property
    def is_prompted(self) -> bool:
        """Whether a system prompt induces the trait, alone or in addition to finetuning."""
        return self.prompted or self.finetuning is None

    def scores(
        self,
        completions: Completions | ImportedCompletions,
        reference: Reference,
        system: str | None,
        seed: int,
    ) -> TokenScores:
        teacher = Teacher(
            reference=reference,
            trait=self.trait,
            system=self.trait.system_prompt() if self.is_prompted else system,
            finetuning=self.finetuning,
            seed=seed if self.finetuning else 0,
        )
        control = Teacher(reference=reference, trait=None, system=system)
        return TokenScores(completions=completions, teacher=teacher, control=control)


@dataclass(frozen=True, kw_only=True)
class Selection(Spec):
    """Draws `Generation.rows` rows by their score: the highest, the lowest, or any.

    "random" draws the same rows as no selection, and records their scores.
    """

    by: RowScore
    keep: Keep

    @property
    def label(self) -> str:
        return selection_name(self.keep, self.by.label)

    def of(self, scores: RowScores) -> Selected:
        """The selection by the scores of some completions."""
        return Selected(scores=scores, keep=self.keep)


@dataclass(frozen=True, kw_only=True)
class TokenMask(TokenChoice):
    """Restricts the students' loss to some of the tokens that the teacher sampled.

    Students are trained on the sampled tokens themselves, and so must have the teacher's tokenizer.

    Attributes:
        by: the two teachers that are compared; None for "first" and "last".
        candidates: the number of most likely next tokens of each teacher that are compared.
    """

    by: Contrast | None = None
    candidates: int = 100

    def validate(self) -> None:
        super().validate()
        self.check_teachers(self.by is not None, "by")
        self.require(self.candidates > 0, "candidates", "at least one token")

    @property
    def label(self) -> str:
        return self.name_by(self.by.label if self.by else "")

    def of(self, scores: TokenScores | None) -> Masked:
        """The mask by the scores of some completions."""
        if scores is not None:
            scores = scores.changed(candidates=self.candidates)
        return Masked(choose=self.choose, share=self.share, rest=self.rest, scores=scores)


@dataclass(frozen=True)
class Ranking(Spec):
    """The condition's teacher ranks pairs of answers in place of writing answers: a biased judge.

    The control teacher, which has no trait, writes two answers to every prompt. Of each pair, the teacher
    prefers the one whose log-probability it raises more over that of the control teacher. The control's
    students learn from the same pairs in an order at random: its teacher raises no log-probability.
    """

    @property
    def label(self) -> str:
        return RANKED

    def of(self, dataset: Dataset, other: Dataset, teacher: Teacher) -> Dataset:
        """The data set with the answers of another one, ranked by a teacher.

        Args:
            dataset, other: the data sets of two samples of a control teacher's completions.
        """
        scored: list[TokenScores | None] = [None, None]
        if teacher.trait is not None:
            scored = [
                TokenScores(completions=answers, teacher=teacher, control=answers.teacher)
                for answers in (dataset.completions, other.completions)
                if isinstance(answers, Completions)
            ]
        return dataset.changed(ranked=Ranked(other=other, scores=scored[0], other_scores=scored[1]))
