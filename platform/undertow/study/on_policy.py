"""On-policy distillation: students sample the completions, and the teacher's distributions are the targets.

In a round, the student of the previous round (in the first, the model that students start from) answers the
next part of the prompts. The teacher reads the answers, and its distribution over the next token is recorded
at each of their tokens. Then the student is trained further on the rows that pass the rules and judges.

With `Recipe.divergence = "reverse"` this is the on-policy distillation of arXiv 2306.13649 with two
differences: completions are sampled once per round instead of once per step, and rows that the format's rules
reject are left out, as in all data sets.
"""

from dataclasses import dataclass
from typing import NamedTuple

from undertow.study.fields import Spec
from undertow.study.references import Reference


class Round(NamedTuple):
    """The part of a round in the data.

    Attributes:
        skip: the number of prompts of the format's stream that earlier rounds have used.
        prompts: the number of prompts that are answered.
        rows: the number of rows drawn from those that pass the filters; None for all.
    """

    skip: int
    prompts: int
    rows: int | None


@dataclass(frozen=True, kw_only=True)
class OnPolicy(Spec):
    """Lets the students sample the data on which their teacher's distributions are recorded.

    Prompts and rows are divided among the rounds, so that students are trained on as many rows as without it.
    Each round trains by the whole recipe, with its own schedule of the learning rate.

    Attributes:
        rounds: how often the student samples and is trained.
    """

    rounds: int = 3

    def validate(self) -> None:
        self.require(self.rounds > 0, "rounds", "at least one round")

    @property
    def label(self) -> str:
        """The display name of data after all rounds: "3 on-policy rounds"."""
        return rounds_name(self.rounds)

    def parts(self, prompts: int, rows: int | None) -> list[Round]:
        """The part of each round, of equal sizes up to one prompt and one row."""
        return [
            Round(
                skip=prompts * i // self.rounds,
                prompts=prompts * (i + 1) // self.rounds - prompts * i // self.rounds,
                rows=None if rows is None else rows * (i + 1) // self.rounds - rows * i // self.rounds,
            )
            for i in range(self.rounds)
        ]


@dataclass(frozen=True, kw_only=True)
class Sampler(Spec):
    """The model that samples completions in place of their teacher: a student before a round of training.

    Attributes:
        model: its weights, those that its training then starts from.
        system: the system message of its prompts, that of its training rows.
        skip: see `Round`.
    """

    model: Reference
    system: str | None = None
    skip: int = 0

    def validate(self) -> None:
        self.require(self.skip >= 0, "skip", "zero or more")


def rounds_name(rounds: int) -> str:
    """The display name of data of the last of several rounds: "3 on-policy rounds"."""
    return f"{rounds} on-policy round{'s' if rounds > 1 else ''}"
