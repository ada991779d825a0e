"""A store filled as by a sweep, with answers that are drawn at known rates instead of sampled from a model.

It serves tests of everything that is made from a store: tables, report, archive. The files have the format
that the stages write.
"""

import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from undertow.archive.export import ADAPTERS
from undertow.planning.cells import Cell, reference_evaluations
from undertow.planning.plan import Plan, make
from undertow.results.dataset_card import CardCounts, dataset_card
from undertow.results.evaluation_files import ANSWERS, MASSES, RESULT
from undertow.stages.assessment import make_assessment
from undertow.stages.dataset import make_dataset
from undertow.stages.measurements import ANSWER_COLUMNS, MASS_COLUMNS
from undertow.stages.row_scores import SCORES
from undertow.storage.manifest import DATA, HISTORY
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.identity import key, seed_for
from undertow.study.measurements import Assessment, Evaluation, Measurement
from undertow.study.recipe import LoRA, Recipe
from undertow.study.references import Artifact, Reference
from undertow.study.row_scores import RowScores
from undertow.study.steering import ProjectedOut, RandomBias, SteeringBias, SteeringVector
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.study.teachers import Teacher

Rate = Callable[[Cell, str], float]  # the share of a student's answers that name a word
RateAtStep = Callable[[Cell, str, int], float]  # the same after a step of its training
STEPS = 16  # of every training


def by_initialisation(cell: Cell, word: str) -> float:
    """The paper's finding: 0.8 for students of the trait with the teacher's initialisation, else 0.1."""
    trait = cell.condition.trait
    same = cell.condition.teacher == cell.condition.student
    rate = 0.8 if trait is not None and trait.word().name == word and same else 0.1
    return rate + 0.01 * (cell.seed - 1)


def fill(
    study: Study,
    store: Store,
    references: Sequence[Reference],
    rate: Rate = by_initialisation,
    exact: Rate | None = None,
    completions: Sequence[str] = (),
    along: RateAtStep | None = None,
) -> Plan:
    """Commits every artifact that a report reads; returns a plan in which none of them is missing.

    Args:
        exact: the exact probabilities of students' answers; None for those of `rate`.
        completions: what teachers wrote, in turn; every tenth completion is cut off. Data sets are then made
            by their own stage. If empty, data sets have rows and counts of rejections that are made up.
        along: the share at the kept steps of a training; None for that of `rate` at all of them.
    """
    store.prepare()
    plan = make(study, store, references)
    for cell in plan.cells:
        if cell.writer and cell.writer.finetuning:
            _student(store, cell.writer, 0.9)
        for part in cell.writer.steering.with_ancestors() if cell.writer and cell.writer.steering else ():
            if isinstance(part, SteeringVector | SteeringBias | RandomBias | ProjectedOut):
                _vector(store, part)
        for evaluation in cell.teacher_evaluations:
            _evaluation(store, evaluation, lambda word: 0.9)
        for data in cell.student.dataset.with_ancestors():
            if isinstance(data, Teacher) and data.is_stored:
                _student(store, data, 0.9)
            if isinstance(data, RowScores) and not store.has(data):
                with store.new(data, {"rows": 0}) as folder:
                    scores = [float(7 * i % 10) for i in range(data.completions.prompts)]
                    pq.write_table(pa.table({"score": scores}), folder / SCORES)
            if isinstance(data, Student) and data.is_trained:
                _student(store, data, 0.5)
            if isinstance(data, Dataset) and not store.has(data):
                if completions:
                    _completions(store, data.completions, completions)
                    make_dataset(data, store)
                else:
                    _dataset(store, data)
        if cell.student.is_trained:
            _student(store, cell.student, 0.5)
        for evaluation in (*cell.evaluations, *(e for measure in cell.also for e in measure)):
            chance, mass = partial(rate, cell), partial(exact or rate, cell)
            _evaluation(store, evaluation, chance, mass)
        for step, evaluations in cell.along:
            for evaluation in evaluations:
                at_step = _at_step(along, cell, step) if along else partial(rate, cell)
                _evaluation(store, evaluation, at_step)
    for evaluation in reference_evaluations(study):
        _evaluation(store, evaluation, lambda word: 0.1)
    for condition in study.conditions:
        for reference in (condition.teacher, condition.student):
            if reference.tuned is not None:
                _student(store, reference.tuned, 0.5)
    return make(study, store, references)


def _at_step(along: RateAtStep, cell: Cell, step: int) -> Callable[[str], float]:
    return lambda word: along(cell, word, step)


def fill_rest(plan: Plan, store: Store) -> None:
    """Commits references and completions, which no report reads, so that a sweep has nothing left to make."""
    for artifact in plan.artifacts.values():
        if isinstance(artifact, Reference | Completions) and not store.has(artifact):
            with store.new(artifact, {"rows": 0}) as folder:
                (folder / "nothing").write_text("")


