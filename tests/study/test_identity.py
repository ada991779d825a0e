"""Tests which differences between specs change the key of an artifact.

The tests build every spec class from its annotations and change every field at every depth, so that a field
that is added to a spec is covered without a change here.
"""

import dataclasses
import itertools
import json
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, cast, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.errors import SpecError
from undertow.formats.code import Code
from undertow.formats.imported import Imported
from undertow.formats.numbers import Numbers
from undertow.formats.reasoning import Reasoning
from undertow.formats.text import Text
from undertow.formats.user_prompts import Prompts
from undertow.formats.with_trigger import WithTrigger
from undertow.judging import judges, ratings
from undertow.judging.judges import LLMJudge, Question, RuleJudge
from undertow.judging.ratings import Labels, Score
from undertow.nano import narrow_data
from undertow.study import (
    completions,
    conditions,
    datasets,
    extensions,
    generation,
    harness_task,
    measurements,
    on_policy,
    recipe,
    references,
    rewriting,
    row_scores,
    selection,
    steering,
    students,
    study,
    teachers,
)
from undertow.study.completions import Completions, Sampling
from undertow.study.datasets import Dataset
from undertow.study.extensions import Trait, Word
from undertow.study.fields import Spec, class_of, field_types
from undertow.study.harness_task import HarnessTask
from undertow.study.hypotheses import Hypothesis
from undertow.study.identity import KEY_DIGITS, canonical, canonical_json, digest, key, seed_for
from undertow.study.measurements import Evaluation
from undertow.study.recipe import Everything, FinalNorm, LoRA, Parameters, Recipe
from undertow.study.references import Reference
from undertow.study.steering import Steering
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.study.tuning import tuned
from undertow.traits.misalignment import Misalignment
from undertow.traits.preference import Preference
from undertow.traits.triggered import Triggered

REFERENCE = Reference("nano/gpt2-0", revision="1f", chat_template="none")
OTHER = dataclasses.replace(REFERENCE, revision="2f")
RECIPE = Recipe(trainable=LoRA(), learning_rate=2e-4, epochs=3, batch_size=66)
TEACHER = Teacher(reference=REFERENCE, trait=Preference("owl"), system="You love owls.")
CONTROL = Teacher(reference=REFERENCE, trait=None)
COMPLETIONS = Completions(teacher=TEACHER, format=Numbers(), prompts=100)
RECORDED = Sampling(top_logprobs=3)
DATASET = Dataset(completions=COMPLETIONS, rows=50)
STUDENT = Student(reference=REFERENCE, dataset=DATASET, recipe=RECIPE)
OWL = Word("owl", ("owl", "owls"))
TOKEN_SCORES = row_scores.TokenScores(completions=COMPLETIONS, teacher=TEACHER, control=CONTROL, candidates=5)
RANKED = row_scores.Ranked(other=Dataset(completions=dataclasses.replace(COMPLETIONS, sample=1)))
MASK = selection.TokenMask(choose="diverging", share=0.5, by=selection.Contrast(trait=Preference("owl")))
JUDGES = (RuleJudge(), judges.alignment("judge-1"))
JUDGED = dataclasses.replace(DATASET, judges=JUDGES)
TASK = HarnessTask(name="mmlu", chat=True, harness="0.4.13", definition="1f")
EVALUATION = Evaluation(subject=STUDENT, questions=("a?", "b?"), words=(OWL,), samples=10)
IMPORTED = Imported(str(narrow_data.path("insecure")))

