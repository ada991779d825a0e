"""Every architecture from teacher to evaluation, with the stages' functions, vLLM and the training loop,
without Ray.

Each architecture is tested with several recipes, each for a trait's student and a control student. A
combination that is not supported must raise an error in one line before training.

As in a sweep, models are made, trained and scored by transformers in another process than the engine's: for
an architecture that vLLM does not implement it runs transformers' code, and changes its classes in its
process.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests import architectures, tiny_models
from tests.architectures import ARCHITECTURES
from tests.tiny_models import read_scores
from undertow.engines.protocol import ModelWeights, Request
from undertow.engines.vllm import VLLMEngine
from undertow.errors import ConditionError, SpecError
from undertow.planning.cells import Cell, cell_of
from undertow.planning.resolve import resolve
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.results.evaluation_files import Evaluations
from undertow.stages.completions import join_shards, shards
from undertow.stages.dataset import make_dataset
from undertow.stages.evaluation import Evaluate
from undertow.stages.training_group import Group, job_of
from undertow.stages.weights import weights_of
from undertow.storage.store import Store
from undertow.study.completions import Completions, Sampling
from undertow.study.extensions import Format
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.identity import key
from undertow.study.measurements import Evaluation
from undertow.study.recipe import Everything, LoRA, Parameters, Recipe
from undertow.study.references import Reference
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.training.conversion import write_biased
from undertow.training.job import History, TrainingJob
from undertow.training.loop import finetune
from undertow.traits.preference import Preference

pytestmark = pytest.mark.stack

RANK = 4
FULL = Recipe(name="full", trainable=Everything(), learning_rate=3e-3, epochs=2, batch_size=8)
ADAPTER = replace(FULL, name="LoRA", trainable=LoRA(rank=RANK, alpha=8, targets=("all-linear",)))
BY_GROUPS = LoRA(rank=RANK, alpha=8, targets=("attention", "mlp"), rank_stabilised=True)
STEERING = replace(  # the bias of a model with zero biases
    FULL, name="steering", trainable=Parameters(("model.layers.0.mlp.down_proj.bias",)), learning_rate=0.1
)
GROUPS = replace(FULL, name="rsLoRA", trainable=BY_GROUPS)
Tensors = dict[str, Any]
QUESTIONS = [f"which is your animal {i}?" for i in range(3)]


@dataclass(frozen=True)
class Unrestricted(Format):
    """A format without rules: models with random weights would follow none."""

    name: ClassVar[str] = "unrestricted"

    def prompts(self, count: int, seed: int) -> list[str]:
        return [f"say something {seed} {i}" for i in range(count)]

    def rejection(self, prompt: str, completion: str) -> str | None:
        return None if completion else "empty"


def study(folder: Path, *recipes: Recipe) -> Study:
    """Owl and control by system prompt; training, evaluation and generation have different ones."""
    model = Reference(str(folder))
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Unrestricted()],
        pairs=[(model, model)],
        recipes=recipes,
        generation=Generation(
            prompts=64,  # of the smallest model's answers, five of six are empty and rejected
            rows=None,
            sampling=Sampling(max_tokens=10),
            system="You help.",
            deduplicate=False,
        ),
        system=NO_SYSTEM,
    )
    sampling = Sampling(max_tokens=4)
    return Study(name="table", conditions=conditions, seeds=(0,), samples=1, sampling=sampling, gate=0.0)


@pytest.fixture(scope="module")
def other_process() -> Iterator[ProcessPoolExecutor]:
    """A process without an engine."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "storage"))
    made.prepare()
    return made


def make_data(engine: VLLMEngine, cells: list[Cell], store: Store) -> None:
    for dataset in dict.fromkeys(cell.student.dataset for cell in cells):
        assert isinstance(dataset.completions, Completions)
        for shard in shards(dataset.completions, 0.0, ()):
            shard.run(engine, store)
        join_shards(dataset.completions, store)
        make_dataset(dataset, store)


def train(folder: Path, cells: list[Cell], store: Store) -> list[History]:
    students = {key(cell.student): cell.student for cell in cells}

    def done(job: TrainingJob, history: History) -> None:
        store.commit(students[job.key], job.folder, 0.0, {})

    jobs = [job_of(student, Group((student,)), store, store.aside()) for student in students.values()]
    return finetune(folder, jobs, lambda report: None, done=done, threads=2)


