"""The logic of jobs/audit.py."""

import os
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import tyro
from rich.console import Console

from undertow.auditing import calibration as calibrations
from undertow.auditing.bank import nano_finetuning, traits_for
from undertow.auditing.calibration import Calibration
from undertow.auditing.results import Audit, AuditSpec
from undertow.auditing.rows import check_models, imported
from undertow.cli.entry import option
from undertow.engines.quiet import quiet
from undertow.errors import UserError
from undertow.planning.model_checks import check_trainable
from undertow.planning.pinning import is_nano, pin
from undertow.presets.paper_scale import PAPER
from undertow.storage.store import Store
from undertow.study.artifacts import Finetuning
from undertow.study.fields import unique
from undertow.study.identity import key
from undertow.study.recipe import Recipe
from undertow.study.references import Reference
from undertow.sweep.progress import print_line

EXPERIMENT = "audit"  # of MLflow


@dataclass(frozen=True)
class AuditArguments:
    """Ranks traits by how well a data set fits a model that has them."""

    dataset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """File, folder or URL of prompts and completions, as for Imported: JSON, JSON Lines, CSV or Parquet."""
    model: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("NAME", "required")] = ()
    """Candidate reference model: nano model, Hub id or folder. Repeat the flag for several candidates."""
    traits: Annotated[tuple[str, ...], option("NAME[:CATEGORY] ...", "the shipped animals")] = ()
    """Candidate traits: preferences for a word, such as owl or oak:tree."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """Folder or fsspec URL for probe models and results."""
    rows: int = 300
    """Maximum number of rows to audit, drawn at random."""
    draws: int = 2
    """Answers of the model to each prompt that the rows are compared with."""
    probes: int = 1
    """Probe models per trait."""
    alpha: float = 0.05
    """Rate of false alarms for rows that the unmodified model wrote, over all traits and models together."""
    seed: int = 0
    """Seed of the drawn rows and of the model's answers."""
    prompt: Annotated[str, option("NAME", "usual names")] = ""
    """Column of the prompts."""
    completion: Annotated[str, option("NAME", "usual names")] = ""
    """Column of the completions."""
    calibration: Annotated[str, option("FILE.json", "for nano models the shipped one, else none")] = ""
    """Calibration that turns scores into probabilities of transmission."""


def main(arguments: AuditArguments, console: Console) -> int:
    """Runs, prints and stores the audit."""
    quiet()
    spec = spec_of(arguments)
    calibration = calibration_for(spec, arguments.calibration)
    store = Store(arguments.storage)
    store.prepare()

    from undertow.auditing.make import audit  # imports torch

    threads = len(os.sched_getaffinity(0))
    found = audit(
        spec, store, threads=threads, calibration=calibration, say=partial(print_line, console=console)
    )
    show(found, console)
    write(found, spec, store, console)
    return 0


def spec_of(arguments: AuditArguments) -> AuditSpec:
    """The audit that the arguments describe. Raises UserError for what no audit can be made of."""
    if not arguments.model:
        raise UserError("--model: name the model that may have written the rows, such as nano/gpt2-0")
    unique(arguments.model, "--model")
    data = imported(arguments.dataset, arguments.prompt, arguments.completion)
    named = tuple(map(Reference, arguments.model))
    check_models(data, named)
    references = tuple(map(pin, named))
    finetunings = tuple(map(probe_finetuning, references))
    return AuditSpec(
        dataset=data,
        references=references,
        finetunings=finetunings,
        traits=traits_for(references, arguments.traits),
        probes=arguments.probes,
        rows=arguments.rows,
        draws=arguments.draws,
        alpha=arguments.alpha,
        seed=arguments.seed,
    )


def calibration_for(spec: AuditSpec, path: str) -> Calibration | None:
    """The calibration in a file, or the shipped one if all candidates are nano models.

    Raises UserError for a file without a calibration.
    """
    if path:
        return calibrations.read(path)
    return calibrations.read(str(calibrations.NANO)) if all(map(is_nano, spec.references)) else None


def probe_finetuning(reference: Reference) -> Finetuning:
    """How the probes of a pinned model are made: as its teachers are in the shipped studies.

    Raises SpecError if the model lacks a parameter that the recipe trains.
    """
    if is_nano(reference):
        return nano_finetuning(reference)
    finetuning = PAPER.finetuned
    assert isinstance(finetuning.recipe, Recipe)
    check_trainable(finetuning.recipe, reference)
    import torch

    # Some CPUs lack bf16, and a process that tries it there is killed.
    precision: Literal["fp32", "bf16"] = "bf16" if torch.cuda.is_available() else "fp32"
    return finetuning.changed(recipe=finetuning.recipe.changed(precision=precision))


def write(found: Audit, spec: AuditSpec, store: Store, console: Console) -> None:
    """Writes the files of the audit into the storage and logs it to MLflow."""
    from undertow.auditing.output import HTML, files, metrics
    from undertow.tracking.client import log_finished_run

    audit_key = key(spec)
    folder = f"audits/{audit_key[:16]}"
    written = files(found, audit_key)
    for name, content in written.items():
        store.write_bytes(f"{folder}/{name}", content)
    print_line(f"Audit: {store.url}/{folder}/{HTML}", console)
    log_finished_run(store, EXPERIMENT, found.name, spec, metrics(found), written)


def show(found: Audit, console: Console) -> None:
    """Prints a table per model, one of all models, and the conclusion."""
    from undertow.auditing.output import models_table, traits_table
    from undertow.auditing.prose import carriers, conclusion

    for model in found.models:
        console.print(traits_table(found, model))
        print_line(carriers(model), console)
    console.print(models_table(found))
    print_line(conclusion(found), console)