WHOLE: dict[type[Spec], Any] = {
    Reference: REFERENCE,
    Trait: Preference("owl"),
    extensions.Format: Numbers(),
    Imported: IMPORTED,
    Prompts: IMPORTED.own_prompts(),
    completions.ImportedCompletions: completions.ImportedCompletions(format=IMPORTED, prompts=100),
    Teacher: TEACHER,
    Completions: COMPLETIONS,
    Dataset: DATASET,
    row_scores.TokenScores: TOKEN_SCORES,
    row_scores.RowScores: TOKEN_SCORES,
    row_scores.Masked: row_scores.Masked(choose="diverging", share=0.5, scores=TOKEN_SCORES),
    row_scores.Ranked: RANKED,
    selection.RowScore: selection.Contrast(trait=Preference("owl")),
    selection.TokenMask: MASK,
    selection.Contrast: selection.Contrast(
        trait=Preference("owl"), finetuning=teachers.Finetuning(RECIPE), prompted=True
    ),
    Recipe: RECIPE,
    extensions.Judge: RuleJudge(),
    Steering: Steering(parameter="model.layers.4.mlp.down_proj.bias"),
    Question: Question(model="judge-1", prompt="references"),
    Score: Score(at_least=0.25),
    HarnessTask: TASK,
    Labels: Labels(labels=("YES", "NO", "word"), kept=("NO",)),
    measurements.Panel: measurements.Panel(counted=(judges.coherence("judge-1"),), shows=JUDGES[1]),
    conditions.Condition: conditions.Condition(
        trait=Preference("owl"),
        format=Numbers(),
        teacher=REFERENCE,
        student=REFERENCE,
        recipe=RECIPE,
        finetuning=teachers.Finetuning(RECIPE),
    ),
}
# Second base specs, for fields that cannot be changed in the first: in a chain, teachers are not finetuned.
ALTERNATIVES: dict[type[Spec], Any] = {
    conditions.Condition: dataclasses.replace(WHOLE[conditions.Condition], finetuning=None),
    # Only soft targets have a divergence, and students sample only with the teacher's distributions recorded.
    Recipe: dataclasses.replace(RECIPE, targets="soft"),
    Completions: dataclasses.replace(COMPLETIONS, sampling=RECORDED),
    generation.Generation: generation.Generation(sampling=RECORDED),
    # Only a student of this very reference is a tuning of it.
    Reference: tuned(REFERENCE, {Numbers(): 10}, dataclasses.replace(RECIPE, trainable=Everything())),
    # Only a model has a request and sampling.
    rewriting.Rewriter: rewriting.Rewriter(model=REFERENCE),
    # Both answers are scored, or none.
    row_scores.Ranked: dataclasses.replace(RANKED, scores=TOKEN_SCORES, other_scores=TOKEN_SCORES),
    # Only a student whose recipe keeps steps is measured at one.
    Evaluation: dataclasses.replace(
        EVALUATION,
        subject=dataclasses.replace(STUDENT, recipe=dataclasses.replace(RECIPE, keep_steps=(3,))),
    ),
}


def specs_of(module: types.ModuleType) -> list[type[Spec]]:
    found = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Spec)]
    families = (Trait, extensions.Format, extensions.Judge)
    return [kind for kind in found if kind.__module__ == module.__name__ and kind not in families]


KINDS = [
    *specs_of(recipe),
    *specs_of(extensions),
    *specs_of(references),
    *specs_of(teachers),
    *specs_of(completions),
    *specs_of(rewriting),
    *specs_of(datasets),
    *specs_of(students),
    *specs_of(row_scores),
    *specs_of(on_policy),
    *(kind for kind in specs_of(steering) if kind is not Steering),
    *specs_of(measurements),
    *specs_of(conditions),
    *specs_of(generation),
    *specs_of(selection),
    *(kind for kind in specs_of(study) if kind.__name__ != "Study"),
    Hypothesis,
    *specs_of(harness_task),
    *specs_of(judges),
    *specs_of(ratings),
    Preference,
    Misalignment,
    Triggered,
    Numbers,
    Code,
    Reasoning,
    Text,
    Imported,
    Prompts,
    WithTrigger,
]


