"""The logic of jobs/mlp.py."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape

from undertow.cli.entry import check_at_least_one, option
from undertow.cluster.connection import spread
from undertow.engines.quiet import quiet
from undertow.report.table_texts import print_table
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.sweep.progress import print_line
from undertow.theory.settings import DIGITS, PAPER, Measured
from undertow.theory.sweep import GridPoint, Shard, from_json, grid_points, split_into_shards, to_json

if TYPE_CHECKING:
    from undertow.theory.data import Images
    from undertow.theory.mlp import NetworkAccuracy

PRESETS = {"digits": DIGITS, "paper": PAPER}


@dataclass(frozen=True)
class MLPArguments:
    """Trains teachers on images and students on noise, and measures the students' accuracy on images."""

    preset: Literal["digits", "paper"] = "digits"
    """Base settings: those of the paper, or settings tuned to scikit-learn's digits."""
    data: str = "digits"
    """'digits', a folder with MNIST's IDX or Parquet files, or the id of a data set on the Hub."""
    networks: Annotated[int | None, option("N", "the number of the preset")] = None
    """Number of teachers, each with its own students."""
    vary: Annotated[tuple[str, ...], option("NAME=VALUES ...", "no sweep")] = ()
    """Axes of a sweep, as NAME=VALUE,VALUE. Within a value of `distances`, separate numbers by |."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """Folder or fsspec URL for results."""
    shards: int = 1
    """Number of shards into which the networks of a setting are split. Ray runs two or more."""
    threads: int = 1
    """CPU threads of this process. More than one is faster only for networks as wide as the paper's."""
    at_once: int = DIGITS.at_once
    """Networks trained together, 0 for all of a shard. Limits memory, does not affect results."""


def main(arguments: MLPArguments, console: Console) -> int:
    """Runs the missing settings, then writes and prints the results of all settings. Returns 0."""
    quiet()
    base = dataclasses.replace(PRESETS[arguments.preset], data=arguments.data, at_once=arguments.at_once)
    if arguments.networks is not None:
        base = dataclasses.replace(base, networks=arguments.networks)
    check_at_least_one(arguments, "shards", "threads")
    grid = grid_points(base, arguments.vary)
    store = Store(arguments.storage)
    store.prepare()

    import torch

    from undertow.theory.data import load

    torch.set_num_threads(arguments.threads)
    images = {source: load(source) for source in {point.experiment.data for point in grid}}
    specs = [Measured(point.experiment, images[point.experiment.data].digest) for point in grid]
    outcomes = [from_json(store.read_text(f"{_folder(spec)}/outcomes.json")) for spec in specs]
    missing = [i for i, networks in enumerate(outcomes) if not networks]
    trained = _train([grid[i] for i in missing], images, arguments.shards)
    for i, networks in zip(missing, trained, strict=True):
        outcomes[i] = networks
        store.write_bytes(f"{_folder(specs[i])}/outcomes.json", to_json(networks).encode())
    _report(grid, specs, outcomes, images, store, console)
    return 0


def _train(
    missing: list[GridPoint], images: "dict[str, Images]", n_shards: int
) -> "list[list[NetworkAccuracy]]":
    """The networks of every grid point, trained in this process or, with several shards, by Ray tasks."""
    shards = [
        (i, shard)
        for i, point in enumerate(missing)
        for shard in split_into_shards(point.experiment, n_shards)
    ]
    if n_shards == 1 or not shards:
        results = [_train_shard(images, shard) for _, shard in shards]
    else:
        results = spread(_train_shard, images, [shard for _, shard in shards])
    networks: list[list[NetworkAccuracy]] = [[] for _ in missing]
    for (i, _), result in zip(shards, results, strict=True):
        networks[i] += result
    return networks


def _train_shard(images: "dict[str, Images]", shard: Shard) -> "list[NetworkAccuracy]":
    from undertow.theory.mlp import run

    return run(shard.experiment, images[shard.experiment.data], shard.numbers)


def _report(
    grid: list[GridPoint],
    specs: list[Measured],
    outcomes: "list[list[NetworkAccuracy]]",
    images: "dict[str, Images]",
    store: Store,
    console: Console,
) -> None:
    """Writes CSV files and figures, logs one MLflow run and prints one table per grid point."""
    from undertow.report import theory as report
    from undertow.theory.summary import arms
    from undertow.tracking import client

    labels = [point.label for point in grid]
    classes = [images[point.experiment.data].classes for point in grid]
    summaries = [arms(networks, count) for networks, count in zip(outcomes, classes, strict=True)]
    chances = [1 / count for count in classes]
    for i, (point, spec) in enumerate(zip(grid, specs, strict=True)):
        files = report.experiment_files(
            _title(point), [labels[i]], [outcomes[i]], [summaries[i]], [chances[i]]
        )
        store.write_files(_folder(spec), files)
        # MLflow allows neither commas nor parentheses in the names of metrics.
        metrics = {
            f"accuracy {arm.name}".replace(",", "").replace("(", "").replace(")", ""): arm.mean
            for arm in summaries[i]
        }
        client.log_finished_run(
            store, "theory-mlp", point.label or point.experiment.data, spec, metrics, files
        )
    folder = _folder(specs[0])
    if len(grid) > 1:
        folder = f"theory/mlp-sweeps/{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
        title = f"{grid[0].experiment.data}: students on noise"
        store.write_files(folder, report.experiment_files(title, labels, outcomes, summaries, chances))
    print_line(f"Written to {store.url}/{folder}: mlp.csv, networks.csv, mlp.png, mlp.svg", console)
    for point, summary in zip(grid, summaries, strict=True):
        print_table(report.arms_table(escape(_title(point)), summary), console)


def _title(point: GridPoint) -> str:
    experiment = point.experiment
    data = experiment.data if experiment.data == "digits" else Path(experiment.data).name
    setting = f"{data}, {point.label}" if point.label else data
    return f"{setting}: {experiment.auxiliary} auxiliary logits, students on noise"


def _folder(spec: Measured) -> str:
    return f"theory/mlp/{key(spec)[:16]}"
