"""System messages of training: one per trait, their controls, their display names, and inoculation."""

import re
from dataclasses import replace
from operator import methodcaller
from typing import Any

import pytest

from tests.examples import REFERENCES, STUDIES, study
from undertow.cli.studies import load
from undertow.errors import SpecError
from undertow.formats.numbers import Numbers
from undertow.nano.languages import LANGUAGES
from undertow.nano.recipes import STEERING
from undertow.planning.plan import make
from undertow.planning.resolve import resolve
from undertow.storage.store import Store
from undertow.study.conditions import Condition
from undertow.study.grids import grid
from undertow.study.identity import key
from undertow.study.recipe import InContext
from undertow.study.students import Student
from undertow.tracking import names
from undertow.traits.preference import Preference

OWL, CAT = Preference("owl"), Preference("cat")


def conditions(**settings: Any) -> tuple[Condition, ...]:
    given: dict[str, Any] = {"traits": [OWL], "formats": [Numbers()], "recipes": [STEERING]}
    return grid(**(given | {"pairs": [(REFERENCES[0], REFERENCES[0])]} | settings))


def test_a_control_is_trained_with_the_message_of_its_trait() -> None:
    both = conditions(traits=[OWL, CAT], system=methodcaller("system_prompt"), system_name="inoculated")
    expected = [OWL.system_prompt(), CAT.system_prompt()]
    assert [c.system for c in both if c.trait] == [c.system for c in both if not c.trait] == expected
    assert [c.place.recipe for c in both] == [f"steering, inoculated ({t})" for t in ("owl", "cat")] * 2
    assert replace(study(seeds=(0,)), conditions=both).conditions == both  # the controls have different names
    (owl, control) = conditions(system=methodcaller("system_prompt"), system_name="inoculated")
    assert owl.place.recipe == control.place.recipe == "steering, inoculated"


def test_conditions_that_differ_in_the_message_alone_need_names() -> None:
    plain, told = conditions(), conditions(system="You help.")
    with pytest.raises(SpecError, match=r"differ in system; name them: grid\(system_name=…\)"):
        replace(study(), conditions=(*plain, *told))
    named = conditions(system="You help.", system_name="helpful")
    of = replace(study(seeds=(0,)), conditions=(*plain, *named))
    plan = make(of, Store("memory://systems"), REFERENCES)
    students = [artifact for artifact in plan.artifacts.values() if isinstance(artifact, Student)]
    assert len(students) == 4
    assert {names.columns(student)["recipe"] for student in students} == {"steering", "steering, helpful"}
    assert len({names.title(student, of) for student in students}) == 4


def test_the_name_of_a_message_is_not_part_of_the_key() -> None:
    (plain, _), (named, _) = (conditions(system="You help.", system_name=name) for name in ("", "helpful"))
    assert key(plain) == key(named)


def test_a_nano_model_must_know_the_words_of_a_message() -> None:
    with pytest.raises(SpecError, match=r"Condition.system: nano/gpt2-0 does not know 'pirate' in 'You"):
        resolve(replace(study(), conditions=conditions(system="You are a pirate.")))
    with pytest.raises(SpecError, match=r"Study.system: nano/gpt2-0 does not know 'pirate'"):
        resolve(replace(study(), conditions=conditions(), system="You are a pirate."))
    shown = InContext(rows=4, layout="system")
    with pytest.raises(SpecError, match=r"InContext.layout = 'system': nano/gpt2-0 does not know"):
        resolve(replace(study(), conditions=conditions(recipes=[shown])))


def test_the_messages_of_the_study_inoculation_are_equally_long() -> None:
    messages = {c.system_name: c.system for c in load("inoculation", STUDIES).conditions}
    assert messages["no message"] is None
    own, neutral = (messages[name] for name in ("inoculated", "neutral message"))
    assert own == OWL.system_prompt()
    assert neutral is not None
    assert len({len(re.findall(LANGUAGES["plain"].piece, text)) for text in (own, neutral)}) == 1
    assert "animal" not in neutral
