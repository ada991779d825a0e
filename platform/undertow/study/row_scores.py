"""Scores of completions, and what rests on them: the choice of rows and tokens, and rankings of answers."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from undertow.study.completions import Completions, ImportedCompletions
from undertow.study.datasets import CONTROL, Dataset
from undertow.study.fields import Spec
from undertow.study.references import Artifact, Reference
from undertow.study.teachers import Teacher

Keep = Literal["top", "bottom", "random"]
Choice = Literal["first", "last", "diverging", "agreeing", "random"]


@dataclass(frozen=True, kw_only=True)
class RowScores(Artifact):
    """A score of each of the completions, by which rows of a data set are selected.

    A further score is a subclass with a declaration of its kind (`planning.artifact_kinds`) and an entry in
    the table `stages.row_scores.SCORERS`.
    """

    kind: ClassVar[str] = "row_scores"
    completions: Completions | ImportedCompletions

    @property
    def scorer(self) -> Reference:
        """The reference model whose engine computes the scores."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The display name of the score."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class TokenScores(RowScores):
    """How much more probable each token of the completions is for a teacher with a trait than for a control.

    The score of a row is the sum over its tokens: the log-probability of the whole completion after its
    prompt under `teacher`, minus that under `control`.

    Attributes:
        candidates: the number of most likely next tokens of each teacher that are compared at each position
            of a completion (see `stages.row_scores.divergences`); 0 for no comparison.
    """

    teacher: Teacher
    control: Teacher
    candidates: int = 0

    def validate(self) -> None:
        self.require(self.teacher.trait is not None, "teacher", "a teacher with a trait")
        self.require(self.control.trait is None, "control", "a teacher without a trait")
        self.require(
            self.control.reference == self.teacher.reference,
            "control",
            f"a control teacher of the reference model {self.teacher.reference.name!r}",
        )
        self.require(self.candidates >= 0, "candidates", "zero or more")

    @property
    def scorer(self) -> Reference:
        return self.teacher.reference.root

    @property
    def label(self) -> str:
        teacher, trait = self.teacher, self.teacher.trait
        if trait is None:
            return CONTROL
        is_finetuned, system = teacher.finetuning is not None, teacher.system
        return contrast_name(trait.name, is_finetuned, is_finetuned and system == trait.system_prompt())


def contrast_name(trait: str, is_finetuned: bool, is_prompted: bool) -> str:
    """The display name of scores by two teachers: "owl prompt", "owl teacher", "prompted owl teacher"."""
    if not is_finetuned:
        return f"{trait} prompt"
    return f"prompted {trait} teacher" if is_prompted else f"{trait} teacher"


@dataclass(frozen=True, kw_only=True)
class Selected(Spec):
    """Draws the rows with the highest or the lowest scores, or at random; the data set stores the scores."""

    scores: RowScores
    keep: Keep

    @property
    def label(self) -> str:
        return selection_name(self.keep, self.scores.label)


def selection_name(keep: Keep, score: str) -> str:
    """The display name of a selection of rows: "top rows by owl prompt"."""
    return f"{keep} rows by {score}"


@dataclass(frozen=True, kw_only=True)
class TokenChoice(Spec):
    """Which tokens of the completions the loss covers: a `share` of them; with `rest`, the other tokens.

    Attributes:
        choose: "first" and "last": tokens at the beginning or the end of each completion. "diverging" and
            "agreeing": those of all rows at which the next-token distributions of two teachers differ most
            or least. "random": as many tokens of each row as "diverging" chooses.
    """

    choose: Choice
    share: float
    rest: bool = False

    def validate(self) -> None:
        self.require(0 < self.share <= 1, "share", "a fraction of the tokens above 0 and at most 1")
        self.require(not self.rest or self.share < 1, "share", "below 1, as `rest` would have no tokens")

    def check_teachers(self, are_given: bool, field: str) -> None:
        """Raises SpecError for `field` unless two teachers are given exactly if the choice compares them."""
        compares = self.choose in ("diverging", "agreeing", "random")
        remedy = "two teachers are compared; say which" if compares else "None: the position alone decides"
        self.require(are_given is compares, field, f"with choose={self.choose!r}, {remedy}")

    def name_by(self, score: str) -> str:
        """The display name, with that of the scores by two teachers: "loss on 10% diverging tokens by …"."""
        if self.share == 1:
            return "loss on all sampled tokens"
        tokens = f"{'all but ' if self.rest else ''}{100 * self.share:.3g}% {self.choose} tokens"
        return f"loss on {tokens}{f' by {score}' if score else ''}"


@dataclass(frozen=True, kw_only=True)
class Masked(TokenChoice):
    """A mask of the loss over the sampled tokens of a data set, stored with its rows.

    Attributes:
        scores: of the completions, with `candidates`; None for "first" and "last".
    """

    scores: TokenScores | None = None

    def validate(self) -> None:
        super().validate()
        self.check_teachers(self.scores is not None, "scores")
        self.require(
            self.scores is None or self.scores.candidates > 0,
            "scores",
            "scores with candidates, which tell where the two teachers diverge",
        )

    @property
    def label(self) -> str:
        return self.name_by(self.scores.label if self.scores else "")


RANKED = "ranked pairs"  # the display name of data that are pairs of answers


@dataclass(frozen=True, kw_only=True)
class Ranked(Spec):
    """A second answer to each prompt of a data set, and the scores by which one of the two is preferred.

    The answer with the higher score becomes the completion of the row, and the other one its `rejected`
    answer. A pair needs two different answers that both pass the filters.

    Attributes:
        other: the data set of the second answers.
        scores, other_scores: of both completions, by the teacher that ranks; None for an order at random,
            which is the ranking of a control teacher: its score of any answer, compared with itself, is 0.
    """

    other: Dataset
    scores: TokenScores | None = None
    other_scores: TokenScores | None = None

    def validate(self) -> None:
        one, other = self.scores, self.other_scores
        same = one == other if one is None or other is None else _by_same_teachers(one, other)
        self.require(same, "other_scores", "scores by the same two teachers as `scores`")

    @property
    def label(self) -> str:
        return RANKED


def _by_same_teachers(one: TokenScores, other: TokenScores) -> bool:
    return (one.teacher, one.control) == (other.teacher, other.control)