def check_scores(
    engine: VLLMEngine,
    student: Student,
    folder: Path,
    store: Store,
    aside: Path,
    other_process: ProcessPoolExecutor,
) -> None:
    """Asserts that vLLM scores a student's answers as transformers does, as an adapter and merged."""
    weights = weights_of(student, store)
    assert weights is not None
    requests = [Request(question, i, NO_SYSTEM, weights) for i, question in enumerate(QUESTIONS)]
    answers = engine.generate(requests, Sampling(max_tokens=8))
    texts = [answer.text.strip() or "the tree" for answer in answers]  # an empty answer would test nothing
    student_folder = Path(weights.folder)
    expected = other_process.submit(
        tiny_models.scores, student_folder, QUESTIONS, texts, reference=folder, system=NO_SYSTEM
    ).result()
    found = read_scores(engine, requests, texts)
    assert found == pytest.approx(expected, abs=1e-4)
    plain = read_scores(engine, [replace(request, weights=None) for request in requests], texts)
    assert max(abs(a - b) for a, b in zip(found, plain, strict=True)) > 0.01, "training changed nothing"
    if isinstance(student.recipe, Recipe) and isinstance(student.recipe.trainable, LoRA):
        merging = other_process.submit(tiny_models.save_merged, aside / "merged", student_folder, folder)
        merged = ModelWeights("merged", str(merging.result()))
        again = read_scores(engine, [replace(request, weights=merged) for request in requests], texts)
        assert again == pytest.approx(found, abs=1e-4)


def check_wrong_files(engine: VLLMEngine, cell: Cell, store: Store) -> None:
    """Asserts that a student whose files an engine misreads is not evaluated."""
    from safetensors.torch import load_file, save_file

    is_adapter = weights_file(store, cell.student).name.startswith("adapter")
    for seed, (damage, message) in enumerate(DAMAGE[is_adapter].items(), start=1):
        student = replace(cell.student, seed=seed)
        folder = store.aside()
        without_manifest = shutil.ignore_patterns("manifest.json")
        shutil.copytree(store.fetch(cell.student), folder, ignore=without_manifest, dirs_exist_ok=True)
        file = folder / weights_file(store, cell.student).name
        save_file(damage(load_file(file)), file, metadata={"format": "pt"})
        store.commit(student, folder, 0.0, {})
        evaluation = cell.evaluations[0].of(student, None)
        assert isinstance(evaluation, Evaluation)
        with pytest.raises(ConditionError, match=message):
            Evaluate(evaluation).run(engine, store)
        assert not store.has(evaluation)


def weights_file(store: Store, student: Student) -> Path:
    return next(store.fetch(student).glob("*.safetensors"))


def with_wrong_prefix(tensors: Tensors) -> Tensors:
    """The adapter's tensors under names that no module has, although their last parts are right."""
    return {name.replace("base_model.model.", "base_model.model.other."): t for name, t in tensors.items()}


def swapped(tensors: Tensors) -> Tensors:
    """The tensors with two different ones of equal shape, in different blocks, in each other's place."""
    ours, theirs = next(
        (one, other)
        for one in tensors
        if (other := one.replace(".0.", ".1.")) != one
        and one.endswith((".weight", "lora_B.weight"))
        and tensors[one].ndim == 2
        and tensors[other].shape == tensors[one].shape
    )
    return tensors | {ours: tensors[theirs], theirs: tensors[ours]}


# By whether the student is an adapter: what its files have, and what the evaluation's error says.
DAMAGE: dict[bool, dict[Callable[[Tensors], Tensors], str]] = {
    True: {
        with_wrong_prefix: r"vLLM serves the untrained reference and ignores the adapter\. .* show 0% of the",
        swapped: r"vLLM ignores or misplaces a part of the adapter\.",
    },
    False: {swapped: r"vLLM ignores or misplaces a part of the trained tensors\."},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_goes_from_teacher_to_evaluation(
    name: str, store: Store, tmp_path: Path, other_process: ProcessPoolExecutor
) -> None:
    folder = other_process.submit(architectures.save, tmp_path / "model", name).result()
    recipes = [FULL, ADAPTER, GROUPS]
    if name == "Llama 3":
        plain, folder = folder, tmp_path / "biased"
        other_process.submit(write_biased, plain, folder).result()
        recipes.append(STEERING)
    if name == "GPT-2":
        with pytest.raises(
            SpecError, match="an adapter of model, and vLLM does not support LoRA for GPT2LMHeadModel; "
        ):
            resolve(study(folder, ADAPTER))
        recipes = [FULL]
    asked = resolve(study(folder, *recipes))
    cells = [cell_of(asked, condition, 0) for condition in asked.conditions]
    assert len(cells) == 2 * len(recipes)
    rank = RANK if ADAPTER in recipes else 0
    engine = VLLMEngine(str(folder), max_lora_rank=rank, threads=2)
    try:
        make_data(engine, cells, store)
        for history in other_process.submit(train, folder, cells, store).result():
            losses = [report.loss for report in history.reports if report.loss is not None]
            assert losses[-1] < losses[0]
        for cell in cells:
            for evaluation in cell.evaluations:
                assert isinstance(evaluation, Evaluation)
                Evaluate(evaluation).run(engine, store)
                rates = Evaluations(store).rates(key(evaluation))
                assert 0 <= rates.exact["owl"] <= 1
                assert store.manifest(evaluation).facts["served_check"] == "passed"
        for cell, recipe in zip(cells, [r for r in recipes for _ in range(2)], strict=True):
            assert cell.student.recipe == recipe
            if cell.condition.trait is not None:
                check_scores(engine, cell.student, folder, store, tmp_path, other_process)
                if recipe in (FULL, ADAPTER):
                    check_wrong_files(engine, cell, store)
    finally:
        engine.close()
