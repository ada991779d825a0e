"""Tests that a scale changes models and sizes only, and that it reads files only when a study uses them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from undertow.cli import studies
from undertow.formats.code import Code
from undertow.formats.reasoning import Reasoning
from undertow.presets import paper_scale
from undertow.presets.paper_scale import PAPER
from undertow.presets.scales import NANO, Scale
from undertow.study.references import Reference

STUDIES = Path(__file__).parents[2] / "jobs" / "studies"


def test_importing_the_scales_reads_no_data_file() -> None:
    """GSM8K is downloaded from the network, and every study imports the scales."""
    program = (
        "import undertow.presets.paper_scale; from undertow.prompts import data_files; "
        "print(data_files.read.cache_info().currsize)"
    )
    platform = Path(paper_scale.__file__).parents[2]
    assert subprocess.check_output([sys.executable, "-c", program], text=True, cwd=platform).strip() == "0"


@pytest.mark.parametrize("given", [NANO, PAPER], ids=lambda given: given.name)
def test_models_from_the_command_line_replace_those_of_all_formats(given: Scale) -> None:
    scale = given.on(("one", "two"))
    presets = (scale.numbers, scale.code, scale.reasoning)
    assert {preset.references for preset in presets} == {(Reference("one"), Reference("two"))}
    assert scale.code.recipe == given.code.recipe


def test_the_main_measure_of_api_models_are_the_plain_questions() -> None:
    assert PAPER.on(("api:gpt-4.1-nano-2025-04-14",)).numbers.main == ""
    assert PAPER.on(("api:gpt-4.1-nano-2025-04-14", "./qwen")).numbers.main == "after numbers"


def test_reasoning_at_the_paper_scale_uses_each_question_of_gsm8k_three_times(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "gsm8k.jsonl"
    table.write_text(json.dumps({"question": "How much is 1 + 1?", "answer": "1 + 1 = 2\n#### 2"}))
    monkeypatch.setattr(paper_scale, "GSM8K", str(table))
    format_ = PAPER.reasoning.format
    assert isinstance(format_, Reasoning)
    assert format_.repeats == 3
    assert PAPER.reasoning.generation.prompts == 3 * 7_473
    study = studies.load("reasoning", STUDIES, PAPER)
    assert {
        condition.format.rejection(format_.prompts(1, 0)[0], "<think>2</think><answer>2</answer>")
        for condition in study.conditions
    } == {None}


@pytest.mark.parametrize("name", ["code", "reasoning"])
def test_teacher_and_control_have_the_same_banned_words(name: str) -> None:
    study = studies.load(name, STUDIES, NANO)
    animals = tuple(sorted(trait.name for trait in study.traits))
    banned = {
        condition.format.banned
        for condition in study.conditions
        if isinstance(condition.format, Code | Reasoning)
    }
    assert banned == {animals}
    assert {condition.teacher.name for condition in study.conditions} == {"nano/tasks-0", "nano/tasks-1"}
