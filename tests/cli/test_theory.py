"""jobs/mlp.py and jobs/one_step.py: image sources, sweeps over axes, and both jobs from end to end."""

import csv
import gzip
import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from undertow.cli import mlp as mlp_job
from undertow.cli import one_step as step_job
from undertow.errors import SpecError, UserError
from undertow.study.identity import key
from undertow.theory.data import digits, load
from undertow.theory.settings import DIGITS, Experiment, Measured, OneStep
from undertow.theory.sweep import from_json, grid_points, split_into_shards, to_json

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
Bytes = NDArray[np.uint8]


def pictures(count: int, seed: int) -> tuple[Bytes, Bytes]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10


def write_idx(folder: Path, *, zipped: bool) -> None:
    for split, count in (("train", 30), ("t10k", 20)):
        for kind, values in zip(("images", "labels"), pictures(count, count), strict=True):
            head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
            content = head + values.tobytes()
            name = f"{split}-{kind}-idx{values.ndim}-ubyte{'.gz' if zipped else ''}"
            (folder / name).write_bytes(gzip.compress(content) if zipped else content)


def write_rows(folder: Path, split: str, rows: list[tuple[Bytes, object]]) -> None:
    import pyarrow
    import pyarrow.parquet
    from PIL import Image

    table = []
    for pixels, label in rows:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        table.append({"image": {"bytes": buffer.getvalue(), "path": None}, "label": label})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), folder / f"{split}-00000-of-00001.parquet")


def write_parquet(folder: Path) -> None:
    for split, count in (("train", 30), ("test", 20)):
        pixels, labels = pictures(count, count)
        write_rows(folder, split, list(zip(pixels, labels.tolist(), strict=True)))


@pytest.mark.parametrize(
    "write",
    [lambda f: write_idx(f, zipped=False), lambda f: write_idx(f, zipped=True), write_parquet],
    ids=["idx", "idx.gz", "parquet"],
)
def test_mnist_reads_equally_from_each_file_format(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)
    images = load(str(tmp_path))
    pixels, labels = pictures(30, 30)
    assert images.train.shape == (30, 784)
    assert images.test.shape == (20, 784)
    assert np.allclose(images.train.numpy(), pixels.reshape(30, -1) / 127.5 - 1, atol=1e-6)
    assert images.train_labels.tolist() == labels.tolist()
    assert images.classes == 10


def test_the_split_of_the_digits_is_fixed() -> None:
    images = digits()
    assert (tuple(images.train.shape), tuple(images.test.shape)) == ((1257, 64), (540, 64))
    assert images.train.min().item() == -1
    assert images.train.max().item() == 1
    assert images.digest == digits().digest


def truncated(folder: Path) -> None:
    write_idx(folder, zipped=False)
    file = folder / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-5])


def broken_gzip(folder: Path) -> None:
    write_idx(folder, zipped=True)
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])


def missing_file(folder: Path) -> None:
    write_idx(folder, zipped=False)
    (folder / "t10k-labels-idx1-ubyte").unlink()


def too_few_labels(folder: Path) -> None:
    write_idx(folder, zipped=False)
    (folder / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 1, 2]))


def not_parquet(folder: Path) -> None:
    (folder / "train.parquet").write_bytes(b"nothing")


def images_of_two_sizes(folder: Path) -> None:
    write_rows(folder, "train", [(np.zeros((size, size), np.uint8), 0) for size in (28, 32)])


def labels_in_words(folder: Path) -> None:
    write_rows(folder, "train", [(np.zeros((28, 28), np.uint8), "seven")])


