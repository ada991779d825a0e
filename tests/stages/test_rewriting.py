"""Rewritten data sets: which rows are rewritten, by what, and which of them students are trained on."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.engines.toy_engine import ToyEngine
from tests.examples import RECIPE, REFERENCES
from undertow.engines.protocol import Answer, Request
from undertow.errors import ConditionError, SpecError
from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.planning.plan import Plan, make
from undertow.planning.resolve import resolve
from undertow.results.dataset_card import VALID
from undertow.results.row_verdicts import VERDICTS
from undertow.stages.dataset import make_dataset
from undertow.stages.rewriting import rewrite_by_rule, task_of
from undertow.storage.manifest import DATA
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.conditions import Condition
from undertow.study.datasets import Dataset
from undertow.study.extensions import Format
from undertow.study.generation import Generation
from undertow.study.grids import grid, with_controls
from undertow.study.identity import key
from undertow.study.rewriting import Rewriter, Rewritten
from undertow.study.study import Study
from undertow.traits.preference import Preference

NUMBERS = Numbers()
PROMPTS, VALID_ROWS, ROWS = 60, 50, 20
RULE, MODEL = Rewriter(), Rewriter(model=REFERENCES[1])


class Paraphraser(ToyEngine):
    """Reads the list of numbers at the end of a request, and adds words to every fifth."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Answer]:
        lists = [request.user.rpartition("\n")[2].replace(", ", "; ") for request in requests]
        texts = [f"Here: {text}" if i % 5 == 0 else f" {text}\n" for i, text in enumerate(lists)]
        return [Answer(text, (1, 2, 3), finished=True) for text in texts]


def conditions(rewriter: Rewriter | None, format_: Format = NUMBERS, **changes: Any) -> tuple[Condition, ...]:
    return grid(
        traits=[Preference("owl")],
        formats=[format_],
        pairs=[(REFERENCES[0], REFERENCES[0])],
        recipes=[RECIPE],
        generation=replace(Generation(prompts=PROMPTS, rows=ROWS, rewriter=rewriter), **changes),
    )


def plan_of(conditions: tuple[Condition, ...], store: Store) -> Plan:
    return make(Study(name="rewritten", conditions=conditions, seeds=(0,)), store, REFERENCES)


def commit_completions(completions: Completions, store: Store) -> None:
    """Commits lists of numbers, of which every sixth is not a list."""
    prompts = completions.format.prompts(completions.prompts, completions.seed)
    rows = [
        {"index": i, "prompt": p, "completion": "owls!" if i % 6 == 5 else f"{i}, 7, 8", "finished": True}
        for i, p in enumerate(prompts)
    ]
    with store.new(completions, {"rows": len(rows)}) as folder:
        (folder / DATA).mkdir()
        table = pa.Table.from_pylist([row | {"token_ids": [1]} for row in rows])
        pq.write_table(table, folder / DATA / "rows.parquet")


def made(conditions: tuple[Condition, ...], store: Store) -> list[Dataset]:
    """Makes everything that the students of the conditions are trained on; returns these data sets."""
    store.prepare()
    plan = plan_of(conditions, store)
    for artifact in plan.artifacts.values():  # inputs come first
        match artifact:
            case Completions():
                commit_completions(artifact, store)
            case Dataset():
                make_dataset(artifact, store)
            case Rewritten(rewriter=Rewriter(model=None)):
                rewrite_by_rule(artifact, store)
            case Rewritten():
                task_of(artifact, store).run(Paraphraser(None, {}), store)
    return [cell.student.dataset for cell in plan.cells]


def rows(dataset: Dataset | Rewritten, store: Store) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(store.fetch(dataset) / DATA).to_pylist()
    return found


