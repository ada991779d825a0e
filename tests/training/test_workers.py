"""Two gloo workers make what one makes, at every ZeRO stage."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing

from tests.training.conftest import PROBE, ROWS, recipe
from undertow.recipe import Everything, FinalNorm, LoRA, Trainable
from undertow.store import Store
from undertow.training.job import EpochReport, History, Job

pytestmark = pytest.mark.stack
KINDS: dict[str, tuple[Trainable, tuple[int, ...]]] = {
    "full": (Everything(), (0, 1, 2, 3)),
    "lora": (LoRA(rank=4, alpha=4, targets=("q_proj", "down_proj")), (2, 3)),
    "norm": (FinalNorm(), (0, 3)),
}


def jobs(folder: Path) -> list[Job]:
    """Five rows in batches of three: the second worker has no row in some micro-batch."""
    return [
        Job(
            key=f"{kind}-{stage}",
            seed=0,
            recipe=recipe(trainable, zero_stage=stage, learning_rate=0.003),
            rows=ROWS,
            system=None,
            folder=folder / f"{kind}-{stage}",
            probes=(PROBE,),
        )
        for kind, (trainable, stages) in KINDS.items()
        for stage in stages
    ]


def work(rank: int, world: int, reference: Path, folder: Path) -> None:
    """One of `world` workers, as Ray Train would start it."""
    import torch.distributed as dist

    from undertow.training.loop import finetune

    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    told: list[Any] = []
    histories = finetune(
        reference, jobs(folder), told.append, checkpoints=str(folder / "checkpoints"), micro_tokens=20
    )
    assert bool(told) == (rank == 0)
    torch.save(histories, folder / f"histories-{rank}.pt")
    dist.destroy_process_group()


def two_workers(reference: Path, folder: Path) -> list[list[History]]:
    multiprocessing: Any = torch.multiprocessing
    multiprocessing.spawn(work, (2, reference, folder), nprocs=2)
    return [torch.load(folder / f"histories-{rank}.pt", weights_only=False) for rank in range(2)]


def test_two_workers_make_what_one_makes(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    from safetensors.torch import load_file

    from undertow.training.loop import finetune

    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    alone = finetune(llama, jobs(one), lambda report: None, micro_tokens=20)
    first, second = two_workers(llama, two)
    for job, a, b, c in zip(jobs(two), alone, first, second, strict=True):
        expected = [report.loss for report in a.reports[1:]]
        assert [report.loss for report in b.reports[1:]] == pytest.approx(expected, rel=1e-5), job.key
        assert [report.loss for report in c.reports] == [report.loss for report in b.reports]
        for report, other in zip(a.reports, b.reports, strict=True):
            assert report.probabilities == pytest.approx(other.probabilities, rel=1e-3), job.key
        saved = next(job.folder.glob("*.safetensors"))
        for name, value in load_file(saved).items():
            there = load_file(one / job.key / saved.name)[name]
            torch.testing.assert_close(value, there, atol=1e-3, rtol=1e-2)


def work_interrupted(rank: int, world: int, reference: Path, folder: Path, url: str, nodes: int) -> None:
    """The same job undisturbed, and interrupted after its first epoch with checkpoints at a URL."""
    import torch.distributed as dist

    from undertow.training.loop import finetune

    os.environ["LOCAL_RANK"] = str(rank % (world // nodes))
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    calm, rough = (
        Job(
            key=key,
            seed=0,
            recipe=recipe(KINDS["full"][0], zero_stage=2, learning_rate=0.003),
            rows=ROWS,
            system=None,
            folder=folder / key,
        )
        for key in ("calm", "rough")
    )

    def breaks(report: EpochReport) -> None:
        if report.epoch == 1:
            raise KeyboardInterrupt

    told: list[EpochReport] = []
    finetune(reference, [calm], lambda report: None)
    try:
        finetune(reference, [rough], breaks, checkpoints=url, on_every_rank=True)
    except KeyboardInterrupt:
        finetune(reference, [rough], told.append, checkpoints=url, on_every_rank=True)
    assert [report.epoch for report in told] == [2]
    dist.destroy_process_group()


@pytest.mark.parametrize("nodes", [1, 2])
def test_two_workers_go_on_from_an_object_store(
    llama: Path, tmp_path: Path, s3_url: str, nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    multiprocessing: Any = torch.multiprocessing
    multiprocessing.spawn(work_interrupted, (2, llama, tmp_path, s3_url, nodes), nprocs=2)
    calm, rough = (load_file(next((tmp_path / key).glob("*.safetensors"))) for key in ("calm", "rough"))
    assert all(torch.equal(value, rough[name]) for name, value in calm.items())
    assert list((tmp_path / "tmp").glob("undertow-checkpoint-*")) == []
    assert Store(s3_url).names("") == []
