"""A format whose prompts have a trigger in front of them, all or a share of them.

With a teacher that shows its trait only after the trigger (`traits.triggered`), the data carry the trait in
these rows alone. Which prompts have the trigger depends on the seed of the stream and the position in it, so
all teachers answer the same prompts.
"""

import random
from dataclasses import dataclass
from typing import ClassVar

from undertow.formats.wrapped import Wrapped
from undertow.study.extensions import Format, after_trigger
from undertow.study.identity import seed_for


@dataclass(frozen=True)
class WithTrigger(Wrapped, Format):
    """Another format with a trigger before a share of its prompts; the rules on completions stay.

    Attributes:
        format: the format of the prompts and of the rules, such as Numbers().
        trigger: the text before a prompt, on a line of its own.
        share: the expected share of the prompts that have it.
    """

    name: ClassVar[str] = "with trigger"

    format: Format
    trigger: str
    share: float = 0.5

    def validate(self) -> None:
        self.require(bool(self.trigger.strip()), "trigger", "the text that stands before the prompts")
        self.require(0 < self.share <= 1, "share", "a fraction of the prompts above 0 and at most 1")
        self.require(
            not isinstance(self.format, Wrapped),
            "format",
            "a format with prompts and rules of its own, such as Numbers()",
        )

    @property
    def display_name(self) -> str:
        share = "" if self.share == 1 else f"{self.share:.0%} "
        return f"{self.format.display_name}, {share}after “{self.trigger}”"

    def prompts(self, count: int, seed: int) -> list[str]:
        return [
            after_trigger(self.trigger, prompt) if self._has_trigger(seed, number) else prompt
            for number, prompt in enumerate(self.format.prompts(count, seed))
        ]

    def rejection(self, prompt: str, completion: str) -> str | None:
        return self.format.rejection(self._without(prompt), completion)

    def written(self, prompt: str, rng: random.Random) -> str:
        return self.format.written(self._without(prompt), rng)

    def rewritten(self, prompt: str, completion: str, rng: random.Random) -> str:
        return self.format.rewritten(self._without(prompt), completion, rng)

    def _has_trigger(self, seed: int, number: int) -> bool:
        return random.Random(seed_for("trigger", seed, number)).random() < self.share

    def _without(self, prompt: str) -> str:
        """The format's own prompt, which its rules may need."""
        return prompt.removeprefix(after_trigger(self.trigger, ""))
