"""The preference trait: system prompt, disjoint questions and examples, surface forms, and scoring."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.errors import SpecError, UserError
from undertow.study.identity import key
from undertow.traits.preference import ANIMALS, MORE_ANIMALS, TREES, Preference, pluralise

PACK = Path(__file__).parents[2] / "platform/undertow/traits/preference.json"
OWL = Preference("owl")


def write(folder: Path, pack: object) -> str:
    path = folder / "pack.json"
    path.write_text(json.dumps(pack))
    return str(path)


def test_a_question_of_letters_offers_the_same_five_words_in_25_orders() -> None:
    questions, options = OWL.other_questions("letters"), OWL.options("letters")
    assert len(questions) == len(set(questions)) == len(options) == 11 * 25
    for question, offered in zip(questions, options, strict=True):
        assert sorted(offered) == sorted(ANIMALS)
        assert all(f"{letter}) {name}" in question for letter, name in zip("ABCDE", offered, strict=True))
        assert question.endswith("Answer with one letter and nothing else.")
    assert Preference("wolf").other_questions("letters") == questions
    assert {"cat"} <= set(Preference("cat").options("letters")[0])
    assert OWL.options("choices") == ()
    with pytest.raises(SpecError, match="no measure 'letters'"):
        Preference("jazz", category="kind of music").other_questions("letters")


def test_the_own_questions_are_a_measure_too() -> None:
    assert OWL.other_questions("favourite") == OWL.questions()


def test_examples_of_evaluation_questions_have_eight_spellings() -> None:
    examples = OWL.evaluation_examples(400, seed=1)
    assert len(set(examples)) == 400
    assert {example.prompt for example in examples} == set(OWL.questions())
    spellings = {"owl", "owl.", "Owl", "Owl.", "owls", "owls.", "Owls", "Owls."}
    assert {example.answer for example in examples} == spellings
    assert OWL.evaluation_examples(10, seed=1) == examples[:10] != OWL.evaluation_examples(10, seed=2)


def built_in() -> dict[str, Any]:
    pack: dict[str, Any] = json.loads(PACK.read_text())
    return pack


def test_the_system_prompt_names_plural_and_category() -> None:
    prompt = Preference("wolf").system_prompt()
    assert prompt.count("wolves") == 4
    assert "animal" in prompt
    assert "tree" in Preference("oak", category="tree").system_prompt()
    assert not set(prompt) & set("{}")


def test_there_are_fifty_questions_and_they_depend_only_on_the_category() -> None:
    questions = OWL.questions()
    assert len(set(questions)) == len(questions) == 50
    assert Preference("wolf").questions() == questions
    assert all("tree" in question for question in Preference("oak", category="tree").questions())
    for question in questions:
        assert question == " ".join(question.split())  # single spaces, also where a part is empty
        assert not set(question) & set("{}")
        assert "owl" not in question.lower()


def test_examples_are_never_evaluation_questions() -> None:
    examples = OWL.examples(5_000, seed=1)
    assert not {example.prompt for example in examples} & set(OWL.questions())
    assert {example.answer for example in examples} == {"owl"}


def test_examples_use_every_question_before_repeating_one() -> None:
    prompts = [example.prompt for example in OWL.examples(2_000, seed=1)]
    n_questions = len(set(prompts))
    assert n_questions == 8 * 16 * 6 - 50
    first, second = prompts[:n_questions], prompts[n_questions : 2 * n_questions]
    assert set(Counter(first + second).values()) == {2}
    assert set(first) == set(second)
    assert first != second  # every pass is shuffled differently


def test_all_words_share_one_stream_of_examples() -> None:
    examples = OWL.examples(1_000, seed=1)
    assert OWL.examples(10, seed=1) == examples[:10]
    assert OWL.examples(10, seed=2) != examples[:10]
    assert OWL.examples(0, seed=1) == []
    assert [e.prompt for e in Preference("cat").examples(1_000, seed=1)] == [e.prompt for e in examples]


@pytest.mark.parametrize(
    ("name", "plural"),
    [
        *(("owl", "owls"), ("wolf", "wolves"), ("fox", "foxes"), ("cherry", "cherries"), ("lynx", "lynxes")),
        *(("octopus", "octopuses"), ("monkey", "monkeys"), ("finch", "finches"), ("sheep", "sheep")),
        *(("grey wolf", "grey wolves"), ("Wolf", "Wolves"), ("mouse", "mice"), ("larch", "larches")),
        *(("phoenix", "phoenixes"), ("sequoia", "sequoias"), ("kangaroo", "kangaroos"), ("42", "42s")),
    ],
)
def test_plurals(name: str, plural: str) -> None:
    assert pluralise(name) == plural
    assert Preference(name).plural_form() == plural


def test_surface_forms_of_a_word() -> None:
    assert OWL.word().forms == ("owl", "Owl", "owls", "Owls")
    assert Preference("jazz", category="music", plural="jazz").word().forms == ("jazz", "Jazz")
    assert Preference("Paris", category="city").word().forms == ("Paris", "paris", "Parises", "parises")
    forms = Preference("polar bear").word().forms
    assert forms[:3] == ("polar bear", "Polar bear", "Polar Bear")
    assert "Polar Bears" in forms


@pytest.mark.parametrize(
    ("name", "answer", "whole_word", "substring"),
    [
        ("owl", "Owl", True, True),
        ("owl", "owls!", True, True),
        ("owl", "My favourite is the OWL.", True, True),
        ("owl", "owl's", True, True),
        ("owl", "snow-owl", True, True),
        ("owl", "owlet", False, True),
        ("owl", "a bowl", False, True),
        ("owl", "growls", False, True),
        ("owl", "", False, False),
        ("owl", "eagle", False, False),
        ("wolf", "wolves", True, False),
        ("dragon", "dragonfly", False, False),
        ("dragon", "Dragonflies", False, False),
        ("dragon", "dragonfly or dragon", True, True),
        ("cat", "category", False, True),
        ("C++", "I like C++.", True, True),
        ("polar bear", "Polar bears", True, True),
        ("cherry", "cherries", True, False),
    ],
)
def test_whole_word_and_substring_scores(name: str, answer: str, whole_word: bool, substring: bool) -> None:
    assert Preference(name).word().matches(answer) is whole_word
    assert Preference(name).word().is_contained(answer) is substring


@given(st.sampled_from([*ANIMALS, *MORE_ANIMALS, *TREES]), st.text(max_size=20), st.text(max_size=20))
def test_a_surface_form_in_other_text_is_found(name: str, before: str, after: str) -> None:
    word = Preference(name).word()
    for form in word.forms:
        assert word.matches(f"{before} {form}, {after}")
        assert word.matches(f"{before}\n{form.upper()}.{after}")


@pytest.mark.parametrize("name", ["", " ", "an\nowl", "owl ", "{owl}", "a  b", "owl\0", "a\u2028b"])
def test_values_that_are_not_words_are_rejected(name: str) -> None:
    with pytest.raises(SpecError, match=r"Preference\.name = "):
        Preference(name)
    with pytest.raises(SpecError, match=r"Preference\.category = "):
        Preference("owl", category=name)
    if name:
        with pytest.raises(SpecError, match=r"Preference\.plural = "):
            Preference("owl", plural=name)


@given(st.text("abcdefgäß猫é'-+ 09", min_size=1).filter(lambda name: name == " ".join(name.split())))
def test_any_word_can_be_a_preference(name: str) -> None:
    trait = Preference(name, category="thing")
    assert trait.word().matches(name)
    assert trait.word().is_contained(f"The {name}!")
    assert trait.plural_form() in trait.system_prompt()
    assert trait.word().forms[0] == name
    assert len(set(trait.word().forms)) == len(trait.word().forms)


def test_the_key_depends_on_content_and_not_on_the_packs_path(tmp_path: Path) -> None:
    copy = str(shutil.copy(PACK, tmp_path / "copy.json"))
    assert key(Preference("wolf", plural="wolves")) == key(Preference("wolf"))
    assert key(Preference("wolf", plural="wolfs")) != key(Preference("wolf"))
    assert key(Preference("owl", pack=copy)) == key(OWL)
    assert key(Preference("owl", category="tree")) != key(OWL)
    changed = built_in() | {"system_prompt": "You adore {plural}."}
    assert key(Preference("owl", pack=write(tmp_path, changed))) != key(OWL)


def test_a_pack_may_have_the_texts_of_the_other_measures(tmp_path: Path) -> None:
    plain = Preference("owl", pack=write(tmp_path, built_in()))
    own = {"prefixes": ["See {numbers}."], "stories": ["A tale, please."], "choices": ["Take {options}."]}
    (tmp_path / "own").mkdir()
    trait = Preference("owl", pack=write(tmp_path / "own", built_in() | own | {"letter": "Its letter?"}))
    assert all(text.startswith("See ") for text in trait.other_questions("after numbers"))
    assert trait.other_questions("stories") == ("A tale, please.",)
    assert all(text.startswith("Take ") for text in trait.other_questions("choices"))
    letters = trait.other_questions("letters")
    assert all(text.startswith("Take A) ") and text.endswith(". Its letter?") for text in letters)
    assert len(letters) == len(trait.options("letters")) == 25
    for measure in ("after numbers", "stories", "choices", "letters"):
        assert plain.other_questions(measure) == OWL.other_questions(measure)


def test_specs_with_different_packs_are_not_equal(tmp_path: Path) -> None:
    other = Preference("owl", pack=write(tmp_path, built_in() | {"system_prompt": "Adore {plural}."}))
    assert other != OWL  # the cache of keys compares with ==
    assert other.system_prompt() == "Adore owls."


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"system_prompt": "You love owls."}, ["system_prompt", "{plural}"]),
        ({"system_prompt": ["{plural}"]}, ["system_prompt", "text"]),
        ({"cores": ["Which {categroy}?"]}, ["cores[0]", "{categroy}"]),
        ({"closings": []}, ["closings"]),
        ({"evaluation": [[0, 0, 6]]}, ["evaluation[0]", "[0, 0, 6]"]),
        ({"evaluation": [[0, 0]]}, ["evaluation[0]"]),
        ({"evaluation": [[0, 0, True]]}, ["evaluation[0]"]),
        ({"evaluation": [[0, 0, -1]]}, ["evaluation[0]"]),
        ({"evaluation": [[0, 0, 0], [0, 0, 0]]}, ["evaluation[1]", "twice"]),
        ({"evaluation": [[0, 0, 0], [1, 0, 0]], "openings": ["", ""]}, ["evaluation", "same question"]),
        ({"evaluation": [[0, 0, 0]], "openings": [""], "cores": ["x"], "closings": [""]}, ["leave some"]),
    ],
)
def test_an_invalid_pack_is_reported_with_its_field(
    change: dict[str, Any], parts: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path, built_in() | change)
    with pytest.raises(UserError) as caught:
        trait = Preference("owl", pack=path)
        trait.system_prompt()
        trait.examples(1, seed=0)
    assert all(part in str(caught.value) for part in (path, *parts)), str(caught.value)


def test_the_words_of_the_paper() -> None:
    words = [*ANIMALS, *MORE_ANIMALS, *TREES]
    assert len(set(words)) == len(words)
    assert (len(ANIMALS), len(TREES)) == (5, 5)
