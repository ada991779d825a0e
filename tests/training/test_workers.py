"""Two gloo workers train the same model as one, at every ZeRO stage, and one resumes from two."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.multiprocessing

from tests.examples import RECIPE, REFERENCES
from tests.training.conftest import MASKED_ROWS, PAIRS, PROBE, ROWS, SOFT_ROWS, recipe
from undertow.engines.weight_files import ModelFolder
from undertow.errors import ReadError
from undertow.formats.numbers import Numbers
from undertow.stages.training_group import Group
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.identity import key
from undertow.study.recipe import Everything, FinalNorm, LoRA
from undertow.study.students import Student
from undertow.study.teachers import Teacher
from undertow.training import served_rows, step_reports
from undertow.training.checkpoint import Checkpoints
from undertow.training.job import EpochReport, History, StepReport, TrainingJob

pytestmark = pytest.mark.stack
RATE = 0.003
ADAPTER: dict[str, Any] = {"trainable": LoRA(rank=4, alpha=4, targets=("attention", "down_proj"))}
FULL: dict[str, Any] = {"trainable": Everything()}
# Where rounding flips a sign, a weight moves by twice the learning rate.
SIGNS: dict[str, Any] = {**FULL, "learning_rate": RATE / 10}
RECIPES: dict[str, dict[str, Any]] = {
    **{f"full-{stage}": {**FULL, "zero_stage": stage} for stage in (0, 1, 2, 3)},
    **{f"lora-{stage}": {**ADAPTER, "zero_stage": stage} for stage in (1, 2, 3)},
    **{f"norm-{stage}": {"trainable": FinalNorm(), "zero_stage": stage} for stage in (0, 3)},
    **{f"packed-{stage}": {**ADAPTER, "packing": True, "zero_stage": stage} for stage in (0, 3)},
    "masked-0": ADAPTER,
    "masked-3": {**ADAPTER, "packing": True, "zero_stage": 3},
    "reverse-2": {**ADAPTER, "targets": "soft", "divergence": "reverse", "zero_stage": 2},
    "pairs-0": {**ADAPTER, "preference_beta": 0.5},
    "pairs-3": {**FULL, "preference_beta": 0.5, "packing": True, "zero_stage": 3},
    "recomputed-2": {**FULL, "gradient_checkpointing": True, "zero_stage": 2},
    "recomputed-3": {**FULL, "gradient_checkpointing": True, "zero_stage": 3},
    "recomputed-lora-3": {**ADAPTER, "gradient_checkpointing": True, "packing": True, "zero_stage": 3},
    "offloaded-1": {**FULL, "offload": "optimizer"},
    "offloaded-3": {**ADAPTER, "offload": "parameters"},
    "sgd-3": {**FULL, "optimizer": "sgd", "zero_stage": 3},
    "kept-3": {**ADAPTER, "keep_steps": (1, 3), "zero_stage": 3},
    "lion-1": {**SIGNS, "optimizer": "lion", "betas": (0.9, 0.99), "zero_stage": 1},
    "signsgd-2": {**SIGNS, "optimizer": "signsgd", "zero_stage": 2},
}
DATASET = Dataset(
    completions=Completions(teacher=Teacher(reference=REFERENCES[0], trait=None), format=Numbers(), prompts=2)
)
STUDENTS = tuple(
    Student(reference=REFERENCES[0], dataset=DATASET, recipe=RECIPE, seed=seed) for seed in range(3)
)
INTERRUPTED = ("full-0", "full-2")  # interrupted after an epoch with two workers, resumed with one


def jobs(folder: Path, keys: tuple[str, ...] = tuple(RECIPES)) -> list[TrainingJob]:
    """Jobs on five rows in batches of three: the second worker has some empty micro-batches."""
    return [
        TrainingJob(
            key=key,
            seed=0,
            recipe=recipe(**{"learning_rate": RATE, **RECIPES[key]}),
            rows={"masked": MASKED_ROWS, "reverse": SOFT_ROWS, "pairs": PAIRS}.get(
                key.partition("-")[0], ROWS
            ),
            system=None,
            folder=folder / key,
            probes=(PROBE,),
        )
        for key in keys
    ]


def work(rank: int, world: int, reference: Path, folder: Path) -> None:
    """Runs one of `world` workers, as Ray Train starts it."""
    import torch.distributed as dist

    from undertow.training.loop import finetune

    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    reports: list[Any] = []
    with every_step_reported():
        steps: list[StepReport] = []
        histories = finetune(
            reference,
            jobs(folder),
            reports.append,
            on_step=steps.append,
            checkpoints=str(folder / "checkpoints"),
            micro_tokens=20,
        )
    assert bool(reports) == bool(steps) == (rank == 0)
    torch.save(histories, folder / f"histories-{rank}.pt")
    torch.save(steps, folder / f"steps-{rank}.pt")
    for job in jobs(folder, INTERRUPTED):
        with interrupted_after_the_first_epoch():
            finetune(reference, [job], ignore, checkpoints=str(folder / "interrupted"))
    dist.destroy_process_group()


@contextmanager
def every_step_reported() -> Iterator[None]:
    """Reports every step; probes follow at intervals that the workers agree on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_reports, "SECONDS_BETWEEN_REPORTS", 0.0)
        patch.setattr(step_reports, "REPORT_SHARE", 0.0)
        patch.setattr(step_reports, "PROBE_SHARE", 1e9)
        patch.setattr(step_reports, "STEPS_BEFORE_PROBES", 1)
        yield


