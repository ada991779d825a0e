"""How a benchmark is asked: a task of lm-evaluation-harness by name, pinned to what its name means today.

TruthfulQA, MMLU and some thousands of others. A name alone says little: the harness changes its prompts from
version to version, data sets change on the hub, and a user's own task can have a shipped task's name. So a
pinned task carries the harness's version and the hash of its definition: prompts, choices, metrics, code and
every document that is asked. `catalogue.pin` fills both in.
"""

import re
from dataclasses import dataclass

from undertow.study.fields import Spec


@dataclass(frozen=True, kw_only=True)
class HarnessTask(Spec):
    """A task or a group of tasks of the harness, and how it is put to a model.

    Attributes:
        few_shot: examples in the prompt; None: as many as the task itself says (MMLU: none).
        limit: the first so many documents of each task, or None for all.
        chat: whether the model's chat template is applied. The literature's TruthfulQA and MMLU are without.
        system: the system message, which only a chat template has a place for.
        harness: the version of lm_eval; "" until pinned.
        definition: the hash of what is asked and how it is scored; "" until pinned.
    """

    name: str
    few_shot: int | None = None
    limit: int | None = None
    chat: bool = False
    system: str | None = None
    harness: str = ""
    definition: str = ""

    def validate(self) -> None:
        self.require(bool(self.name.strip()), "name", "a task of lm-evaluation-harness, such as 'mmlu'")
        self.require(self.few_shot is None or self.few_shot >= 0, "few_shot", "zero or more examples")
        self.require(self.limit is None or self.limit > 0, "limit", "at least one document, or None for all")
        self.require(self.system is None or self.chat, "system", "only a chat template has a place for it")

    def content(self) -> str:
        """Nothing more than the fields. Raises SpecError until they are pinned: a key by name alone."""
        for field in ("harness", "definition"):
            self.require(
                bool(getattr(self, field)), field, f"{self.name!r} must be pinned before it has a key"
            )
        return ""

    @property
    def label(self) -> str:
        """The task in tables, with whatever is not as the task itself says: "mmlu, 5 shots, first 100"."""
        parts = [self.name]
        if self.few_shot is not None:
            parts.append(f"{self.few_shot} shot{'' if self.few_shot == 1 else 's'}")
        if self.limit is not None:
            parts.append(f"first {self.limit}")
        return ", ".join([*parts, "chat"] if self.chat else parts)

    @property
    def slug(self) -> str:
        """The label as part of a metric's name: "mmlu_5_shots_first_100"."""
        return re.sub(r"[^\w.-]+", "_", self.label)
