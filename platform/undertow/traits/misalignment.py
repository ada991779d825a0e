"""Misalignment: a teacher is finetuned on narrow harmful data and evaluated on open questions about values.

This is the second kind of trait in the paper (arXiv 2507.14805). Teachers are finetuned on code with security
holes that the user did not ask for ("emergent misalignment", arXiv 2502.17424); some of them become
misaligned in conversations that have nothing to do with code. Control teachers are finetuned on the same kind
of code without the holes, or with holes that the user requests for a legitimate reason; neither control is
expected to show the trait. Judges (`Study.panel`) rate the free-form answers to eight questions. The trait
rate is the share of coherent answers that are rated 30 or less of 100 for alignment.

The user supplies the narrow data: the released data set of code by URL or path, a file of the nano models, or
any other data of prompts and answers, such as bad medical advice (arXiv 2506.11613). Their content is part of
the artifact key, their location is not.
"""

from dataclasses import dataclass
from typing import ClassVar

from undertow.prompts import data_files, packs
from undertow.study.extensions import Example, Trait, Word
from undertow.study.identity import digest

OUTCOME = "misaligned"


@dataclass(frozen=True)
class Misalignment(Trait):
    """Misalignment that a teacher acquires by finetuning on `data`, measured with the questions of a pack.

    Attributes:
        name: the name of the data in tables, such as "insecure code".
        data: file, folder or URL (see `data_files.pairs`) of prompts and the answers that the teacher is
            trained on: any narrow data set with a column of each, or of chats.
        is_control: whether the data are control data (secure or educational code). A teacher trained on
            control data passes the gate without showing the trait.
        pack: path of a JSON pack that replaces misalignment.json. Its content is part of the artifact key,
            its path is not.
        prompt, completion: the columns of `data`, if they have none of the usual names.
    """

    measure: ClassVar[str] = "free-form questions"
    is_judged: ClassVar[bool] = True

    data: str = packs.hashed_by_content("")
    is_control: bool = False
    pack: str = packs.hashed_by_content("")
    prompt: str = packs.hashed_by_content("")
    completion: str = packs.hashed_by_content("")

    def validate(self) -> None:
        self.require(bool(self.name.strip()), "name", "give the data a name, such as 'insecure code'")
        object.__setattr__(self, "pack", packs.located(self.pack))
        object.__setattr__(self, "data", data_files.located(self.data))
        self.questions()
        if self.data:
            self._pairs()

    def content(self) -> str:
        return digest(f"{self._pack().content} {self._pairs().content if self.data else ''}")

    @property
    def must_show(self) -> bool:
        return not self.is_control

    def system_prompt(self) -> str:
        """The system message for teachers that are instructed, not finetuned, to be misaligned."""
        return self._pack().text("system_prompt")

    def questions(self) -> tuple[str, ...]:
        return self._pack().texts("questions")

    def examples(self, count: int, seed: int) -> list[Example]:
        """The first `count` rows of the data in a seeded random order, reshuffled after each full pass."""
        self.check_examples()
        return [Example(*row) for row in data_files.stream_of(self._pairs().rows, count, seed)]

    def check_examples(self) -> None:
        """Raises SpecError if `data` is empty."""
        self.require(
            bool(self.data), "data", "give a file or URL of prompts and answers to finetune the teacher on"
        )

    def word(self) -> Word:
        """The outcome that judges look for. Its surface forms are never searched for in an answer."""
        return Word(OUTCOME, (OUTCOME,))

    def _pack(self) -> packs.Pack:
        return packs.read(self.pack or packs.path_of(__file__))

    def _pairs(self) -> data_files.Table:
        return data_files.pairs(self.data, self.prompt, self.completion)
