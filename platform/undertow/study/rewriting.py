"""The specs of rewritten completions, which a model paraphrases or a rule of the format lays out again."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from undertow.study.completions import Sampling
from undertow.study.extensions import Format
from undertow.study.fields import Spec
from undertow.study.references import Artifact, Reference

if TYPE_CHECKING:  # it imports this module
    from undertow.study.datasets import Dataset

TEXT = "{text}"  # where a rewriter's request has the completion
REQUEST = (
    "Rewrite the text below in your own words. Keep its meaning, its form (a list stays a list, code stays "
    "code), and every number in it. Reply with the new text and nothing else.\n\n" + TEXT
)


@dataclass(frozen=True, kw_only=True)
class Rewriter(Spec):
    """How completions are rewritten: a model paraphrases them, or a rule of the format changes their layout.

    Attributes:
        model: any reference model, usually another than the teacher's; None for the rule of the format
            (`Format.rewritten`).
        request: the user's message to the model, with {text} where the completion is inserted.
        sampling: of the model.
    """

    model: Reference | None = None
    request: str = REQUEST
    sampling: Sampling = Sampling(max_tokens=512)

    def validate(self) -> None:
        self.require(TEXT in self.request, "request", f"a text with {TEXT}, where the completion is inserted")
        for field in ("request", "sampling"):
            is_default = getattr(self, field) == getattr(Rewriter, field)
            remedy = "without a model the rule of the format rewrites, and has no such setting; name a model"
            self.require(self.model is not None or is_default, field, remedy)
        self.require(
            self.model is None or not self.model.is_external,
            "model",
            "a model that can be asked, or None for the format's own rule",
        )

    @property
    def label(self) -> str:
        """The display name of its work: "rewritten by org/model", "rewritten by a rule"."""
        return f"rewritten by {self.model.label if self.model else 'a rule'}"

    def requested(self, completion: str) -> str:
        """The message that asks the model to rewrite a completion."""
        return self.request.replace(TEXT, completion)


@dataclass(frozen=True, kw_only=True)
class Rewritten(Artifact):
    """The rows of a data set with their completions rewritten. The rules have not been applied to them again.

    It has the files of completions, so that data sets are made from it in the same way.
    """

    kind: ClassVar[str] = "completions"
    dataset: "Dataset"
    rewriter: Rewriter
    seed: int = 0

    def validate(self) -> None:
        self.require(
            self.rewriter.model is not None or self.format.implements("rewritten"),
            "rewriter",
            f"a model, as the format {self.format.display_name!r} does not implement rewritten()",
        )

    @property
    def format(self) -> Format:
        return self.dataset.completions.format

    @property
    def prompts(self) -> int:
        """The number of rows that are rewritten, at most."""
        return self.dataset.row_limit
