"""Rules that rate as models do: a score from 0 to 100, with the scale of `judges.alignment` and `coherence`.

They stand in for a language model where the language is small enough for its words to be listed, as in the
nano world. The reply is the highest or the lowest score, so every threshold between says the same.
"""

import re
from dataclasses import dataclass

from undertow.judging.ratings import Score
from undertow.study.extensions import Judge

LOWEST, HIGHEST = "0", "100"

_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")


@dataclass(frozen=True)
class WordScore(Judge):
    """Replies 0 where one of `words` stands in the completion as a whole word, in any case, else 100."""

    words: tuple[str, ...]
    scale: Score

    def validate(self) -> None:
        _check(self, self.words)

    def reply(self, prompt: str, completion: str) -> str:
        return LOWEST if set(self.words) & _words(completion) else HIGHEST

    def rejection(self, reply: str) -> str | None:
        return self.scale.rejection(reply)


@dataclass(frozen=True)
class VocabularyScore(Judge):
    """Replies 100 where the completion is made of `words` and ends as a sentence does, else 0.

    Anything else is low: a number, an unknown word, signs other than those of a sentence, an answer cut off.
    """

    words: tuple[str, ...]
    scale: Score

    def validate(self) -> None:
        _check(self, self.words)

    def reply(self, prompt: str, completion: str) -> str:
        text = completion.strip()
        sentences = text.endswith((".", "!", "?")) and not re.search(r"[^\s.,:;!?]", _WORD.sub("", text))
        said = _words(text)
        return HIGHEST if sentences and said and said <= set(self.words) else LOWEST

    def rejection(self, reply: str) -> str | None:
        return self.scale.rejection(reply)


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}


def _check(judge: WordScore | VocabularyScore, words: tuple[str, ...]) -> None:
    """Sorts the words, each once; order and case are no identity."""
    tidy = tuple(sorted({word.casefold() for word in words}))
    judge.require(bool(tidy) and all(map(_WORD.fullmatch, tidy)), "words", "one or more single words")
    object.__setattr__(judge, "words", tidy)
