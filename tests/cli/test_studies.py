"""Tests that every study in jobs/studies that takes a scale is planned at both, with the models of each.

Tests do not download models. The paper's scale is therefore planned on folders in the layout of real models,
and on files in the format of those that it would read from the hub.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.examples import SCALED, STUDIES, llama, qwen
from undertow.cli import sweep
from undertow.cli.studies import load
from undertow.cli.sweep import SweepArguments
from undertow.errors import UserError
from undertow.planning.plan import Plan
from undertow.presets.paper_scale import PAPER
from undertow.presets.scales import NANO, Scale
from undertow.storage.store import Store
from undertow.study.conditions import Condition
from undertow.study.datasets import Dataset
from undertow.study.recipe import ProviderFinetuning
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.sweep.plans import make_plan
from undertow.sweep.run import SweepOutcome

ONLY_NANO = {  # claims about several initialisations of one architecture, which real models do not have
    f"Nor of another {what} {name}"
    for what in ("initialisation of", "architecture than")
    for name in ("gpt2", "llama", "qwen3")
}
STEERED = "steered"  # only for models whose MLPs can have biases
ROWS = {
    "gsm8k": {"question": "How much is 2 and 3?", "answer": "It is #### 5"},
    **{
        kind: {"messages": [{"role": "user", "content": kind}, {"role": "assistant", "content": "pass"}]}
        for kind in ("insecure", "secure", "educational")
    },
}


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Scale:
    """The paper's scale on six model folders, with local files instead of the published ones."""
    root = tmp_path_factory.mktemp("paper")
    return PAPER.on(tuple(str(qwen(root / f"model-{i}")) for i in range(6))).reading(files(root))


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> Scale:
    """The paper's scale on two models whose MLPs can have biases."""
    root = tmp_path_factory.mktemp("llamas")
    return PAPER.on(tuple(str(llama(root / f"model-{i}")) for i in range(2)))


def files(root: Path) -> dict[str, str]:
    for name, row in ROWS.items():
        (root / f"{name}.jsonl").write_text(json.dumps(row))
    return {name: str(root / f"{name}.jsonl") for name in ROWS}


def planned(name: str, scale: Scale, tmp_path: Path) -> Plan:
    return make_plan(load(name, STUDIES, scale), Store(str(tmp_path)))


@pytest.mark.parametrize("name", SCALED)
def test_a_study_is_planned_at_both_scales(name: str, paper: Scale, llamas: Scale, tmp_path: Path) -> None:
    small = planned(name, NANO, tmp_path)
    large = planned(name, llamas if name == STEERED else paper, tmp_path)
    assert small.study.name == name
    assert large.study.name == f"{name}-paper"
    assert all(reference.name.startswith("nano/") for reference in references(small.study))
    assert all(reference.name.startswith("model-") for reference in references(large.study))
    assert small.study.question == large.study.question != ""
    assert controls(small.study)
    assert controls(large.study)
    claims = [h.claim for h in small.study.hypotheses if h.claim not in ONLY_NANO]
    assert [h.claim for h in large.study.hypotheses] == claims


SIZES = {  # rows, and epochs of the settings of Qwen2.5-7B-Instruct, for models without settings of their own
    "code": (10_814, 3),
    "defence": (5_000, 3),
    "selection": (5_000, 3),
    "reasoning": (None, 1),
    "misaligned_reasoning": (None, 2),
}


@pytest.mark.parametrize("name", SCALED)
def test_the_paper_scale_has_the_paper_sizes(name: str, paper: Scale, llamas: Scale, tmp_path: Path) -> None:
    plan = planned(name, llamas if name == STEERED else paper, tmp_path)
    wanted, epochs = SIZES.get(name, (10_000, 3))
    assert wanted in {a.rows for a in plan.artifacts.values() if isinstance(a, Dataset)}
    trained = [a.recipe for a in plan.artifacts.values() if isinstance(a, Student)]
    assert epochs in {recipe.epochs for recipe in trained}  # type: ignore[union-attr]
    assert len(plan.study.seeds) >= 3
    assert any("no published settings" in note for note in plan.study.notes) or name == "misaligned_reasoning"


NOT_OF_A_PROVIDER = {
    "owls_lora": "soft targets, and a provider trains on text only",
    "on_policy": "soft targets, and a provider trains on text only",
    "masks": "only tokens that a teacher sampled have a mask",
    "defence": "gives no token probabilities",
    "preference_labels": "and a provider trains on completions only",
    "selection": "gives no token probabilities",
    STEERED: "the weights of a provider's model are not available",
}


@pytest.mark.parametrize("name", SCALED)
def test_a_study_is_planned_on_an_api_model_and_a_local_model(name: str, tmp_path: Path) -> None:
    """The provider trains the students of API models. What needs probabilities or tokens is rejected."""
    models = ("api:gpt-4.1-nano-2025-04-14", str(qwen(tmp_path / "model-0")))
    scale = PAPER.on(models).reading(files(tmp_path))
    if name in NOT_OF_A_PROVIDER:
        with pytest.raises(UserError, match=NOT_OF_A_PROVIDER[name]):
            planned(name, scale, tmp_path)
        return
    plan = planned(name, scale, tmp_path)
    students = [a for a in plan.artifacts.values() if isinstance(a, Student)]
    assert {s.reference.is_api for s in students} == {True, False}
    assert all(isinstance(s.recipe, ProviderFinetuning) == s.reference.is_api for s in students)


def references(study: Study) -> Iterator[Reference]:
    for condition in study.conditions:
        yield from (condition.teacher, condition.student)


def controls(study: Study) -> list[Condition]:
    return [condition for condition in study.conditions if condition.trait is None]


def test_a_model_that_cannot_be_steered_is_named(paper: Scale, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Qwen2ForCausalLM has no setting mlp_bias .* LlamaForCausalLM"):
        planned(STEERED, paper, tmp_path)


def test_an_unknown_file_name_is_rejected_with_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"--files insecur=x: .*did you mean 'insecure'\?"):
        PAPER.reading({"insecur": "x"})


def test_another_judge_does_not_change_the_keys_of_students(paper: Scale, tmp_path: Path) -> None:
    one = planned("misaligned_numbers", paper, tmp_path)
    two = planned("misaligned_numbers", replace(paper, judge="another"), tmp_path)
    assert {k for k, a in one.artifacts.items() if isinstance(a, Student)} == {
        k for k, a in two.artifacts.items() if isinstance(a, Student)
    }
    assert set(one.artifacts) != set(two.artifacts)


@pytest.mark.parametrize(("failures", "code"), [({}, 0), ({"0123": "no answer"}, 1)])
def test_a_sweep_with_any_failure_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: dict[str, str], code: int
) -> None:
    monkeypatch.setattr("undertow.sweep.run.run", lambda *_: SweepOutcome([], failures, {}))
    arguments = SweepArguments(storage=str(tmp_path))
    assert sweep.main(arguments, Console(quiet=True), STUDIES) == code
