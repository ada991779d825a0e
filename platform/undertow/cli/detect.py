"""The logic of jobs/detect.py."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import tyro
from rich.console import Console

from undertow.api.endpoint import Endpoint
from undertow.cli.entry import FinishedSweepArguments, check_at_least_one, option
from undertow.detection.llm_detector import PROMPT, DetectorPlan, LLMDetector
from undertow.detection.make import detect_all, files
from undertow.detection.output import JSON, detection_table
from undertow.detection.prose import caveats
from undertow.detection.scores import Detected
from undertow.engines.quiet import quiet
from undertow.errors import UserError
from undertow.report.table_texts import print_table
from undertow.report.tables import effects_of, effects_table
from undertow.results import events, sweep_folders
from undertow.storage.store import Store
from undertow.sweep.progress import print_line


@dataclass(frozen=True)
class DetectArguments(FinishedSweepArguments):
    """Tests whether the trait can be detected in the data of a sweep."""

    alpha: float = 0.05
    """False discovery rate of the frequency tests, per source of data."""
    model: Annotated[str, option("NAME", "none")] = ""
    """Language model that also tries to detect the trait, by its name at the endpoint."""
    draws: int = 40
    """Maximum number of requests to the language model per source of data."""
    rows: int = 20
    """Rows of each of the two data sets in one request."""
    prompt: Annotated[str, tyro.conf.arg(metavar="FILE.md")] = PROMPT
    """Prompt of the request: a shipped one, or a file with {trait} and {completion} (both samples)."""


def main(arguments: DetectArguments, console: Console) -> int:
    """Writes and prints the results. Returns 1 if a requested part is missing."""
    check_values(arguments)
    quiet()
    store = Store(arguments.storage)
    sweep = sweep_folders.newest(store, arguments.study, arguments.sweep)
    if note := sweep_folders.better_than(store, arguments.study, sweep):
        print_line(note, console)
    record = sweep_folders.read(store, arguments.study, sweep)
    failures = events.failures(events.read(store, arguments.study, sweep))

    detector, reason = llm_detector(arguments, store)
    detected = detect_all(
        record, store, failures, arguments.alpha, detector, partial(print_line, console=console)
    )
    if reason:
        print_line(f"No language model was asked: {reason}", console)
    show(detected, console)
    folder = sweep_folders.folder_of(arguments.study, sweep)
    store.write_files(folder, files(record, detected))
    print_line(f"Detection: {store.url}/{folder}/{JSON}", console)
    complete = detected.detections and not (detected.left_out or detected.missing or reason)
    return 0 if complete else 1


def check_values(arguments: DetectArguments) -> None:
    """Raises UserError, with the flag, for an invalid value."""
    if not 0 < arguments.alpha < 1:
        raise UserError(f"--alpha {arguments.alpha:g}: give a rate between 0 and 1, such as 0.05")
    check_at_least_one(arguments, "draws", "rows")


def llm_detector(arguments: DetectArguments, store: Store) -> tuple[LLMDetector | None, str]:
    """The language model that detects the trait, or why it is unavailable. Without --model, neither."""
    if not arguments.model:
        return None, ""
    try:
        endpoint = Endpoint.from_environment()
    except UserError as reason:
        return None, str(reason)
    plan = DetectorPlan(arguments.model, arguments.draws, arguments.rows, arguments.prompt)
    return LLMDetector(plan, endpoint, store), ""


def show(detected: Detected, console: Console) -> None:
    """Prints the table of detections, the effects in context, and caveats."""
    if detected.detections:
        print_table(detection_table(detected), console)
    if detected.in_context:
        table = effects_table(detected.in_context, console.width)
        phrase = effects_of(detected.in_context)
        of = f"; effects{phrase}" if phrase else ""
        table.title = (
            f"In context: models that had rows of the data in their prompt, against control data{of}"
        )
        print_table(table, console)
    for line in caveats(detected.detections) if detected.detections else []:
        print_line(line, console)
