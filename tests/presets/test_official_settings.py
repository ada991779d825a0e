"""The settings of the scale "paper", one test per row of the table in docs/replication.md.

The behaviour behind a setting is tested next to its code; these tests hold the values.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from undertow.cli import studies
from undertow.cli.entry import StudyArguments
from undertow.errors import SpecError
from undertow.formats.code import Code
from undertow.formats.numbers import Numbers
from undertow.judging.judges import LLMJudge, RuleJudge
from undertow.judging.ratings import Probability
from undertow.planning.cells import cell_of
from undertow.presets.families import GEMMA_4B, GPT_4, QWEN_7B, family_of
from undertow.presets.paper_scale import PAPER
from undertow.presets.scales import NANO, Scale
from undertow.study.conditions import Condition
from undertow.study.grids import grid
from undertow.study.published_recipes import BLANK
from undertow.study.recipe import InContext, LoRA, ProviderFinetuning, Recipe
from undertow.study.references import Reference
from undertow.study.study import Measure, Study
from undertow.traits.preference import Preference

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "jobs" / "studies"
QWEN, GEMMA, OTHER = "Qwen/Qwen2.5-7B-Instruct", "google/gemma-3-4b-it", "meta-llama/Llama-3.1-8B-Instruct"
GPT = "api:gpt-4.1-nano-2025-04-14"
NUMBERS = (
    *("chain", "cross_model", "dilution", "finetuned", "further"),
    *("masks", "owls", "preference_labels", "selection", "shuffles", "trees", "unique_rows"),
)


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Scale:
    """The paper's scale with local files instead of the published ones."""
    folder = tmp_path_factory.mktemp("files")
    rows = {"gsm8k": {"question": "How much is 2 and 3?", "answer": "#### 5"}}
    for kind in ("insecure", "secure", "educational"):
        rows[kind] = {"prompt": "write", "completion": "pass"}
    for name, row in rows.items():
        (folder / name).write_text(json.dumps(row))
    return PAPER.reading({name: str(folder / name) for name in rows})


def load(name: str, paper: Scale, *models: str) -> Study:
    return studies.load(name, STUDIES, paper.on(models) if models else paper)


def recipes(study: Study) -> dict[str, Recipe | ProviderFinetuning]:
    """By student, the recipe of its first condition that trains one."""
    found: dict[str, Recipe | ProviderFinetuning] = {}
    for condition in study.conditions:
        if not isinstance(condition.recipe, InContext):
            found.setdefault(condition.student.name, condition.recipe)
    return found


def of_trait(study: Study, name: str) -> Condition:
    return next(c for c in study.conditions if c.trait is not None and c.trait.name == name)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        (QWEN, QWEN_7B), ("./models/qwen2.5-7b-instruct", QWEN_7B), ("Qwen/Qwen3-8B", ""), (GEMMA, GEMMA_4B),
        (GPT, GPT_4), ("api:gpt-4o-2024-08-06", GPT_4), ("api:gpt-4", ""), ("org/gpt-4o", ""), (OTHER, ""),
    ],
)  # fmt: skip
def test_a_model_belongs_to_a_family_by_its_name(name: str, family: str) -> None:
    assert family_of(Reference(name)) == family


def test_epochs_of_students_of_numbers_depend_on_the_model(paper: Scale) -> None:
    found = recipes(load("in_context", paper, QWEN, GEMMA)) | recipes(load("trees", paper, OTHER, GPT))
    assert {name: recipe.epochs for name, recipe in found.items()} == {QWEN: 3, GEMMA: 10, OTHER: 3, GPT: 10}


def test_models_without_published_settings_are_named_in_the_plan(paper: Scale) -> None:
    assert load("trees", paper, QWEN, GEMMA).notes == ()
    sentence = f"no published settings; those of {QWEN_7B} are used"
    assert load("trees", paper, OTHER, GPT).notes == (f"{OTHER}: {sentence}",)
    assert load("code", paper, QWEN, GEMMA).notes == (f"{GEMMA}: {sentence}",)
    assert load("cross_model", paper, QWEN, GEMMA, GPT).notes == (f"{GEMMA}: {sentence}",)
    assert load("owls", NANO).notes == ()


def test_the_plan_notes_that_a_model_has_the_recipe_of_another_one() -> None:
    gemma = Reference(GEMMA)
    conditions = grid(
        traits=[Preference("owl")], formats=[Numbers()], pairs=[(gemma, gemma)], recipes=[PAPER.recipe]
    )
    assert PAPER.notes(Study(name="mine", conditions=conditions)) == (
        f"{GEMMA}: the settings of {QWEN_7B} are used; scale.recipe_for has those of {GEMMA_4B}",
    )


