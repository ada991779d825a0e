"""The logic of jobs/mlp.py."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from undertow.cluster.connection import quiet, spread
from undertow.errors import UserError
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.theory.settings import DIGITS, PAPER, Measured
from undertow.theory.sweep import GridPoint, Piece, cells, from_json, pieces, to_json

if TYPE_CHECKING:
    from undertow.theory.data import Images
    from undertow.theory.mlp import NetworkAccuracy

PRESETS = {"digits": DIGITS, "paper": PAPER}


@dataclass(frozen=True)
class MLPArguments:
    """Trains teachers on images and students on noise, and asks what the students learnt about images."""

    preset: Literal["digits", "paper"] = "digits"
    """Settings to start from: the paper's, or those that suit scikit-learn's digits."""
    data: str = "digits"
    """'digits', a folder with MNIST's IDX or parquet files, or a hub dataset's id."""
    networks: int | None = None
    """Teachers, each with its students, in place of the preset's number."""
    vary: tuple[str, ...] = ()
    """Axes as NAME=VALUE,VALUE; numbers of one `distances` value are parted by |."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """A folder or any fsspec URL for results."""
    shards: int = 1
    """Parts that a setting's networks are cut into; with more than one, Ray runs them."""
    threads: int = 1
    """Processor threads of this process; more than one pays for networks as wide as the paper's on MNIST."""
    at_once: int = DIGITS.at_once
    """Networks in a stack, 0 for all of a shard: bounds memory, leaves the results alone."""


def main(arguments: MLPArguments, console: Console) -> int:
    """Runs what is missing of the sweep, writes and shows all of it."""
    quiet()
    base = dataclasses.replace(PRESETS[arguments.preset], data=arguments.data, at_once=arguments.at_once)
    if arguments.networks is not None:
        base = dataclasses.replace(base, networks=arguments.networks)
    for name in ("shards", "threads"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} {getattr(arguments, name)}: at least 1 is needed")
    grid = cells(base, arguments.vary)
    store = Store(arguments.storage)
    store.prepare()

    import torch

    from undertow.theory.data import load

    torch.set_num_threads(arguments.threads)
    images = {source: load(source) for source in {cell.experiment.data for cell in grid}}
    names = [Measured(cell.experiment, images[cell.experiment.data].digest) for cell in grid]
    known = [from_json(store.read_text(_place(name, "outcomes.json"))) for name in names]
    missing = [place for place, found in enumerate(known) if not found]
    for place, found in zip(
        missing, _trained([grid[p] for p in missing], images, arguments.shards), strict=True
    ):
        known[place] = found
        store.write_bytes(_place(names[place], "outcomes.json"), to_json(found).encode())
    _show(grid, names, known, images, store, console)
    return 0


def _trained(
    missing: list[GridPoint], images: "dict[str, Images]", shards: int
) -> "list[list[NetworkAccuracy]]":
    """The outcomes of every cell, from pieces run here or over Ray."""
    work = [(place, piece) for place, cell in enumerate(missing) for piece in pieces(cell.experiment, shards)]
    if shards == 1 or not work:
        parts = [_run(images, piece) for _, piece in work]
    else:
        parts = spread(_run, images, [piece for _, piece in work])
    found: list[list[NetworkAccuracy]] = [[] for _ in missing]
    for (place, _), part in zip(work, parts, strict=True):
        found[place] += part
    return found


def _run(images: "dict[str, Images]", piece: Piece) -> "list[NetworkAccuracy]":
    from undertow.theory.mlp import run

    return run(piece.experiment, images[piece.experiment.data], piece.numbers)


def _show(
    grid: list[GridPoint],
    names: list[Measured],
    known: "list[list[NetworkAccuracy]]",
    images: "dict[str, Images]",
    store: Store,
    console: Console,
) -> None:
    """Files beside the results, an MLflow run a cell, and the table last."""
    from undertow.report import theory as report
    from undertow.theory.summary import Arm, arms, arms_csv, outcomes_csv
    from undertow.tracking import client

    def summed(place: int) -> list[Arm]:
        return arms(known[place], images[grid[place].experiment.data].classes)

    labels = [cell.label for cell in grid]
    every = [summed(place) for place in range(len(grid))]
    chance = 1 / images[grid[0].experiment.data].classes
    for place, cell in enumerate(grid):
        one = [(cell.label, every[place])]
        files = _files(arms_csv(one), outcomes_csv([(cell.label, known[place])]))
        files |= report.arms_figure("mlp", _title(cell), one, chance)
        for file, content in files.items():
            store.write_bytes(_place(names[place], file), content)
        metrics = {
            f"accuracy {arm.name}".replace(",", "").replace("(", "").replace(")", ""): arm.mean
            for arm in every[place]
        }
        client.record(store, "theory-mlp", cell.label or cell.experiment.data, names[place], metrics, files)
    folder = f"theory/mlp/{key(names[0])[:16]}"
    if len(grid) > 1:
        folder = f"theory/mlp-sweeps/{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
        together = list(zip(labels, every, strict=True))
        files = _files(arms_csv(together), outcomes_csv(list(zip(labels, known, strict=True))))
        files |= report.arms_figure("mlp", f"{grid[0].experiment.data}: students on noise", together, chance)
        for file, content in files.items():
            store.write_bytes(f"{folder}/{file}", content)
    console.print(f"Written to {store.url}/{folder}: mlp.csv, networks.csv, mlp.png, mlp.svg", soft_wrap=True)
    for cell, found in zip(grid, every, strict=True):
        console.print(report.arms_table(_title(cell), found))


def _files(arms: str, outcomes: str) -> dict[str, bytes]:
    return {"mlp.csv": arms.encode(), "networks.csv": outcomes.encode()}


def _title(cell: GridPoint) -> str:
    data = cell.experiment.data if cell.experiment.data == "digits" else Path(cell.experiment.data).name
    what = f"{cell.experiment.auxiliary} auxiliary logits, students on noise"
    return f"{data}{', ' if cell.label else ''}{cell.label}: {what}"


def _place(name: Measured, file: str) -> str:
    return f"theory/mlp/{key(name)[:16]}/{file}"