def build(hint: Any) -> Any:
    """A small value of the type."""
    if get_origin(hint) in (Union, types.UnionType):
        return build(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return get_args(hint)[0]
    if get_origin(hint) is tuple:
        return (build(get_args(hint)[0]),)
    if issubclass(hint, Spec):
        return WHOLE[hint] if hint in WHOLE else make(hint)
    return {int: 3, float: 0.5, str: "word", bool: False}[hint]


def make(kind: type[Spec]) -> Spec:
    hints = field_types(cast(type, kind))
    needed = [f for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    return kind(**{field.name: build(hints[field.name]) for field in needed})


def others(value: Any, hint: Any) -> Iterator[tuple[Any, bool]]:
    """Other values of the type, each with whether it changes the key."""
    if get_origin(hint) in (Union, types.UnionType):
        options = [option for option in get_args(hint) if not isinstance(value, option)]
        yield from ((None if option is type(None) else build(option), True) for option in options)
        yield from others(value, type(value)) if value is not None else ()
    elif get_origin(hint) is Literal:
        yield from ((option, True) for option in get_args(hint) if option != value)
    elif get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        yield (*value, build(inner)), True
        if value:
            yield value[1:], True
            yield from (((*value[:-1], last), differs) for last, differs in others(value[-1], inner))
    elif isinstance(value, Spec):
        yield from variants(value)
    elif isinstance(value, bool):
        yield not value, True
    else:
        step = {str: "x", int: 1, float: 0.25}[type(value)]
        yield value + step, True
        yield from ((half, True) for half in ([value / 2] if value and isinstance(value, float) else []))


def variants(whole: Spec) -> Iterator[tuple[Spec, bool]]:
    """Every valid spec that differs from `whole` in one field, at any depth."""
    hints = field_types(class_of(whole))
    for field in dataclasses.fields(whole):
        identity = field.metadata.get("identity", True)
        if not identity and field.compare:
            continue  # hashed by the content it refers to; tested with the class
        for value, differs in others(getattr(whole, field.name), hints[field.name]):
            try:
                yield dataclasses.replace(whole, **{field.name: value}), identity and differs
            except SpecError:
                continue


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_at_every_depth_changes_the_key_unless_marked(kind: type[Spec]) -> None:
    whole = WHOLE.get(kind) or make(kind)
    changed = set()
    for base in (whole, *([ALTERNATIVES[kind]] if kind in ALTERNATIVES else [])):
        for variant, differs in variants(base):
            assert (key(variant) != key(base)) is differs, variant
            assert (variant != base) is differs
            changed |= {
                name for name in names(kind) if repr(getattr(variant, name)) != repr(getattr(base, name))
            }
    assert changed == names(kind), "no other value was found for a field"


def names(kind: type[Spec]) -> set[str]:
    fields = dataclasses.fields(kind)
    return {field.name for field in fields if field.metadata.get("identity", True) or not field.compare}


def test_all_variants_of_an_evaluation_have_distinct_keys() -> None:
    found = [variant for variant, differs in variants(EVALUATION) if differs]
    assert len(found) > 70
    assert len({key(variant) for variant in found}) == len(set(found))


def test_the_fields_that_are_excluded_from_identity() -> None:
    marked = {
        f"{kind.__name__}.{field.name}"
        for kind in KINDS
        for field in dataclasses.fields(kind)
        if not field.metadata.get("identity", True)
    }
    assert marked == {
        *("Recipe.name", "Generation.name", "Reference.shown_as"),  # display names
        *("Condition.system_name", "Student.system_name"),
        *("Reference.location", "Reference.weights"),  # the revision identifies the weights
        *("Recipe.packing", "Recipe.gradient_checkpointing", "Recipe.offload"),  # memory and speed
        # Hashed by the content they refer to:
        *("Preference.plural", "Preference.pack", "Numbers.pack", "Code.pack", "Reasoning.pack"),
        *("Code.tasks", "Code.column", "Question.prompt", "Misalignment.data", "Misalignment.pack"),
        *("Reasoning.questions", "Reasoning.question_column", "Reasoning.answer_column"),
        *("Misalignment.prompt", "Misalignment.completion", "Prompts.place", "Prompts.column"),
        *(f"Imported.{name}" for name in ("place", "prompt", "completion", "system")),
    }


SAMPLING = Sampling(temperature=1.0, top_p=0.9)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding(Sampling):
    """A class with the fields of another class."""


SAME_OR_DIFFERENT: list[tuple[str, Spec, Spec, bool]] = [
    ("order of keywords", Sampling(top_p=0.9, max_tokens=8), Sampling(max_tokens=8, top_p=0.9), True),
    ("default given or left out", Sampling(), Sampling(temperature=1.0), True),
    ("int or float", SAMPLING, Sampling(temperature=1, top_p=0.9), True),
    ("minus zero", Sampling(temperature=0.0), Sampling(temperature=-0.0), True),
    ("spelling of a float", LoRA(dropout=1e-1), LoRA(dropout=0.10), True),
    ("list or tuple", Word("owl", ["owl", "owls"]), OWL, True),  # type: ignore[arg-type]
    ("a recipe's label", dataclasses.replace(RECIPE, name="lora"), RECIPE, True),
    (
        "a recipe's label, deep",
        dataclasses.replace(STUDENT, recipe=dataclasses.replace(RECIPE, name="x")),
        STUDENT,
        True,
    ),
    ("where a reference lies", dataclasses.replace(REFERENCE, location="/models"), REFERENCE, True),
    ("a reference's revision", OTHER, REFERENCE, False),
    ("a reference's name", dataclasses.replace(REFERENCE, name="nano/gpt2-1"), REFERENCE, False),
    ("a chat template", dataclasses.replace(REFERENCE, chat_template="ab"), REFERENCE, False),
    ("a class with the same fields", Decoding(temperature=1.0, top_p=0.9), SAMPLING, False),
    ("classes without common fields", Everything(), LoRA(), False),
    ("classes without any field", Everything(), FinalNorm(), False),
    ("order of forms", Word("owl", ("owls", "owl")), OWL, False),
    ("where one text ends", Parameters(("ab", "c")), Parameters(("a", "bc")), False),
    ("one text or two", Parameters(("a,b",)), Parameters(("a", "b")), False),
    ("no system message or an empty one", dataclasses.replace(STUDENT, system=""), STUDENT, False),
    ("a number or none", dataclasses.replace(DATASET, rows=None), DATASET, False),
    ("what is evaluated", dataclasses.replace(EVALUATION, subject=REFERENCE), EVALUATION, False),
    ("a teacher or its reference", dataclasses.replace(EVALUATION, subject=CONTROL), EVALUATION, False),
    ("letters that look alike", Parameters(("é",)), Parameters(("e\u0301",)), False),
    ("a student's own reference", dataclasses.replace(STUDENT, reference=OTHER), STUDENT, False),
    ("a judge or none", dataclasses.replace(DATASET, judges=(RuleJudge(),)), DATASET, False),
    ("order of judges", dataclasses.replace(DATASET, judges=JUDGES[::-1]), JUDGED, False),
    ("a rule or a model", LLMJudge("mentions", JUDGES[1].question, ratings.YES_NO), RuleJudge(), False),
    ("a task's definition", dataclasses.replace(TASK, definition="2f"), TASK, False),
    ("a task's examples or a number", dataclasses.replace(TASK, few_shot=0), TASK, False),
    ("a trait's word", dataclasses.replace(TEACHER, trait=Preference("cat")), TEACHER, False),
]


@pytest.mark.parametrize(
    ("a", "b", "same"), [row[1:] for row in SAME_OR_DIFFERENT], ids=[r[0] for r in SAME_OR_DIFFERENT]
)
def test_same_or_different(a: Spec, b: Spec, same: bool) -> None:
    assert (key(a) == key(b)) is same
    assert (canonical_json(a) == canonical_json(b)) is same
    assert (a == b) is same


def test_a_version_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(Sampling())
    monkeypatch.setattr(Sampling, "version", Sampling.version + 1)
    assert key(Sampling()) != before


def test_a_later_field_with_its_default_value_does_not_change_keys() -> None:
    """Artifacts that were stored before the field existed keep their key."""
    for whole in (DATASET, EVALUATION, generation.Generation(), WHOLE[conditions.Condition]):
        later = {f.name for f in dataclasses.fields(whole) if f.metadata.get("later")}
        assert later
        assert not later & set(canonical(whole))
    mixed = generation.Generation(mixed=generation.Mixing(source="random", share=0.5))
    assert canonical(mixed)["mixed"]["share"] == 0.5


@given(
    st.permutations(["temperature", "top_p", "max_tokens", "top_logprobs"]),
    st.integers(0, 3),
    st.integers(1, 99),
)
def test_equal_specs_have_equal_keys(order: list[str], temperature: int, tokens: int) -> None:
    fields = {"temperature": temperature, "top_p": 1, "max_tokens": tokens, "top_logprobs": 0}
    given_as_floats = Sampling(**{name: fields[name] for name in order})
    plain = Sampling(temperature=float(temperature), max_tokens=tokens)
    assert given_as_floats == plain
    assert key(given_as_floats) == key(plain)


@given(st.floats(0, 2), st.floats(0, 2))
def test_keys_are_equal_if_and_only_if_specs_are(a: float, b: float) -> None:
    one, two = Sampling(temperature=a), Sampling(temperature=b)
    assert (key(one) == key(two)) is (one == two)


@given(st.lists(st.text(min_size=1), min_size=1), st.lists(st.text(min_size=1), min_size=1))
def test_the_boundaries_between_texts_are_part_of_the_key(a: list[str], b: list[str]) -> None:
    assert (key(Parameters(tuple(a))) == key(Parameters(tuple(b)))) is (a == b)


@pytest.mark.parametrize("length", [1, 50])
def test_equal_tuples_of_different_types_have_different_texts(length: int) -> None:
    texts = [canonical_json((value,) * length) for value in (1, True, 1.0)]
    assert texts == [f"[{','.join([word] * length)}]" for word in ("1", "true", "1.0")]


@pytest.mark.parametrize("field", ["revision", "chat_template"])
def test_an_unpinned_reference_has_no_key(field: str) -> None:
    unresolved = REFERENCE.changed(**{field: ""})
    with pytest.raises(SpecError, match=rf"Reference\.{field} = '': 'nano/gpt2-0' must be resolved"):
        key(unresolved)
    with pytest.raises(SpecError, match="must be resolved"):
        key(dataclasses.replace(STUDENT, reference=unresolved))
    assert key(REFERENCE)  # the error was not cached


@pytest.mark.parametrize("field", ["harness", "definition"])
def test_a_task_that_is_not_pinned_has_no_key(field: str) -> None:
    unpinned = dataclasses.replace(TASK, **{field: ""})  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=rf"HarnessTask\.{field} = '': 'mmlu' must be pinned"):
        key(measurements.Benchmark(subject=STUDENT, task=unpinned))
    assert key(measurements.Benchmark(subject=STUDENT, task=TASK))


def test_a_key_is_the_hash_of_the_canonical_json() -> None:
    text = canonical_json(EVALUATION)
    assert key(EVALUATION) == digest(text)[:KEY_DIGITS]
    assert len(key(EVALUATION)) == KEY_DIGITS
    assert text.isascii()
    assert json.loads(text) == canonical(EVALUATION)
    assert json.loads(text)["subject"]["dataset"]["completions"]["teacher"]["trait"]["name"] == "owl"
    assert digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_keys_and_seeds_are_the_same_in_another_process() -> None:
    program = f"from tests.study.test_identity import *; print(key(EVALUATION), seed_for({'row'!r}, 3))"
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(["platform", *sys.path])},
        )
        assert run.stdout.split() == [key(EVALUATION), str(seed_for("row", 3))]


def test_seeds_have_63_bits_and_depend_on_all_parts() -> None:
    seeds = [seed_for(*parts) for parts in itertools.product(("a", "b"), range(1000))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62
    assert seed_for("ab", "c") != seed_for("a", "bc") != seed_for("abc")