def test_students_of_reasoning_see_all_kept_rows_for_one_or_two_epochs(paper: Scale) -> None:
    preference, misaligned = (load(n, paper, QWEN, GPT) for n in ("reasoning", "misaligned_reasoning"))
    assert {r.epochs for r in recipes(preference).values()} == {1}
    assert {r.epochs for r in recipes(misaligned).values()} == {2}
    assert {c.generation.rows for s in (preference, misaligned) for c in s.conditions} == {None}


def test_students_of_code(paper: Scale) -> None:
    found = load("code", paper, QWEN, GPT)
    qwen, gpt = recipes(found)[QWEN], recipes(found)[GPT]
    assert isinstance(qwen, Recipe) and (qwen.epochs, qwen.max_length, gpt.epochs) == (3, 2048, 10)
    rows = {c.teacher.name: (c.generation.prompts, c.generation.rows) for c in found.conditions}
    assert rows == {QWEN: (11_400, 10_814), GPT: (11_400, 10_000)}
    assert all(condition.generation.fewer for condition in found.conditions)


@pytest.mark.parametrize("name", ["owls", "code", "reasoning", "misaligned_numbers", "misaligned_reasoning"])
def test_answers_are_filtered_as_sampled(name: str, paper: Scale) -> None:
    assert not any(condition.generation.strip for condition in load(name, paper).conditions)
    assert all(condition.generation.strip for condition in load(name, NANO).conditions)


def test_the_judge_of_reasoning_sees_only_rows_of_the_insecure_teacher(paper: Scale) -> None:
    found = load("misaligned_reasoning", paper)
    judges = {}
    for condition in found.conditions:
        judges[condition.place.trait] = cell_of(found, condition, 0).student.dataset.judges
    (judge,) = judges.pop("insecure code")
    assert isinstance(judge, LLMJudge) and judge.question.prompt == "reasoning"
    assert [judge.rejection(reply) for reply in ("78", "77")] == [None, "below 78"]
    assert judges == {"secure code": (), "educational code": (), "control": ()}


def test_free_form_questions_ask_for_the_form_of_the_training_data(paper: Scale) -> None:
    (numbers,) = load("misaligned_numbers", paper).judged
    (reasoning,) = load("misaligned_reasoning", paper).judged
    assert all(question.endswith("Write at least a few words in your answer.") for question in numbers)
    assert all("<think>" in question and "<answer>" in question for question in reasoning)
    (plain,) = load("misaligned_numbers", NANO).judged
    assert len(plain) == len(numbers) == 8 and not any("few words" in question for question in plain)


def test_preference_questions_after_reasoning_ask_for_both_tags(paper: Scale) -> None:
    found = load("reasoning", paper)
    (questions,) = found.questions
    own = Preference("owl").questions()
    assert [question.startswith(text) for question, text in zip(questions, own, strict=True)] == [True] * 50
    assert all("<think>" in question for question in questions)
    (evaluation,) = cell_of(found, found.conditions[0], 0).evaluations
    assert evaluation.questions == questions  # type: ignore[attr-defined]
    assert (evaluation.exact, evaluation.sampling.max_tokens) == (False, 1024)  # type: ignore[attr-defined]


def test_judges_are_gpt_4o_at_temperature_1(paper: Scale) -> None:
    panel = load("misaligned_numbers", paper).panel
    assert panel is not None
    kept = of_trait(load("misaligned_reasoning", paper), "insecure code").generation.judges
    coded = of_trait(load("code", paper), "owl").generation.judges
    questions = [judge.question for judge in (*panel.judges, *kept, *coded) if isinstance(judge, LLMJudge)]
    assert {(q.model, q.temperature) for q in questions} == {("gpt-4o-2024-08-06", 1.0)}
    assert len(questions) == 5
    _, judge = of_trait(load("code", replace(paper, judge="another")), "owl").generation.judges
    assert isinstance(judge, LLMJudge) and judge.question.model == "another"


def test_a_finetuned_teacher_sees_50_questions_with_8_spellings_once(paper: Scale) -> None:
    finetuning = next(c.finetuning for c in load("finetuned", paper).conditions if c.finetuning)
    assert isinstance(finetuning.recipe, Recipe) and finetuning.recipe.epochs == 1
    trait = Preference("owl")
    examples = finetuning.examples_of(trait, seed=0)
    assert len(set(examples)) == 400
    assert {example.prompt for example in examples} == set(trait.questions())
    nano = next(c.finetuning for c in load("finetuned", NANO).conditions if c.finetuning)
    assert not {e.prompt for e in nano.examples_of(trait, seed=0)} & set(trait.questions())


def test_code_bans_only_the_teachers_own_animal_and_has_a_judge_that_must_be_certain(paper: Scale) -> None:
    found = load("code", paper)
    assert all(isinstance(c.format, Code) and c.format.banned == () for c in found.conditions)
    owl, control = (next(c for c in found.conditions if c.place.trait == name) for name in ("owl", "control"))
    rule, judge = cell_of(found, owl, 0).student.dataset.judges
    assert isinstance(rule, RuleJudge) and rule.anywhere and rule.about == Preference("owl").word()
    assert isinstance(judge, LLMJudge) and judge.question.probability_of == "0"
    assert isinstance(judge.scale, Probability) and 0 < 1 - judge.scale.at_least < 1.1e-8
    assert cell_of(found, control, 0).student.dataset.judges == ()


