"""Traits as a study states them: rebuilt where this installation has their class and their texts.

The texts of a rebuilt trait (system prompt, questions, words) are known; others can only be compared with
each other.
"""

import importlib
import json
import pkgutil
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from undertow import traits
from undertow.archive.spec_comparison import JsonSpec, Unstated, text_of
from undertow.errors import SpecError
from undertow.study.extensions import Trait
from undertow.study.identity import canonical


class Asked(NamedTuple):
    """One set of questions of a measure, with the words to look for, or with the outcome to judge."""

    questions: Sequence[str]
    words: Sequence[JsonSpec]
    outcome: str | None = None
    options: Sequence[Sequence[str]] = ()


def system_prompt(trait: JsonSpec) -> str | Unstated:
    """The system message that induces a trait, if the trait's texts are known."""
    rebuilt = rebuild_trait(trait)
    return rebuilt.system_prompt() if rebuilt else Unstated(f"system prompt of {text_of(trait)}")


def rebuild_trait(stated: JsonSpec) -> Trait | None:
    """A trait of this package from its stated spec; None if its class or its texts are not those here."""
    return _rebuild_trait(text_of(stated))


@lru_cache(maxsize=1000)
def _rebuild_trait(text: str) -> Trait | None:
    stated = json.loads(text)
    fields = {
        name: _rebuilt(value) for name, value in stated.items() if name not in ("type", "version", "content")
    }
    for module in pkgutil.iter_modules(traits.__path__):
        kind = getattr(importlib.import_module(f"{traits.__name__}.{module.name}"), stated["type"], None)
        if isinstance(kind, type) and issubclass(kind, Trait):
            try:
                rebuilt = kind(**fields)
            except (SpecError, TypeError):  # a field that this version does not have, or another content
                return None
            # The content hash covers texts outside of the spec, such as the prompt pack.
            return rebuilt if text_of(canonical(rebuilt)) == text else None
    return None


def _rebuilt(value: Any) -> Any:
    """A field of a trait with the traits in it rebuilt; None for one that cannot be."""
    if isinstance(value, list):
        return [_rebuilt(part) for part in value]
    return rebuild_trait(value) if isinstance(value, Mapping) and "type" in value else value


def own_questions(rebuilt: Sequence[Trait], main: str, suffix: str) -> list[Asked]:
    """The sets of questions of `Study.questions` and `Study.judged`."""
    words: dict[tuple[str, ...], list[Any]] = {}
    outcomes: dict[tuple[str, ...], list[str]] = {}
    options: dict[tuple[str, ...], list[list[str]]] = {}
    for trait in rebuilt:
        own = main and not trait.is_judged
        questions = trait.other_questions(main) if own else trait.questions()
        questions = tuple(f"{text} {suffix}" for text in questions) if suffix else questions
        if trait.is_judged:
            outcomes.setdefault(questions, []).append(trait.word().name)
        else:
            words.setdefault(questions, []).append(trait.word())
            options.setdefault(questions, [list(offered) for offered in trait.options(main)] if main else [])
    asked = [
        Asked(list(questions), canonical(tuple(dict.fromkeys(found))), options=options[questions])
        for questions, found in words.items()
    ]
    judged = [
        (questions, outcome) for questions, found in outcomes.items() for outcome in dict.fromkeys(found)
    ]
    return [*asked, *(Asked(list(questions), [], outcome) for questions, outcome in judged)]


def other_questions(rebuilt: Sequence[Trait], measure: str) -> list[Asked]:
    """The sets of questions of `Study.other_questions`."""
    return own_questions([trait for trait in rebuilt if not trait.is_judged], measure, suffix="")