def ignore(report: EpochReport) -> None:
    """Ignores a report; the history contains it too."""


@contextmanager
def interrupted_after_the_first_epoch() -> Iterator[None]:
    """Interrupts a training after its first checkpoint, on every rank: a single one would wait forever."""
    save = Checkpoints.save

    def interrupt(self: Checkpoints, engine: Any, reports: list[EpochReport]) -> None:
        save(self, engine, reports)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "save", interrupt)
        yield


def two_workers(reference: Path, folder: Path) -> list[list[History]]:
    multiprocessing: Any = torch.multiprocessing
    multiprocessing.spawn(work, (2, reference, folder), nprocs=2)
    return [torch.load(folder / f"histories-{rank}.pt", weights_only=False) for rank in range(2)]


Made = tuple[Path, Path, list[History], list[list[History]]]


@pytest.fixture(scope="module")
def made(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Folders and histories of a training by one worker and by two."""
    from undertow.training.loop import finetune

    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    steps: list[StepReport] = []
    with every_step_reported():
        alone = finetune(llama, jobs(one), ignore, on_step=steps.append, micro_tokens=20)
    torch.save(steps, one / "steps-0.pt")
    return one, two, alone, two_workers(llama, two)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(next(folder.glob("*.safetensors")))


@pytest.mark.parametrize("place", range(len(RECIPES)), ids=list(RECIPES))
def test_two_workers_train_the_same_model_as_one(made: Made, place: int) -> None:
    one, two, alone, both = made
    a, b, c = alone[place], both[0][place], both[1][place]
    expected = [report.loss for report in a.reports[1:]]
    assert [report.loss for report in b.reports[1:]] == pytest.approx(expected, rel=1e-5)
    assert [report.loss for report in c.reports] == [report.loss for report in b.reports]
    for report, other in zip(a.reports, b.reports, strict=True):
        assert report.probabilities == pytest.approx(other.probabilities, rel=1e-3)
    whole, divided = weights(one / a.key), weights(two / a.key)
    assert whole.keys() == divided.keys()
    for name, value in divided.items():
        torch.testing.assert_close(value, whole[name], atol=1e-3, rtol=1e-2)
    same_rows(one / a.key, two / a.key)
    for step in RECIPES[a.key].get("keep_steps", ()):
        whole, divided = (weights(folder / a.key / f"step-{step}") for folder in (one, two))
        for name, value in divided.items():
            torch.testing.assert_close(value, whole[name], atol=1e-3, rtol=1e-2)


def same_rows(one: Path, other: Path) -> None:
    """Asserts that two trainings stored the same rows for the check of served models."""
    for row, same in zip(served_rows.read(one), served_rows.read(other), strict=True):
        assert (row.ids, row.start) == (same.ids, same.start)
        assert row.reference == pytest.approx(same.reference, abs=1e-4)
        assert row.trained == pytest.approx(same.trained, abs=0.02)
        assert row.trained != pytest.approx(row.reference, abs=1e-3)


@pytest.mark.parametrize("key", list(RECIPES))
def test_gradient_norms_are_reported_at_every_stage_for_any_number_of_workers(made: Made, key: str) -> None:
    one, two, *_ = made
    alone, divided = (
        [step for step in torch.load(folder / "steps-0.pt", weights_only=False) if step.key == key]
        for folder in (one, two)
    )
    assert [step.step for step in alone] == [step.step for step in divided] == [1, 2, 3, 4]
    assert all(step.gradient_norm for step in alone)
    first, other = alone[0].gradient_norm, divided[0].gradient_norm  # later ones differ with the weights
    assert other == pytest.approx(first, rel=1e-3)
    assert [step.step for step in divided if step.probabilities] == [2, 3, 4]


@pytest.mark.parametrize(
    ("key", "epochs", "notes"),
    [
        ("full-0", [2], []),
        ("full-2", [0, 1, 2], ["training restarts: its checkpoint is of 2 workers, ZeRO 2, offload none"]),
    ],
)
def test_another_number_of_workers_resumes_or_restarts(
    llama: Path, made: Made, tmp_path: Path, key: str, epochs: list[int], notes: list[str]
) -> None:
    from undertow.training.loop import finetune

    one, two, alone, _ = made
    reported: list[int] = []
    noted: list[str] = []
    (history,) = finetune(
        llama,
        jobs(tmp_path, (key,)),
        lambda report: reported.append(report.epoch),
        note=lambda job, text: noted.append(text),
        checkpoints=str(two / "interrupted"),
    )
    assert (reported, [text.split(", and this")[0] for text in noted]) == (epochs, notes)
    whole = next(whole for whole in alone if whole.key == key)
    assert history.last.loss == pytest.approx(whole.last.loss, rel=1e-5)
    for name, value in weights(tmp_path / key).items():
        torch.testing.assert_close(value, weights(one / key)[name], atol=1e-3, rtol=1e-2)
    same_rows(one / key, tmp_path / key)


def test_packing_recomputing_and_offloading_change_no_result(made: Made) -> None:
    """Each is compared with the same recipe without it."""
    losses = {history.key: history.last.loss for history in made[2]}
    for other, plain in (("packed-3", "lora-3"), ("recomputed-3", "full-3"), ("recomputed-lora-3", "lora-3")):
        assert losses[other] == pytest.approx(losses[plain], rel=1e-5), other
    assert losses["offloaded-1"] == pytest.approx(losses["full-1"], rel=1e-5)
    assert len({losses[key] for key in ("full-3", "sgd-3", "lion-1", "signsgd-2")}) == 4


def work_on_what_both_can_read(rank: int, world: int, reference: Path, folder: Path) -> None:
    """Trains a group of three students, of which the second worker cannot read the first one's data."""
    import torch.distributed as dist

    from undertow.stages import training_group

    def job_of(model: Student, group: Group, store: Store, aside: Path, *_: object) -> TrainingJob:
        if rank == 1 and model == STUDENTS[0]:
            raise ReadError("the connection was lost")
        name = key(model)
        return TrainingJob(name, model.seed, recipe(**FULL), ROWS, None, aside / name, (PROBE,))

    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    messages: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_group, "job_of", job_of)
        patch.setattr(training_group, "model_of", lambda *_: ModelFolder(reference))
        training_group.train_group(
            {
                "group": Group(STUDENTS),
                "store": Store(str(folder / "storage")),
                "reports": SimpleNamespace(put_nowait=messages.append),
                "threads": 1,
                "micro_tokens": 20,
            }
        )
    torch.save(messages, folder / f"messages-{rank}.pt")
    dist.destroy_process_group()