def no_rows(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    empty = pyarrow.table({"image": pyarrow.array([], "string"), "label": pyarrow.array([], "int64")})
    pyarrow.parquet.write_table(empty, folder / "train.parquet")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "not an IDX file"),
        (broken_gzip, "not an IDX file"),
        (missing_file, "no file t10k-labels"),
        (too_few_labels, "30 train images and 2 labels"),
        (not_parquet, r"train\*\.parquet: not parquet files"),
        (images_of_two_sizes, r"train\*\.parquet: .* must have the same shape"),
        (labels_in_words, r"train\*\.parquet: .* 'seven'"),
        (no_rows, r"train\*\.parquet: .* at least one array"),
        (lambda folder: None, "neither MNIST's IDX files"),
    ],
)
def test_invalid_image_files_raise(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        load(str(tmp_path))


@pytest.mark.parametrize("source", ["/no/such/folder", "./mnist", "mnist"])
def test_a_missing_source_raises(source: str) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load(source)


def test_a_sweep_is_the_product_of_its_axes() -> None:
    found = grid_points(DIGITS, ("auxiliary=2,3", "distances=0|1,0|0.5|1", "loss=kl,squared"))
    assert len(found) == 8
    assert found[0].label == "auxiliary=2 distances=0|1 loss=kl"
    assert found[-1].experiment == replace(DIGITS, distances=(0.0, 0.5, 1.0), loss="squared")
    assert [cell.experiment for cell in grid_points(DIGITS, ())] == [DIGITS]


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ("widht=3", "did you mean 'width'"),
        ("width", "write NAME=VALUE"),
        ("width=a", "'a' is not a whole number"),
        ("learning_rate=x", "'x' is not a number"),
        ("loss=kl,mse", "Experiment.loss = 'mse'"),
        ("distances=0|2", "from 0"),
        ("width=0", "must be at least 1"),
        ("auxiliary=1", "softmax over one logit"),
        ("at_once=3", "no axis"),
    ],
)
def test_an_invalid_axis_raises(axis: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        grid_points(DIGITS, (axis,))


def test_shards_partition_the_networks() -> None:
    for shards in (1, 3, 7, 50):
        numbers = [
            n for shard in split_into_shards(replace(DIGITS, networks=7), shards) for n in shard.numbers
        ]
        assert sorted(numbers) == list(range(7))
        assert all(shard.numbers for shard in split_into_shards(replace(DIGITS, networks=7), shards))


def test_a_result_key_depends_on_settings_and_images() -> None:
    name = key(Measured(DIGITS, "a"))
    assert key(Measured(replace(DIGITS, at_once=3), "a")) == name
    assert key(Measured(replace(DIGITS, seed=1), "a")) != name
    assert key(Measured(DIGITS, "b")) != name


@pytest.mark.parametrize("fields", [{"networks": 1}, {"distances": ()}, {"distances": (0, 0)}, {"batch": 0}])
def test_an_invalid_experiment_raises(fields: dict[str, object]) -> None:
    with pytest.raises(SpecError, match=f"Experiment.{next(iter(fields))}"):
        Experiment(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("epsilons", [(), (1e-3, 1e-2), (0.1, 0.0)])
def test_step_sizes_must_decrease(epsilons: tuple[float, ...]) -> None:
    with pytest.raises(SpecError, match="from large to small"):
        OneStep(epsilons=epsilons)


def test_invalid_json_gives_no_outcomes() -> None:
    assert from_json("") == from_json('[{"role": "stu') == from_json('[{"a": 1}]') == []
    assert to_json([]) == "[]"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One storage for the end-to-end tests, because creating an MLflow database takes seconds."""
    return tmp_path_factory.mktemp("storage")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Console(file=io.StringIO(), width=130)


def text(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_the_mlp_job_end_to_end(quiet: Console, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = mlp_job.MLPArguments(
        networks=3,
        vary=("inputs=128", "epochs=1", "teacher_epochs=1", "width=16,32"),
        storage=str(storage),
    )
    assert mlp_job.main(arguments, quiet) == 0
    assert "same initialisation, auxiliary logits" in text(quiet)
    (sweep,) = (storage / "theory" / "mlp-sweeps").iterdir()
    assert {file.name for file in sweep.iterdir()} == {"mlp.csv", "networks.csv", "mlp.png", "mlp.svg"}
    rows = list(csv.DictReader((sweep / "networks.csv").open()))
    assert len(rows) == 2 * 3 * 6
    assert all(row["network"] != row["other"] for row in rows)
    assert len(list((storage / "theory" / "mlp").iterdir())) == 2

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    experiment = client.get_experiment_by_name("theory-mlp")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    assert runs[0].data.params["experiment.inputs"] == "128"
    assert "accuracy same initialisation auxiliary logits" in runs[0].data.metrics

    monkeypatch.setattr(
        mlp_job, "_train_shard", lambda *_: pytest.fail("finished networks were trained again")
    )
    assert mlp_job.main(arguments, quiet) == 0
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_the_one_step_job_end_to_end(quiet: Console, storage: Path) -> None:
    arguments = step_job.OneStepArguments(model=("mlp",), draws=12, storage=str(storage))
    assert step_job.main(arguments, quiet) == 0
    assert "holds" in text(quiet)
    assert "caught" in text(quiet)
    (folder,) = (storage / "theory" / "one_step").iterdir()
    assert {file.name for file in folder.iterdir()} == {"one_step.csv", "one_step.png", "one_step.svg"}


@pytest.mark.parametrize(
    ("job", "flags", "message"),
    [
        ("mlp", ["--vary", "widht=3"], "did you mean 'width'"),
        ("mlp", ["--data", "/no/such/folder"], "no such folder"),
        ("mlp", ["--networks", "1"], "needs a second network"),
        ("one_step", ["--model", "nano/gtp2-0"], "did you mean 'gpt2'"),
        ("one_step", ["--draws", "0"], "must be at least 1"),
    ],
)
def test_a_user_error_is_one_line_and_exit_code_2(
    job: str, flags: list[str], message: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / f"{job}.py"), "--storage", str(tmp_path), *flags],
        env={"PYTHONPATH": str(ROOT / "platform"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
