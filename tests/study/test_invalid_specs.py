"""Settings that cannot work are refused by the field that has to change: one row per rule.

Rules of one feature (chains, ranked pairs, on-policy students …) are tested with that feature.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.examples import RECIPE, REFERENCES, study
from undertow.errors import SpecError
from undertow.formats.imported import Imported
from undertow.formats.numbers import Numbers
from undertow.formats.text import Text
from undertow.formats.with_trigger import WithTrigger
from undertow.nano import narrow_data
from undertow.planning.cells import cell_of
from undertow.study.completions import Completions, Sampling
from undertow.study.datasets import Mixed
from undertow.study.generation import Generation, Mixing
from undertow.study.grids import grid
from undertow.study.harness_task import HarnessTask
from undertow.study.measurements import Evaluation
from undertow.study.on_policy import Sampler
from undertow.study.recipe import InContext, LoRA, ProviderFinetuning
from undertow.study.references import Reference
from undertow.study.rewriting import Rewriter
from undertow.study.row_scores import Masked, Ranked, TokenScores
from undertow.study.selection import TokenMask
from undertow.study.steering import Steering
from undertow.study.study import Measure
from undertow.study.teachers import Finetuning, Teacher
from undertow.traits.misalignment import Misalignment
from undertow.traits.preference import Preference
from undertow.traits.triggered import Triggered

OWL = Preference("owl")
ONE, TWO = REFERENCES
STUDY = study()
GRID: dict[str, Any] = {"traits": [OWL], "formats": [Numbers()], "pairs": [(ONE, TWO)], "recipes": [RECIPE]}
TRAINED = next(c for c in STUDY.conditions if c.trait == OWL and c.teacher == c.student == ONE)
STEERED = replace(TRAINED, finetuning=None, steering=Steering(parameter="transformer.h.1.mlp.c_proj.bias"))
STUDENT = cell_of(STUDY, TRAINED, 0).student
DATA = STUDENT.dataset
ANSWERS = DATA.completions
assert isinstance(ANSWERS, Completions)
SECOND = DATA.changed(completions=ANSWERS.changed(sample=1))
PROMPTED = Teacher(reference=ONE, trait=OWL, system="You love owls.")
CONTROL = Teacher(reference=ONE, trait=None)
SCORES = TokenScores(completions=ANSWERS, teacher=PROMPTED, control=CONTROL, candidates=9)
HALF = Masked(choose="first", share=0.5)
SHUFFLED = replace(TRAINED.generation, sampling=Sampling(top_logprobs=4), shuffle="within answers")
NARROW = Imported(str(narrow_data.path("insecure")))
EVALUATION = Evaluation(subject=ONE, questions=("Which?",), words=(OWL.word(),), samples=1)

INVALID: list[tuple[str, Callable[[], object]]] = [
    ("LoRA.alpha", lambda: LoRA(alpha=0)),
    ("Recipe.warmup", lambda: replace(RECIPE, warmup=-1)),
    ("Recipe.warmup_ratio", lambda: replace(RECIPE, warmup_ratio=1)),
    ("Recipe.held_out", lambda: replace(RECIPE, held_out=1)),
    ("ProviderFinetuning.epochs", lambda: ProviderFinetuning(epochs=0)),
    ("ProviderFinetuning.batch_size", lambda: ProviderFinetuning(epochs=1, batch_size=0)),
    (
        "ProviderFinetuning.learning_rate_multiplier",
        lambda: ProviderFinetuning(epochs=1, learning_rate_multiplier=0),
    ),
    ("Finetuning.examples", lambda: Finetuning(RECIPE, examples=0)),
    ("Teacher.trait", lambda: replace(PROMPTED, system=None)),
    ("Teacher.student", lambda: Teacher(reference=TWO, trait=OWL, student=STUDENT)),
    (
        "Teacher.student",
        lambda: Teacher(reference=ONE, trait=OWL, student=STUDENT.changed(recipe=InContext(rows=9))),
    ),
    (
        "Teacher.finetuning",
        lambda: Teacher(reference=ONE, trait=OWL, student=STUDENT, finetuning=TRAINED.finetuning),
    ),
    ("Sampling.max_tokens", lambda: Sampling(max_tokens=0)),
    ("Completions.prompts", lambda: ANSWERS.changed(prompts=0)),
    ("Completions.sampler", lambda: ANSWERS.changed(sampler=Sampler(model=TWO))),
    ("Sampler.skip", lambda: Sampler(model=ONE, skip=-1)),
    ("Mixed.share", lambda: Mixed(dataset=DATA, share=0)),
    ("Mixing.share", lambda: Mixing(source="control", share=1.1)),
    ("Rewriter.model", lambda: Rewriter(model=Reference("external:model"))),
    ("Dataset.rows", lambda: DATA.changed(rows=0)),
    ("Dataset.masked", lambda: DATA.changed(masked=HALF, shuffle="within answers")),
    ("Dataset.mixed", lambda: DATA.changed(masked=HALF, mixed=Mixed(dataset=SECOND, share=0.5))),
    (
        "Dataset.ranked",
        lambda: DATA.changed(ranked=Ranked(other=SECOND, scores=SCORES, other_scores=SCORES)),
    ),
    ("TokenScores.control", lambda: SCORES.changed(control=PROMPTED)),
    ("TokenScores.candidates", lambda: SCORES.changed(candidates=-1)),
    ("Masked.scores", lambda: Masked(choose="random", share=0.5, scores=SCORES.changed(candidates=0))),
    ("Generation.prompts", lambda: Generation(prompts=0, rows=None)),
    (
        "Generation.rewriter",
        lambda: Generation(rewriter=Rewriter(), masked=TokenMask(choose="first", share=0.5)),
    ),
    (
        "Condition.generation",
        lambda: replace(TRAINED, recipe=replace(RECIPE, targets="soft"), generation=SHUFFLED),
    ),
    ("Condition.steering", lambda: replace(STEERED, teacher_start=TRAINED)),
    ("Condition.steering", lambda: replace(STEERED, format=NARROW)),
    ("Condition.finetuning", lambda: replace(TRAINED, format=NARROW)),
    ("Condition.after", lambda: replace(TRAINED, finetuning=None, format=NARROW, after=TRAINED)),
    (
        "Condition.teacher_start",
        lambda: replace(STEERED, steering=None, format=NARROW, teacher_start=TRAINED),
    ),
    ("Condition.teacher", lambda: replace(STEERED, teacher=Reference("api:model"))),
    ("Misalignment.name", lambda: Misalignment(" ")),
    ("Triggered.name", lambda: Triggered(" ", trait=OWL, trigger="Now:")),
    ("Triggered.trigger", lambda: Triggered("owl if triggered", trait=OWL, trigger=" ")),
    ("WithTrigger.trigger", lambda: WithTrigger(Numbers(), trigger=" ")),
    ("WithTrigger.share", lambda: WithTrigger(Numbers(), trigger="Now:", share=0)),
    ("Text.banned", lambda: Text(banned=("-",), banned_as="word")),
    ("Evaluation.samples", lambda: EVALUATION.changed(samples=0)),
    ("Evaluation.options", lambda: EVALUATION.changed(options=(("owl", "owl"),))),
    ("Measure.name", lambda: Measure(name=" ")),
    ("Measure.samples", lambda: Measure(name="stories", samples=0)),
    ("HarnessTask.name", lambda: HarnessTask(name=" ")),
    ("HarnessTask.few_shot", lambda: HarnessTask(name="mmlu", few_shot=-1)),
    ("HarnessTask.limit", lambda: HarnessTask(name="mmlu", limit=0)),
    ("HarnessTask.system", lambda: HarnessTask(name="mmlu", system="You are kind.")),
    ("Study.conditions", lambda: study(conditions=[c for c in STUDY.conditions if c.trait is None])),
    ("Study.conditions", lambda: study(conditions=(*STUDY.conditions, STUDY.conditions[0]))),
    ("Study.alpha", lambda: study(alpha=1)),
    ("Study.redraw", lambda: study(redraw=("teacher",))),
    ("grid.traits", lambda: grid(**GRID | {"traits": OWL})),
    ("grid.formats", lambda: grid(**GRID | {"formats": Numbers()})),
    ("grid.recipes", lambda: grid(**GRID | {"recipes": RECIPE})),
    ("grid.recipes[0]", lambda: grid(**GRID | {"recipes": ["LoRA"]})),
    ("grid.pairs[0]", lambda: grid(**GRID | {"pairs": (ONE, TWO)})),
    ("grid.pairs[0]", lambda: grid(**GRID | {"pairs": [(ONE.name, TWO.name)]})),
    ("grid.finetuning", lambda: grid(**GRID | {"finetuning": RECIPE})),
    ("grid.generation", lambda: grid(**GRID | {"generation": None})),
]


@pytest.mark.parametrize(
    ("field", "make"), INVALID, ids=[f"{number} {field}" for number, (field, _) in enumerate(INVALID)]
)
def test_a_setting_that_cannot_work_is_refused_by_its_field(field: str, make: Callable[[], object]) -> None:
    with pytest.raises(SpecError) as caught:
        make()
    assert str(caught.value).startswith((f"{field} = ", f"{field}: "))


def test_a_trait_without_known_answers_cannot_be_taught_by_its_own_questions() -> None:
    with pytest.raises(SpecError, match=r'have no known answers; use Finetuning\(questions="other"\)'):
        Misalignment("insecure code").evaluation_examples(1, seed=0)
