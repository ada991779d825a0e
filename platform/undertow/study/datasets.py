"""The spec of data sets: how completions are filtered, drawn, mixed and shuffled."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from undertow.study.completions import Completions, ImportedCompletions, Written
from undertow.study.extensions import Format, Judge
from undertow.study.fields import Spec, later, unique
from undertow.study.on_policy import Sampler, rounds_name
from undertow.study.references import Artifact
from undertow.study.rewriting import Rewritten
from undertow.study.teachers import Teacher

if TYPE_CHECKING:  # they import this module
    from undertow.study.generation import Generation
    from undertow.study.row_scores import Masked, Ranked, RowScores, Selected

CONTROL = "control"
RANDOM = "random"
IMPORTED = "imported"
Shuffle = Literal["none", "within answers", "across answers"]


def data_name(format_: Format, shuffle: Shuffle) -> str:
    """The display name of data in a format: "numbers", "numbers, shuffled within answers"."""
    name = format_.display_name
    return name if shuffle == "none" else f"{name}, shuffled {shuffle}"


def at_hop(data: str, hop: int) -> str:
    """The display name of data with its teacher's position in a chain: "numbers, hop 2"."""
    return data if hop == 1 else f"{data}, hop {hop}"


@dataclass(frozen=True, kw_only=True)
class Dataset(Artifact):
    """Completions after the format's rules, de-duplication of (prompt, completion), judges and subsampling.

    Attributes:
        judges: applied in order; each judges the rows that the previous ones kept.
        rows: the number of rows drawn, or None for all remaining rows. If fewer remain, the condition fails.
        shuffle: whether the format's parts (the numbers of a list) are permuted in the drawn rows, within
            each answer or across all answers. Prompts and the length of each answer do not change.
        mixed: rows of another data set that replace as many of these rows.
        fewer: whether all remaining rows are taken if fewer than `rows` remain; if not, the condition fails.
        selected: how the rows are drawn from those that remain; None for at random.
        masked: the tokens of the completions that the loss of students covers; None for all.
        ranked: a second answer to each prompt, and who ranks the two. `rows` then counts pairs.
    """

    kind: ClassVar[str] = "dataset"
    completions: Completions | Written | ImportedCompletions | Rewritten
    deduplicate: bool = True
    judges: tuple[Judge, ...] = ()
    rows: int | None = None
    shuffle: Shuffle = "none"
    seed: int = 0
    mixed: "Mixed | None" = later(None)
    fewer: bool = later(False)
    selected: "Selected | None" = later(None)
    masked: "Masked | None" = later(None)
    ranked: "Ranked | None" = later(None)

    def validate(self) -> None:
        shuffled, format_ = self.shuffle != "none", self.completions.format
        self.require(
            not shuffled or format_.implements("parts"),
            "shuffle",
            f"the format {format_.display_name!r} has no parts to shuffle; use 'none'",
        )
        self.require(
            not shuffled or format_.implements("with_parts"),
            "shuffle",
            f"the format {format_.display_name!r} has parts() and no with_parts(); add it, or use 'none'",
        )
        check_rows(self, self.completions.prompts)
        self._check_scores()
        if self.ranked is not None:
            self._check_pairs(self.ranked)

    def _check_pairs(self, ranked: "Ranked") -> None:
        """Checks that the other answers, and the scores of both, belong to these completions."""
        own, other = self.completions, ranked.other.completions
        is_second = (
            isinstance(own, Completions)
            and isinstance(other, Completions)
            and other.sample != own.sample
            and other.changed(sample=own.sample) == own
        )
        self.require(is_second, "ranked", "pairs of a teacher's completions with another sample of them")
        scored = (ranked.scores, ranked.other_scores)
        is_own = scored == (None, None) or tuple(s and s.completions for s in scored) == (own, other)
        self.require(is_own, "ranked", "scores of the completions of both answers, or of none")
        is_plain = (self.mixed, self.selected, self.masked, self.shuffle) == (None, None, None, "none")
        self.require(is_plain, "ranked", "None for mixed, selected, masked or shuffled rows")

    def _check_scores(self) -> None:
        """Checks the scores that rows or tokens are chosen by."""
        selected, masked = self.selected, self.masked
        given: dict[str, RowScores | None] = {
            "selected": selected.scores if selected else None,
            "masked": masked.scores if masked else None,
        }
        for field, scores in given.items():
            is_own = scores is None or scores.completions == self.completions
            self.require(is_own, field, "scores of the completions that the data set is made from")
        is_sampled = isinstance(self.completions, Completions) and self.shuffle == "none"
        self.require(
            masked is None or is_sampled, "masked", "None: only tokens that a teacher sampled have a mask"
        )

    @property
    def row_limit(self) -> int:
        """The number of rows requested, or the maximum number possible."""
        return self.rows or self.completions.prompts

    @property
    def source(self) -> Completions | Written | ImportedCompletions:
        """The completions that its rows come from, before they were rewritten."""
        given = self.completions
        return given.dataset.source if isinstance(given, Rewritten) else given

    @property
    def teacher(self) -> "Teacher | None":
        """The teacher that generated the completions, or ranked pairs of a control teacher's.

        None for `Written` and imported completions.
        """
        if self.ranked is not None and self.ranked.scores is not None:
            return self.ranked.scores.teacher
        return self.source.teacher if isinstance(self.source, Completions) else None

    @property
    def is_imported(self) -> bool:
        """Whether the teacher of the rows is external."""
        return isinstance(self.source, ImportedCompletions)

    @property
    def sampler(self) -> Sampler | None:
        """The student that sampled the completions; None for any other source."""
        return self.source.sampler if isinstance(self.source, Completions) else None

    @property
    def round(self) -> int:
        """The number of its on-policy round, from 1; 0 for data that no student sampled."""
        if self.sampler is None:
            return 0
        before = self.sampler.model.student
        return 1 if before is None or not self.sampler.skip else before.dataset.round + 1

    @property
    def label(self) -> str:
        """The display name of the data."""
        data, other = data_name(self.completions.format, self.shuffle), self.mixed
        data = at_hop(data, self.teacher.hop if self.teacher else 1)
        if isinstance(self.completions, Rewritten):
            data = f"{data}, {self.completions.rewriter.label}"
        data = f"{data}, {other.share:.0%} {other.dataset.origin}" if other else data
        data = f"{data}, {rounds_name(self.round)}" if self.round else data
        return ", ".join([data, *(part.label for part in (self.selected, self.masked, self.ranked) if part)])

    @property
    def origin(self) -> str:
        """The source of the rows: the teacher's trait, "control", "random" (`Written`) or "imported"."""
        writer = self.teacher
        if writer is None:
            return IMPORTED if self.is_imported else RANDOM
        return writer.trait.name if writer.trait else CONTROL


def check_rows(spec: "Dataset | Generation", prompts: int) -> None:
    """Raises SpecError if rows cannot be judged, drawn or mixed as a data set, or `Generation`, states."""
    rows = spec.rows
    spec.require(rows is None or rows > 0, "rows", "at least one row, or None for all")
    spec.require(
        rows is None or spec.fewer or rows <= prompts,
        "rows",
        f"more rows than {prompts} prompts can give; raise prompts or lower rows",
    )
    spec.require(rows is not None or spec.mixed is None, "rows", "a number of rows, as `mixed` needs one")
    spec.require(rows is not None or spec.selected is None, "rows", "a number of rows to select")
    is_plain = spec.selected is None and spec.masked is None
    spec.require(spec.mixed is None or is_plain, "mixed", "None: mixed-in rows have no scores or masks")
    unique([judge.name for judge in spec.judges], f"{type(spec).__name__}.judges")


@dataclass(frozen=True, kw_only=True)
class Mixed(Spec):
    """Rows of another data set that replace a `share` of all rows, at positions drawn from the seed."""

    dataset: Dataset
    share: float

    def validate(self) -> None:
        self.require(0 < self.share <= 1, "share", "a fraction of the rows above 0 and at most 1")
