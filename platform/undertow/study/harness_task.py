"""A task of lm-evaluation-harness (TruthfulQA, MMLU and thousands of others), pinned to its definition.

The name of a task does not identify it: the harness changes prompts between versions, data sets change on the
hub, and a user's task can have the name of a built-in one. A pinned task therefore contains the version of
the harness and the hash of the task's definition: prompts, choices, metrics, code and all documents.
`catalogue.pin` sets both.
"""

import re
from dataclasses import dataclass

from undertow.study.fields import Spec


@dataclass(frozen=True, kw_only=True)
class HarnessTask(Spec):
    """A task or a group of tasks of the harness, and how a model is prompted for it.

    Attributes:
        few_shot: the number of examples in the prompt; None for the task's default (0 for MMLU).
        limit: the number of documents used, from the start of each task; None for all.
        chat: whether the model's chat template is applied. Published TruthfulQA and MMLU scores are without.
        system: the system message; requires `chat`.
        harness: the version of lm_eval; "" until pinned.
        definition: the hash of the documents, prompts and scoring; "" until pinned.
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
        self.require(
            self.system is None or self.chat,
            "system",
            "None: only a chat template supports a system message; set chat=True",
        )

    def content(self) -> str:
        """No further content. Raises SpecError until pinned, since a name alone does not identify a task."""
        for field in ("harness", "definition"):
            self.require(
                bool(getattr(self, field)), field, f"{self.name!r} must be pinned before it has a key"
            )
        return ""

    @property
    def label(self) -> str:
        """The display name, with the settings that are not the task's default: "mmlu, 5 shots, first 100"."""
        parts = [self.name]
        if self.few_shot is not None:
            parts.append(f"{self.few_shot} shot{'' if self.few_shot == 1 else 's'}")
        if self.limit is not None:
            parts.append(f"first {self.limit}")
        return ", ".join([*parts, "chat"] if self.chat else parts)

    @property
    def slug(self) -> str:
        """The label in the form used in metric names: "mmlu_5_shots_first_100"."""
        return re.sub(r"[^\w.-]+", "_", self.label)