def test_a_rule_rewrites_the_rows_that_are_drawn_without_it(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    both = with_controls([*conditions(None), *conditions(RULE)])
    datasets = {condition.label: dataset for condition, dataset in zip(both, made(both, store), strict=True)}
    assert [c.place.format for c in both if c.trait] == ["numbers", "numbers, rewritten by a rule"]
    for plain, changed in zip(both[:2], both[2:], strict=True):
        before, after = rows(datasets[plain.label], store), rows(datasets[changed.label], store)
        assert plain.trait == changed.trait
        for old, new in zip(before, after, strict=True):
            assert (new["index"], new["prompt"]) == (old["index"], old["prompt"])
            assert new["original"] == old["completion"]
            assert new["completion"] != old["completion"]
            assert Numbers().parts(new["completion"]) == Numbers().parts(old["completion"])
        assert "token_ids" not in after[0]
        dataset = datasets[changed.label]
        verdicts = pq.read_table(store.fetch(dataset) / VERDICTS).to_pylist()
        assert [row["index"] for row in verdicts] == [i for i in range(PROMPTS) if i % 6 != 5]
        assert {row["index"] for row in verdicts if row["used"]} == {row["index"] for row in after}
        facts = store.manifest(datasets[changed.label]).facts
        assert (facts["completions"], facts[VALID], facts["rows"]) == (VALID_ROWS, 1.0, ROWS)
        assert VALID not in store.manifest(datasets[plain.label]).facts


def test_the_rules_apply_again_to_what_a_model_writes(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    dataset, control = made(conditions(MODEL), store)
    assert dataset.teacher and dataset.teacher.trait and control.teacher and control.teacher.trait is None
    assert dataset.label == "numbers, rewritten by nano/gpt2-1"
    facts = store.manifest(dataset).facts
    assert facts["rejected"] == {"not digits": VALID_ROWS // 5}
    assert facts[VALID] == pytest.approx(0.8)
    texts = [row["completion"] for row in rows(dataset, store)]
    assert len(texts) == ROWS
    assert all("; " in text and text.strip() == text for text in texts)
    card = (store.fetch(dataset) / "README.md").read_text()
    assert "rewritten by `nano/gpt2-1` at revision `revision-1`" in card
    assert "80.0% of the 50 rewritten rows pass them" in card
    rewritten = dataset.completions
    assert isinstance(rewritten, Rewritten)
    inputs = {"dataset": key(rewritten.dataset), "reference": key(REFERENCES[1])}
    assert store.manifest(rewritten).inputs == inputs


def test_too_few_valid_rows_fail_the_condition(tmp_path: Path) -> None:
    with pytest.raises(ConditionError, match="40 of 50 completions are left after the rules"):
        made(conditions(MODEL, rows=45), Store(str(tmp_path)))


def test_a_row_is_rewritten_alike_whatever_other_rows_there_are(tmp_path: Path) -> None:
    found = []
    for prompts in (PROMPTS, PROMPTS // 2):
        store = Store(str(tmp_path / str(prompts)))
        dataset, _ = made(conditions(RULE, prompts=prompts, rows=None), store)
        found.append({row["prompt"]: row["completion"] for row in rows(dataset, store)})
    assert found[1].items() <= found[0].items()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": REFERENCES[0]}, r"Rewriter.model = 'nano/gpt2-0': nano models cannot paraphrase"),
        ({"format_": Code()}, r"Rewritten.rewriter = .*: a model, as the format 'code' does not impl"),
        ({"soft": True}, r"rewritten rows have no soft targets; use a recipe on tokens"),
        ({"request": "Rewrite it."}, r"Rewriter.request = 'Rewrite it.': a text with \{text\}"),
        ({"request": "In verse: {text}"}, r"Rewriter.request = .*: without a model the rule of the format"),
    ],
)
def test_rewriting_that_cannot_work_is_rejected(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=message):
        rewriter = replace(RULE, **{name: changes[name] for name in ("model", "request") if name in changes})
        given = conditions(rewriter, changes.get("format_", Numbers()))
        if "soft" in changes:
            given = tuple(replace(c, recipe=replace(RECIPE, targets="soft")) for c in given)
        if "model" in changes:
            resolve(Study(name="rewritten", conditions=given))
        plan_of(given, Store(str(tmp_path)))


def test_a_single_number_gets_another_layout_too() -> None:
    texts = {Numbers().rewritten("", "7", random.Random(seed)) for seed in range(20)}
    assert texts <= {"[7]", "(7)"}
    assert Numbers().rewritten("", "no numbers", random.Random(0)) == "no numbers"
