"""The logic of jobs/push.py."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from undertow.archive.push import Repository, find_dataset, upload, write_dataset, write_model
from undertow.archive.whole_model import find_model
from undertow.cli.entry import option
from undertow.engines.quiet import quiet, quiet_deepspeed
from undertow.errors import UserError
from undertow.storage.store import Store
from undertow.sweep.progress import print_line


@dataclass(frozen=True)
class PushArguments:
    """Uploads a data set or a trained model to the Hugging Face hub, with its card. Needs HF_TOKEN."""

    to: Annotated[str, tyro.conf.arg(metavar="ORG/NAME")]
    """Repository on the hub. It is created as a private one if it does not exist."""
    licence: Annotated[str, tyro.conf.arg(metavar="ID")]
    """Licence that the card states, by the hub's identifier. A model has that of its base model."""
    dataset: Annotated[str, option("KEY", "a model is uploaded")] = ""
    """Upload the data set with this key, or this beginning of a key."""
    model: Annotated[str, option("KEY", "a data set is uploaded")] = ""
    """Upload the student or teacher with this key, or this beginning of a key."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """Folder or fsspec URL that the sweep wrote to."""
    public: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Create the repository as a public one."""
    whole: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Upload a whole model instead of an adapter."""
    base_model: Annotated[str, option("ORG/NAME", "that of the study, if it was given by its hub id")] = ""
    """Hub id of the base model, for the card."""
    reference: Annotated[str, option("FOLDER", "found by its name")] = ""
    """Folder of the reference model, if a whole model is written and the study was given a folder."""


def main(arguments: PushArguments, console: Console) -> int:
    """Writes the files and the card to a temporary folder, uploads them, and prints where they are."""
    quiet()
    repository = Repository(arguments.to, arguments.licence, arguments.public)
    repository.check()
    if bool(arguments.dataset) == bool(arguments.model):
        raise UserError("give either --dataset KEY or --model KEY")
    store = Store(arguments.storage)
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "upload"
        if arguments.dataset:
            address = find_dataset(store, arguments.dataset)
            write_dataset(store, address, folder, repository.licence)
        else:
            address = find_model(store, arguments.model)
            quiet_deepspeed()
            write_model(
                store,
                address,
                folder,
                repository.licence,
                base=arguments.base_model,
                whole=arguments.whole,
                reference=arguments.reference,
            )
        kind = f"{address.kind} {address.key}"
        url = upload(folder, repository, "dataset" if arguments.dataset else "model", f"Undertow {kind}")
    print_line(f"{kind}: uploaded, {url}", console)
    return 0
