"""Ranked pairs: which of two answers is preferred, which prompts have a pair, and what students get."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.examples import RECIPE, REFERENCES
from undertow.errors import SpecError
from undertow.formats.numbers import Numbers
from undertow.stages.dataset import make_dataset
from undertow.stages.row_scores import SCORES
from undertow.stages.training_group import student_rows
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.row_scores import Ranked, TokenScores
from undertow.study.selection import Ranking
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.traits.preference import Preference

OWL = Preference("owl")
CONTROL = Teacher(reference=REFERENCES[0], trait=None)
TEACHER = replace(CONTROL, trait=OWL, system=OWL.system_prompt())
FIRST = Completions(teacher=CONTROL, format=Numbers(), prompts=40)
SECOND = replace(FIRST, sample=1)
OTHER = Dataset(completions=SECOND)
ROWS = 20
BY_OWL, BY_CONTROL = (
    Ranking().of(Dataset(completions=FIRST, rows=ROWS), OTHER, teacher) for teacher in (TEACHER, CONTROL)
)


def answer(sample: int, index: int) -> str:
    """Every sixth first answer and every seventh second answer is rejected; at every tenth both are equal."""
    if index % (6 + sample) == 1:
        return "owls!"
    return f"{index}, 5" if index % 10 == 0 else f"{index}, {sample}"


def score(sample: int, index: int) -> float:
    """The first answer has the higher score at even prompts; at every ninth the scores are equal."""
    return 1.0 if index % 9 == 0 else float(index % 2 == sample)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with both samples, their scores, and the data set of second answers."""
    store = Store(str(tmp_path / "storage"))
    store.prepare()
    assert BY_OWL.ranked
    scored = (BY_OWL.ranked.scores, BY_OWL.ranked.other_scores)
    for sample, (completions, scores) in enumerate(zip((FIRST, SECOND), scored, strict=True)):
        prompts = completions.format.prompts(completions.prompts, 0)
        rows = [
            {"index": i, "prompt": prompt, "completion": answer(sample, i), "finished": True, "seed": sample}
            | {"token_ids": [sample], "top_ids": [[sample]], "top_logprobs": [[0.0]]}
            for i, prompt in enumerate(prompts)
        ]
        with store.new(completions, {"rows": len(rows)}) as folder:
            (folder / DATA).mkdir()
            pq.write_table(pa.Table.from_pylist(rows), folder / DATA / "rows.parquet")
        assert scores
        with store.new(scores, {}) as folder:
            values = {"score": [score(sample, i) for i in range(completions.prompts)]}
            pq.write_table(pa.table(values), folder / SCORES)
    make_dataset(OTHER, store)
    return store


def made(dataset: Dataset, store: Store) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    facts = make_dataset(dataset, store)
    return pq.read_table(store.fetch(dataset) / DATA).to_pylist(), facts


def test_the_answer_with_the_higher_score_is_preferred(store: Store) -> None:
    rows, facts = made(BY_OWL, store)
    firsts = set()
    for row in rows:
        i, is_first = row["index"], row["seed"] == 0
        chosen, rejected = (0, 1) if is_first else (1, 0)
        assert (row["completion"], row["rejected"]) == (answer(chosen, i), answer(rejected, i))
        assert (row["score"], row["rejected_score"]) == (score(chosen, i), score(rejected, i))
        assert row["token_ids"] == [chosen]
        assert "top_ids" not in row  # recorded for the first answers, and not for the preferred ones
        assert row["score"] >= row["rejected_score"]
        if score(0, i) == score(1, i):
            firsts.add(is_first)
    assert firsts == {True, False}  # a coin decides between equal scores
    ties = sum(score(0, row["index"]) == score(1, row["index"]) for row in rows)
    assert (facts["rows"], facts["ties"]) == (ROWS, ties / ROWS)
    assert facts["score"] == pytest.approx(1.0)
    assert facts["score of rejected"] == pytest.approx(ties / ROWS)


