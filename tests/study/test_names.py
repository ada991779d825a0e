"""Tests that display names distinguish the reference models of a study, and stay short otherwise."""

from dataclasses import replace

import pytest

from tests.examples import study
from undertow.errors import SpecError
from undertow.judging.judges import RuleJudge, references
from undertow.study.conditions import Condition
from undertow.study.extensions import Judge, Word
from undertow.study.grids import all_pairs, grid, next_hop, starting, with_controls
from undertow.study.identity import key
from undertow.study.measurements import Panel
from undertow.study.names import display_names, is_display_name, short, without_revision
from undertow.study.references import Reference
from undertow.study.study import Study


def folder(path: str, revision: str) -> Reference:
    """A pinned folder."""
    return Reference(path.rsplit("/", 1)[-1], revision, "template", location=path)


def hub(name: str, revision: str) -> Reference:
    return Reference(name, revision, "template")


def study_of(*references: Reference) -> Study:
    """A study of all pairs of the references."""
    first = study().conditions[0]
    conditions = grid(
        traits=study().traits[:1],
        formats=[first.format],
        pairs=all_pairs(references),
        recipes=[first.recipe],
        generation=first.generation,
        finetuning=first.finetuning,
    )
    return replace(study(), conditions=conditions)


@pytest.mark.parametrize(
    ("references", "names"),
    [
        ([hub("org/a", "1" * 40), hub("org/b", "1" * 40), folder("/x/c", "2")], ["", "", ""]),
        (
            [folder("/x/run-a/checkpoint-100", "1"), folder("/x/run-b/checkpoint-100", "2")],
            [".../run-a/checkpoint-100", ".../run-b/checkpoint-100"],
        ),
        (
            [folder("/a/run/model", "1"), folder("/b/run/model", "2"), folder("/b/model", "3")],
            [".../a/run/model", ".../b/run/model", ".../b/model"],
        ),
        ([hub("org/m", "1a2b3c4d"), hub("org/m", "5a6b7c8d")], ["org/m@1a2b3c4", "org/m@5a6b7c8"]),
        ([hub("org/m", "1a2b3c4d"), hub("org/m", "1a2b3c4e")], ["org/m@1a2b3c4d", "org/m@1a2b3c4e"]),
        ([hub("a/m", "1a2b3c4d"), hub("b/m", "5a6b7c8d")], ["a/m@1a2b3c4", "b/m@5a6b7c8"]),
        ([hub("a/m", "1a2b3c4d"), folder("/x/m", "5")], ["", ".../x/m"]),
        ([Reference("a/m"), Reference("b/m")], ["", ""]),
        ([Reference("a/m", "v1"), Reference("a/m", "v2")], ["a/m@v1", "a/m@v2"]),
        ([Reference("./a/m"), Reference("./b/m")], ["", ""]),
    ],
)
def test_only_ambiguous_names_are_extended(references: list[Reference], names: list[str]) -> None:
    shown = display_names(references)
    assert [shown[reference] for reference in references] == names
    labels = [reference.changed(shown_as=shown[reference]).label for reference in references]
    assert len(set(labels)) == len(labels)
    for reference, label in zip(references, labels, strict=True):
        assert is_display_name(label, reference.name)
        assert not is_display_name(label, "other")
        if reference.chat_template:
            assert len({short(label) for label in labels}) == len(labels)


def test_the_name_without_a_revision() -> None:
    assert without_revision("org/m@1a2b3c4") == without_revision("org/m") == "org/m"


def test_a_study_of_two_folders_of_one_name_shows_their_paths_and_keeps_its_keys() -> None:
    one, two = folder("/x/run-a/checkpoint-100", "1"), folder("/x/run-b/checkpoint-100", "2")
    both = study_of(one, two)
    names = {c.place.teacher for c in both.conditions}
    assert names == {".../run-a/checkpoint-100", ".../run-b/checkpoint-100"}
    assert {key(c.teacher) for c in both.conditions} == {key(one), key(two)}
    alone = replace(both, conditions=study_of(one).conditions)
    assert {c.place.teacher for c in alone.conditions} == {"checkpoint-100"}
    filtered = tuple(c for c in both.conditions if c.teacher == c.student == one)
    assert {c.place.teacher for c in replace(both, conditions=filtered).conditions} == {"checkpoint-100"}


def test_two_revisions_of_one_hub_id_are_not_duplicates_before_they_are_pinned() -> None:
    both = study_of(Reference("org/m", "v1"), Reference("org/m", "v2"))
    assert {c.place.student for c in both.conditions} == {"org/m@v1", "org/m@v2"}
    with pytest.raises(SpecError, match="given twice"):
        replace(both, conditions=(*both.conditions, both.conditions[0]))


def test_the_names_of_conditions_that_others_start_from_are_extended_too() -> None:
    one, two = folder("/x/run-a/model", "1"), folder("/x/run-b/model", "2")
    first = next(
        c for c in study_of(one, two).conditions if c.trait and c.teacher == one and c.student == two
    )
    onward = replace(first, teacher=two)
    chained = replace(
        study_of(one, two),
        conditions=with_controls([first, *next_hop([first]), *starting([onward], teachers=first)]),
    )
    hop = next(c for c in chained.conditions if c.after and c.trait)
    assert (hop.place.teacher, hop.place.student) == (".../run-b/model", ".../run-b/model")
    started = next(c for c in chained.conditions if c.teacher_start and c.trait)
    assert started.place.teacher.startswith(".../run-b/model (after owl, numbers of .../run-a/model, ")
    assert [started.same_initialisation, hop.same_initialisation] == [False, True]


@pytest.mark.parametrize(
    ("teacher", "student", "same"),
    [
        (hub("a", "1"), hub("a", "1"), True),
        (hub("a", "1"), hub("a", "2"), False),
        (hub("a", "1"), hub("b", "1"), True),
        (replace(hub("a", "1"), weights="w"), replace(hub("b", "2"), weights="w"), True),
        (replace(hub("a", "1"), weights="w"), replace(hub("a", "2"), weights="v"), False),
        (Reference("a"), Reference("a"), True),
        (Reference("a"), Reference("b"), None),
        (hub("a", "1"), Reference("b"), None),
    ],
)
def test_initialisations_are_compared_by_weights(
    teacher: Reference, student: Reference, same: bool | None
) -> None:
    first: Condition = study().conditions[0]
    assert replace(first, teacher=teacher, student=student).same_initialisation is same


def test_one_model_in_two_precisions_is_shown_with_the_stated_one() -> None:
    plain = hub("org/m", "1a2b3c4d")
    exact, fast = plain.changed(precision="fp32"), plain.changed(precision="bf16")
    assert display_names([plain, exact]) == {plain: "", exact: "org/m in fp32"}
    assert display_names([exact, fast]) == {exact: "org/m in fp32", fast: "org/m in bf16"}
    assert display_names([exact]) == {exact: ""}
    assert is_display_name("org/m in fp32", "org/m")
    assert without_revision("m in bf16") == "m"
    assert len({condition.label for condition in study_of(plain, exact).conditions}) == 8


@pytest.mark.parametrize("judge", [RuleJudge("owls"), references("gpt-4.1")])
def test_a_judge_of_one_trait_is_no_part_of_a_panel(judge: Judge) -> None:
    noise = RuleJudge("noise", Word("noise", ("noise",)))
    with pytest.raises(SpecError, match=f"Panel: the judge '{judge.name}' judges one trait only"):
        Panel(counted=(judge,), shows=noise)