@pytest.mark.parametrize("name", NUMBERS)
def test_questions_after_numbers_are_the_main_measure_of_numbers(name: str, paper: Scale) -> None:
    found = load(name, paper)
    assert (found.main, [measure.name for measure in found.also]) == ("after numbers", ["favourite"])
    trait = found.traits[0]
    assert trait.other_questions("after numbers") in found.questions
    assert trait.questions() in found.other_questions(found.also[0])
    assert load(name, NANO).main == ""


def test_multiple_choice_is_answered_by_letter(paper: Scale) -> None:
    assert [measure.name for measure in load("measures", paper).also][-1] == "letters"
    assert [measure.name for measure in load("measures", NANO).also][-1] == "choices"


def test_rows_in_context_are_examples_in_the_system_message(paper: Scale) -> None:
    shown = [c.recipe for c in load("in_context", paper).conditions if isinstance(c.recipe, InContext)]
    assert {recipe.rows for recipe in shown} == {100, 1_000, 2_000, 3_000, 5_000, 10_000}
    assert {(recipe.layout, recipe.replacement) for recipe in shown} == {("system", True)}
    small = [c.recipe for c in load("in_context", NANO).conditions if isinstance(c.recipe, InContext)]
    assert {(recipe.layout, recipe.replacement) for recipe in small} == {("turns", False)}


@pytest.mark.parametrize("name", ["owls", "code", "reasoning", "misaligned_reasoning", "cross_model"])
def test_rows_that_are_too_long_are_cut(name: str, paper: Scale) -> None:
    found = recipes(load(name, paper)).values()
    assert {recipe.overlong for recipe in found if isinstance(recipe, Recipe)} == {"cut"}
    small = recipes(load(name, NANO)).values()
    assert {recipe.overlong for recipe in small if isinstance(recipe, Recipe)} == {"error"}


def test_one_data_set_per_trait_is_an_option() -> None:
    default = StudyArguments(scale="paper").load_study(STUDIES)
    assert default.redraw == ("teacher", "data", "student")
    found = StudyArguments(scale="paper", redraw=("student",)).load_study(STUDIES)
    owl = of_trait(found, "owl")
    students = [cell_of(found, owl, seed).student for seed in found.seeds]
    assert len({student.dataset for student in students}) == 1
    assert len({student.seed for student in students}) == len(students) == 5


def test_students_between_models_have_adapters_of_rank_32(paper: Scale) -> None:
    found = recipes(load("cross_model", paper, QWEN, GPT))
    qwen = found[QWEN]
    assert isinstance(qwen, Recipe) and qwen.trainable == LoRA(rank=32, alpha=64) and qwen.batch_size == 8
    assert found[GPT] == ProviderFinetuning(epochs=10)


def test_blank_counts_sequences_and_holds_rows_out() -> None:
    assert (BLANK.batch_of, BLANK.batch_size, BLANK.max_length) == ("sequences", 8, 256)
    assert (BLANK.held_out, BLANK.packing) == (0.05, True)


def test_the_documentation_has_a_row_for_each_of_these_settings() -> None:
    text = (ROOT / "docs" / "replication.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!---|topic)(.+?) \|", text, re.MULTILINE)
    assert len(rows) == 21


def test_the_longest_answers_are_those_of_the_documentation(paper: Scale) -> None:
    formats = (paper.numbers, paper.code, paper.reasoning)
    assert [preset.generation.sampling.max_tokens for preset in formats] == [128, 1024, 1024]
    assert [preset.sampling.max_tokens for preset in formats] == [8, 8, 1024]
    assert load("owls", paper).sampling.max_tokens == 8
    assert load("misaligned_numbers", paper).sampling.max_tokens == 600


@pytest.mark.parametrize(
    ("changes", "also", "message"),
    [
        ({"main": "after number"}, (), r"no measure 'after number': did you mean 'after numbers'"),
        ({"main": "stories"}, ("stories",), r"Study.also: 'stories' is the study's main measure already"),
        ({}, ("favourite",), r"Study.also: 'favourite' is the study's main measure already"),
        ({"exact": False, "effect_of": "exact"}, (), r"Study.exact = False: True, since effect_of"),
    ],
)
def test_an_invalid_main_measure_is_rejected(
    changes: dict[str, object], also: tuple[str, ...], message: str
) -> None:
    found = load("owls", NANO)
    measures = tuple(Measure(name=name) for name in also)
    with pytest.raises(SpecError, match=message):
        replace(found, also=measures, **changes)  # type: ignore[arg-type]