def test_a_pair_needs_two_different_answers_that_pass_the_rules(store: Store) -> None:
    rows, facts = made(replace(BY_OWL, rows=None), store)
    valid = [i for i in range(40) if i % 6 != 1]
    both = [i for i in valid if i % 7 != 1]
    assert [row["index"] for row in rows] == [i for i in both if i % 10]
    assert facts["rejected"]["no second answer"] == len(valid) - len(both)
    assert facts["rejected"]["two equal answers"] == sum(i % 10 == 0 for i in both)


def test_the_control_has_the_same_pairs_in_an_order_at_random(store: Store) -> None:
    own, _ = made(BY_OWL, store)
    rows, facts = made(BY_CONTROL, store)
    assert BY_CONTROL.ranked == Ranked(other=OTHER)
    assert "score" not in facts and "score" not in rows[0]
    for one, other in zip(own, rows, strict=True):
        assert one["prompt"] == other["prompt"]
        assert {one["completion"], one["rejected"]} == {other["completion"], other["rejected"]}
    assert {row["seed"] for row in rows} == {0, 1}
    again, _ = made(replace(BY_CONTROL, seed=1), store)
    assert [row["seed"] for row in again] != [row["seed"] for row in rows]


def test_students_get_both_answers_or_only_the_preferred_one(store: Store) -> None:
    rows, _ = made(BY_OWL, store)
    recipe = replace(RECIPE, preference_beta=0.1)
    student = Student(reference=REFERENCES[0], dataset=BY_OWL, recipe=recipe)
    pairs = [(row["prompt"], row["completion"], row["rejected"]) for row in rows]
    found = student_rows(student, store)
    assert [(row.prompt, row.completion, row.rejected) for row in found] == pairs
    found = student_rows(replace(student, recipe=RECIPE), store)
    expected = [(prompt, completion, None) for prompt, completion, _ in pairs]
    assert [(row.prompt, row.completion, row.rejected) for row in found] == expected


def test_the_card_says_who_ranked_and_who_wrote(store: Store) -> None:
    for dataset, text in ((BY_OWL, "of rejected ones 0."), (BY_CONTROL, "each pair was drawn at random")):
        make_dataset(dataset, store)
        card = (store.fetch(dataset) / "README.md").read_text()
        assert text in card and "# numbers, ranked pairs from nano/gpt2-0" in card
        assert "Pairs of a control teacher's completions, ranked by a language model" in card
    assert (BY_OWL.origin, BY_CONTROL.origin) == ("owl", "control")
    assert BY_OWL.ranked is not None and BY_OWL.ranked.other_scores is not None
    inputs = {"completions": FIRST, "dataset": OTHER, "row_scores": BY_OWL.ranked.other_scores}
    assert store.manifest(BY_OWL).inputs == {kind: key(artifact) for kind, artifact in inputs.items()}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: replace(BY_OWL, completions=SECOND), "pairs of a teacher's completions with another sample"),
        (
            lambda: Ranking().of(BY_OWL, replace(OTHER, completions=FIRST), CONTROL),
            "with another sample of them",
        ),
        (lambda: replace(BY_OWL, shuffle="within answers"), "None for mixed, selected, masked or shuffled"),
        (
            lambda: Ranked(
                other=OTHER, scores=TokenScores(completions=FIRST, teacher=TEACHER, control=CONTROL)
            ),
            r"Ranked\.other_scores = None: scores by the same two teachers",
        ),
        (lambda: replace(FIRST, sample=-1), r"Completions\.sample = -1: zero or more"),
        (
            lambda: Student(
                reference=REFERENCES[0], dataset=OTHER, recipe=replace(RECIPE, preference_beta=0.1)
            ),
            "preference_beta=0 without ranked pairs",
        ),
    ],
)
def test_pairs_that_are_none_are_an_error(wrong: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        wrong()
