"""The logic of jobs/detect.py."""

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from undertow.api.endpoint import Endpoint
from undertow.detection.llm_detector import PROMPT, Asking, DetectorPlan
from undertow.detection.make import Detected, detect_all, files
from undertow.detection.output import JSON, detection_table
from undertow.detection.prose import caveats
from undertow.errors import UserError
from undertow.report.tables import effects_table
from undertow.results import events, sweep_folders
from undertow.storage.store import Store


@dataclass(frozen=True)
class DetectArguments:
    """Looks for the trait in the data of a sweep."""

    study: Annotated[str, tyro.conf.arg(metavar="NAME")] = "owls"
    """The study's name."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """The folder or fsspec URL that the sweep wrote to."""
    sweep: Annotated[str, tyro.conf.arg(metavar="TIME")] = ""
    """Which of the study's sweeps, by its folder's name; the newest where none is given."""
    alpha: float = 0.05
    """The false discovery rate of the frequencies, in each source."""
    model: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """A language model to ask as well, by the name that its endpoint knows."""
    draws: int = 40
    """How often it is asked about each source, at most."""
    rows: int = 20
    """How many rows of each of the two data sets it is shown at a time."""
    prompt: Annotated[str, tyro.conf.arg(metavar="FILE.md")] = PROMPT
    """The words it is asked in; in a file of yours {trait} and {completion} (both samples) stand for them."""


def main(arguments: DetectArguments, console: Console) -> int:
    """0 once all that was asked for is written, 1 where a part of it is missing."""
    check(arguments)
    store = Store(arguments.storage)
    sweep = sweep_folders.newest(store, arguments.study, arguments.sweep)
    record = sweep_folders.read(store, arguments.study, sweep)
    failures = events.failures(events.read(store, arguments.study, sweep))

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    asking, trouble = asked_of(arguments, store)
    detected = detect_all(record, store, failures, arguments.alpha, asking, say)
    if trouble:
        say(f"No language model was asked: {trouble}")
    show(detected, arguments.alpha, console)
    folder = sweep_folders.folder_of(arguments.study, sweep)
    for name, content in files(record, detected, arguments.alpha).items():
        store.write_bytes(f"{folder}/{name}", content)
    console.print(f"Detection: {store.url}/{folder}/{JSON}", soft_wrap=True)
    whole = detected.detections and not (detected.left_out or detected.missing or trouble)
    return 0 if whole else 1


def check(arguments: DetectArguments) -> None:
    """UserError for a value that makes no sense, naming its flag."""
    if not 0 < arguments.alpha < 1:
        raise UserError(f"--alpha {arguments.alpha:g}: a rate between 0 and 1 is needed, such as 0.05")
    for flag, value in (("--draws", arguments.draws), ("--rows", arguments.rows)):
        if value < 1:
            raise UserError(f"{flag} {value}: at least 1 is needed")


def asked_of(arguments: DetectArguments, store: Store) -> tuple[Asking | None, str]:
    """Who is to be asked, or why nobody can be; neither where no model is named."""
    if not arguments.model:
        return None, ""
    try:
        endpoint = Endpoint.from_environment()
    except UserError as reason:
        return None, str(reason)
    plan = DetectorPlan(arguments.model, arguments.draws, arguments.rows, arguments.prompt)
    return Asking(plan, endpoint, store), ""


def show(detected: Detected, alpha: float, console: Console) -> None:
    """The table, the effects in context, and what to mind."""
    if detected.detections:
        console.print(detection_table(detected.detections, alpha))
    if detected.in_context:
        table = effects_table(detected.in_context)
        table.title = "In context: models that had rows of the data in their prompt, against control data"
        console.print(table)
    for line in caveats(detected.detections) if detected.detections else []:
        console.print(line, highlight=False, markup=False)
