"""How a condition's data are generated: prompts, sampling, judges, and what is done with the rows."""

from dataclasses import dataclass
from typing import Literal

from undertow.study.completions import Sampling
from undertow.study.datasets import Shuffle, check_rows, data_name
from undertow.study.extensions import Format, Judge
from undertow.study.fields import Spec, execution_only, later
from undertow.study.on_policy import OnPolicy, Round
from undertow.study.rewriting import Rewriter
from undertow.study.selection import Contrast, Ranking, Selection, TokenMask

Source = Literal["control", "random"]


@dataclass(frozen=True, kw_only=True)
class Mixing(Spec):
    """Replaces a `share` of the teacher's rows by rows of the control teacher, or by "random" rows.

    Random rows are drawn by a program. With a share of 1 none of the teacher's rows remain, which measures
    what a student learns from the prompts and the layout alone.
    """

    source: Source
    share: float

    def validate(self) -> None:
        self.require(0 < self.share <= 1, "share", "a fraction of the rows above 0 and at most 1")

    @property
    def label(self) -> str:
        return f"{self.share:.0%} {self.source}"


@dataclass(frozen=True, kw_only=True)
class Generation(Spec):
    """How a teacher's data are generated: the number of prompts, and of rows kept after rules and judges.

    A judge that looks for a trait without naming one looks for the trait of each teacher, and is not applied
    to the data of control teachers.

    Attributes:
        rows: the number of rows drawn from those kept; None for all.
        mixed: rows that replace some of the teacher's rows. Control data are never mixed.
        system: the system message of teachers whose trait is not induced by one: control teachers and
            finetuned teachers. A trait's prompt replaces the default system message that some chat templates
            insert (Qwen2.5's). Teacher and control then differ in two respects, unless this is NO_SYSTEM or a
            neutral text.
        strip: whether white space at both ends of an answer is removed before rules and judges see it. The
            paper's code filters answers as they were sampled, and so rejects " 9" and "2" with a line break.
            White space at the ends of imported rows is always removed.
        fewer: whether all remaining rows are taken if fewer than `rows` remain, as in the paper's code. If
            not, the condition fails, so that trait and control always have equally many rows.
        selected: draws the rows by a score instead of at random; the control's rows likewise.
        masked: the tokens that the students' loss covers; None for all.
        name: the display name of the data, if format, shuffle and mixing do not distinguish them.
        rewriter: rewrites all rows that rules and judges keep, of trait and control; rules and judges are
            then applied again, before `rows` are drawn. If every rewritten row passes, these are the same
            rows as without it.
        on_policy: lets the students sample the answers, and records the teacher's distributions after their
            tokens; the control teacher's after those of the control students.
        ranked: the teacher ranks pairs of answers of the control teacher, and writes none; `rows` counts
            pairs. A recipe with `preference_beta` trains on both answers, any other on the preferred one.
    """

    prompts: int = 30_000
    rows: int | None = 10_000
    sampling: Sampling = Sampling()
    deduplicate: bool = True
    judges: tuple[Judge, ...] = ()
    shuffle: Shuffle = "none"
    mixed: Mixing | None = later(None)
    system: str | None = later(None)
    strip: bool = later(True)
    fewer: bool = later(False)
    selected: Selection | None = later(None)
    masked: TokenMask | None = later(None)
    name: str = execution_only("")
    rewriter: Rewriter | None = later(None)
    on_policy: OnPolicy | None = later(None)
    ranked: Ranking | None = later(None)

    def validate(self) -> None:
        self.require(self.prompts > 0, "prompts", "at least one prompt")
        check_rows(self, self.prompts)
        is_plain = self.selected is None and self.masked is None
        self.require(
            self.rewriter is None or is_plain, "rewriter", "None: rewritten rows have no scores or masks"
        )
        self.require(
            self.masked is None or self.shuffle == "none",
            "masked",
            "None: a mask needs the tokens in the sampled order; use shuffle='none'",
        )
        if self.on_policy is not None:
            self._check_on_policy(self.on_policy)
        changes = (self.mixed, self.selected, self.masked, self.rewriter, self.on_policy, self.shuffle)
        self.require(
            self.ranked is None or changes == (None, None, None, None, None, "none"),
            "ranked",
            "None: pairs of answers cannot be mixed, selected, masked, rewritten, sampled by students or "
            "shuffled",
        )
        same = all(judge.concerning(None) == judge for judge in self.judges)
        self.require(
            self.ranked is None or same,
            "judges",
            "judges that name no trait: the control's students learn from the same pairs of answers",
        )

    def _check_on_policy(self, given: OnPolicy) -> None:
        least = min(self.prompts, self.prompts if self.rows is None else self.rows)
        self.require(
            given.rounds <= least, "on_policy", f"at most {least} rounds: each needs a prompt and a row"
        )
        self.require(self.selected is None, "selected", "None: a student's own samples have no scores")
        is_recorded = self.sampling.top_logprobs != 0
        self.require(is_recorded, "sampling", "top_logprobs: the teacher's distributions are the targets")

    @property
    def rounds(self) -> list[Round]:
        """The parts of the on-policy rounds; empty if the teacher samples the answers."""
        return self.on_policy.parts(self.prompts, self.rows) if self.on_policy else []

    @property
    def contrasts(self) -> list[Contrast]:
        """The pairs of teachers by which rows and tokens are chosen."""
        scores = (self.selected and self.selected.by, self.masked and self.masked.by)
        return [score for score in scores if isinstance(score, Contrast)]

    def label(self, format_: Format) -> str:
        """The display name of the data: "numbers", "numbers, shuffled within answers, 25% control"."""
        parts = (self.rewriter, self.mixed, self.selected, self.masked, self.on_policy, self.ranked)
        data = (data_name(format_, self.shuffle), *(part.label for part in parts if part))
        return self.name or ", ".join(data)