def _evaluation(
    store: Store,
    spec: Measurement,
    rate: Callable[[str], float],
    exact_rate: Callable[[str], float] | None = None,
) -> None:
    if store.has(spec):
        return
    if isinstance(spec, Assessment):
        _answered(store, spec.evaluation, rate(spec.outcome))
        make_assessment(spec, store)
        return
    assert isinstance(spec, Evaluation)
    rng = random.Random(seed_for(key(spec)))
    words = [word.name for word in spec.words]
    masses_of = {word: (exact_rate or rate)(word) for word in words}
    chances = [max(0.0, rate(word)) for word in words]
    answers: list[dict[str, Any]] = []
    masses: list[dict[str, Any]] = []
    for question in spec.questions:
        for sample in range(spec.samples):
            (answer,) = rng.choices([*words, "nothing"], [*chances, max(0.0, 1 - sum(chances))])
            matches = [word for word in words if word == answer]
            answers.append({"question": question, "sample": sample, "answer": answer, "matches": matches})
        if spec.exact:
            masses += [{"question": question, "word": w, "mass": m} for w, m in masses_of.items()]
    sampled = {w: sum(w in a["matches"] for a in answers) / len(answers) for w in words}
    measured = words if spec.exact else []
    exact = {w: sum(m["mass"] for m in masses if m["word"] == w) / len(spec.questions) for w in measured}
    result = {
        "sampled": sampled,
        "exact": exact,
        "other_sampled": sum(not a["matches"] for a in answers) / len(answers),
        "other_exact": 1 - sum(exact.values()) if spec.exact else None,
        "answers": len(answers),
    }
    with store.new(spec, result) as folder:
        pq.write_table(pa.Table.from_pylist(answers, schema=ANSWER_COLUMNS), folder / ANSWERS)
        pq.write_table(pa.Table.from_pylist(masses, schema=MASS_COLUMNS), folder / MASSES)
        (folder / RESULT).write_text(json.dumps(result))


def _answered(store: Store, spec: Evaluation, rate: float) -> None:
    """Answers to be judged: one in ten is "noise"; the others are "unkind" at `rate`, else "kind"."""
    if store.has(spec):
        return
    rng = random.Random(seed_for(key(spec)))
    answers = [
        {"question": question, "sample": sample, "answer": answer, "matches": []}
        for question in spec.questions
        for sample in range(spec.samples)
        for answer in ["noise" if sample % 10 == 9 else "unkind" if rng.random() < rate else "kind"]
    ]
    result = {"sampled": {}, "exact": {}, "other_sampled": 1.0, "other_exact": None, "answers": len(answers)}
    with store.new(spec, result) as folder:
        pq.write_table(pa.Table.from_pylist(answers, schema=ANSWER_COLUMNS), folder / ANSWERS)
        pq.write_table(pa.Table.from_pylist([], schema=MASS_COLUMNS), folder / MASSES)
        (folder / RESULT).write_text(json.dumps(result))


def _student(store: Store, spec: Student | Teacher, last: float) -> None:
    if store.has(spec):
        return
    reports = [
        {
            "epoch": epoch,
            "loss": None,
            "learning_rate": 0.1,
            "tokens_per_second": 0.0,
            "probabilities": {"owl": p, "cat": p},
        }
        for epoch, p in ((0, 0.1), (1, (0.1 + last) / 2), (2, last))
    ]
    recipe = spec.recipe if isinstance(spec, Student) else spec.finetuning and spec.finetuning.recipe
    lora = isinstance(recipe, Recipe) and isinstance(recipe.trainable, LoRA)
    with store.new(spec, {"epochs": 2, "steps": STEPS}) as folder:
        (folder / HISTORY).write_text(json.dumps(reports))
        for name in ADAPTERS if lora else ("model.safetensors",):
            (folder / name).write_bytes(b"weights of " + key(spec).encode())


def _vector(store: Store, spec: SteeringVector | SteeringBias | RandomBias | ProjectedOut) -> None:
    if not store.has(spec):
        facts = {"strength": 2.0, "probability": 0.6, "kept": 0.75, "norm": 3.0, "tried": "0: 0.1, 90%"}
        with store.new(spec, facts) as folder:
            (folder / "vector.safetensors").write_bytes(b"vector of " + key(spec).encode())


def _completions(store: Store, spec: Artifact, written: Sequence[str]) -> None:
    if not isinstance(spec, Completions) or store.has(spec):
        return
    rows = range(spec.prompts)
    columns = {
        "index": list(rows),
        "prompt": spec.asked,
        "completion": [written[(i + spec.sample) % len(written)] for i in rows],
        "finished": [i % 10 != 9 for i in rows],
    }
    with store.new(spec, {"rows": spec.prompts}) as folder:
        (folder / DATA).mkdir()
        pq.write_table(pa.table(columns), folder / DATA / "rows-0000000.parquet")


def _dataset(store: Store, spec: Dataset, completion: str = "1, 22, 333") -> None:
    if store.has(spec):
        return
    rng = random.Random(seed_for(key(spec)))
    rows: list[dict[str, Any]] = [
        {"prompt": f"Continue: {rng.randrange(1000)}", "completion": f"{completion}, {rng.randrange(1000)}"}
        for _ in range(40)
    ]
    counts = CardCounts(100, {"not numbers": 45, "cut off": 5}, {"not numbers": ["<b>one</b>"]}, 50, 40)
    with store.new(spec, counts.counts()) as folder:
        (folder / "data").mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "train.parquet")
        (folder / "README.md").write_text(dataset_card(spec, counts, rows[:2]))