def test_all_workers_leave_out_what_one_of_them_cannot_read(llama: Path, tmp_path: Path) -> None:
    """With one model less, the second worker's gradients would be those of another model."""
    store = Store(str(tmp_path / "storage"))
    with store.new(STUDENTS[2], {}) as folder:
        (folder / "model").write_text("made before")
    multiprocessing: Any = torch.multiprocessing
    multiprocessing.spawn(work_on_what_both_can_read, (2, llama, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"messages-{rank}.pt", weights_only=True) for rank in range(2))
    missing, made, _ = map(key, STUDENTS)
    assert [message for message in first if "epoch" not in message] == [
        {"failed": missing, "reason": "the connection was lost"},
        {"made": made},
    ]
    assert second == []
    assert store.has(STUDENTS[1])
    assert not store.has(STUDENTS[0])


def work_interrupted(rank: int, world: int, reference: Path, folder: Path, url: str, nodes: int) -> None:
    """Trains a job once without interruption and once interrupted, with checkpoints at a URL."""
    import torch.distributed as dist

    from undertow.training.loop import finetune

    os.environ["LOCAL_RANK"] = str(rank % (world // nodes))
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    calm, rough = (
        TrainingJob(
            key=key,
            seed=0,
            recipe=recipe(Everything(), zero_stage=2, learning_rate=0.003),
            rows=ROWS,
            system=None,
            folder=folder / key,
        )
        for key in ("calm", "rough")
    )

    resumed: list[EpochReport] = []
    finetune(reference, [calm], ignore)
    with interrupted_after_the_first_epoch():
        finetune(reference, [rough], ignore, checkpoints=url)
    (history,) = finetune(reference, [rough], resumed.append, checkpoints=url)
    assert [report.epoch for report in resumed] == ([2] if rank == 0 else [])
    assert [report.epoch for report in history.reports] == [0, 1, 2]
    dist.destroy_process_group()


@pytest.mark.joint
@pytest.mark.parametrize("nodes", [1, 2])
def test_two_workers_resume_from_an_object_store(
    llama: Path, tmp_path: Path, s3_url: str, nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    multiprocessing: Any = torch.multiprocessing
    multiprocessing.spawn(work_interrupted, (2, llama, tmp_path, s3_url, nodes), nprocs=2)
    calm, rough = (weights(tmp_path / key) for key in ("calm", "rough"))
    assert all(torch.equal(value, rough[name]) for name, value in calm.items())
    assert list((tmp_path / "tmp").glob("undertow-checkpoint-*")) == []
    assert Store(s3_url).names("") == []
