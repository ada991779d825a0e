"""Judges as a study states them, adapted to the trait of a teacher."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from undertow.archive.spec_comparison import JsonSpec, OneOf, Unstated, text_of
from undertow.archive.stated_traits import rebuild_trait
from undertow.study.identity import canonical


def judges_of(stated: Sequence[JsonSpec], trait: JsonSpec | None) -> Any:
    """The judges of a data set: each stated judge as `Judge.concerning` adapts it to the teacher's trait.

    A judge that looks for the trait of each teacher gets the trait's word in place of a None, and does not
    judge data without a trait. A stated spec does not tell whether an LLM judge's prompt has a place for a
    trait.
    """
    choices = [_adaptations(judge, trait) for judge in stated]
    lists = [[judge for judge in choice if judge is not None] for choice in itertools.product(*choices)]
    if len(lists) == 1:
        return lists[0]
    return OneOf(f"judges {text_of(stated)} of {text_of(trait)}", tuple(lists))


def _adaptations(judge: JsonSpec, trait: JsonSpec | None) -> list[JsonSpec | None]:
    """What a stated judge may become for a trait; None stands for no judge."""
    only = judge.get("only") if judge["type"] == "LLMJudge" else None
    if only and (trait is None or trait["name"] not in only):
        return [None]
    adapted = _with_word(judge, trait) if trait else None
    is_rule = judge["type"] == "RuleJudge"
    names_its_word = is_rule or judge["type"] == "LLMJudge"
    if names_its_word and judge.get("question", judge)["about"] is not None:
        return [judge]
    if is_rule:
        return [adapted]
    return [judge] if adapted == judge else [judge, adapted]


def _with_word(value: Any, trait: JsonSpec, name: str = "") -> Any:
    """A judge's spec with the trait's word as `about`; other fields that are None may be anything."""
    if isinstance(value, Mapping):
        return {field: _with_word(inner, trait, field) for field, inner in value.items()}
    if value is not None:
        return value
    rebuilt = rebuild_trait(trait)
    if name == "about" and rebuilt:
        return canonical(rebuilt.word())
    return Unstated(f"{name} of a judge of {text_of(trait)}")
