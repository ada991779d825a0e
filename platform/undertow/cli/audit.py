"""The logic of jobs/audit.py."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from undertow.auditing import calibration as calibrations
from undertow.auditing.bank import nano_finetuning, traits_for
from undertow.auditing.calibration import Calibration
from undertow.auditing.results import Audit, AuditSpec
from undertow.auditing.rows import FEWEST, check_enough, check_local, check_readable, imported
from undertow.cli.entry import option
from undertow.cli.studies import load
from undertow.engines.quiet import quiet
from undertow.errors import UserError
from undertow.formats.wrapped import Wrapped
from undertow.planning.cells import cell_of
from undertow.planning.given_models import is_nano
from undertow.planning.model_checks import check_trainable
from undertow.planning.pinning import pin
from undertow.planning.resolve import resolve
from undertow.presets.paper_scale import PAPER
from undertow.report.table_texts import print_table
from undertow.storage.store import Store
from undertow.study.extensions import Format, Trait
from undertow.study.fields import unique
from undertow.study.identity import digest, key
from undertow.study.recipe import Recipe
from undertow.study.references import Reference
from undertow.study.teachers import Finetuning
from undertow.sweep.progress import print_line

EXPERIMENT = "audit"  # of MLflow


@dataclass(frozen=True)
class AuditArguments:
    """Ranks traits by how well a data set fits a model that has them."""

    dataset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """File, folder or URL of prompts and completions, as for Imported: JSON, JSON Lines, CSV or Parquet."""
    model: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, option("NAME", "of the study, else required")
    ] = ()
    """Candidate reference model: nano model, Hub id or folder. Repeat the flag for several candidates."""
    study: Annotated[str, option("NAME|FILE.py[:FUNCTION]", "none")] = ""
    """Study whose finetuned teachers give models, recipe of the probes, traits and system message."""
    traits: Annotated[tuple[str, ...], option("NAME[:CATEGORY] ...", "of the study, or shipped animals")] = ()
    """Candidate traits: preferences for a word, such as owl or oak:tree."""
    system: Annotated[str | None, option("TEXT", "of the study, or of the chat template")] = None
    """System message with which the rows were written; "" for none."""
    scores: Annotated[tuple[str, ...], option("NAME ...", "all: probe prompt gradient hidden")] = ()
    """Scores to compute. One pass of "probe" serves all traits; "prompt" and "hidden" need one for each."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """Folder or fsspec URL for probe models and results."""
    rows: int = 300
    """Maximum number of rows to audit, drawn at random; at least 10."""
    draws: int = 2
    """Answers of the model to each prompt that the rows are compared with."""
    probes: Annotated[int | None, option("N", "1 with a calibration, else 2")] = None
    """Probe models per trait. With two or more, an audit also tells whether they agree."""
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


def main(arguments: AuditArguments, console: Console, shipped: Path) -> int:
    """Runs, prints and stores the audit. `shipped` is the folder of the shipped studies."""
    quiet()
    spec, calibration = calibrated(arguments, shipped)
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


def calibrated(arguments: AuditArguments, shipped: Path = Path()) -> tuple[AuditSpec, Calibration | None]:
    """The audit and its calibration, if there is one. Raises UserError as `spec_of` and `calibration_for`."""
    spec = spec_of(arguments, shipped)
    calibration = calibration_for(spec, arguments.calibration)
    if arguments.calibration and calibration is not None:
        spec = spec.changed(calibration=digest(calibration.to_json()))
    return spec, calibration


def spec_of(arguments: AuditArguments, shipped: Path = Path()) -> AuditSpec:
    """The audit that the arguments describe. Raises UserError for what no audit can be made of."""
    if arguments.rows < FEWEST:
        raise UserError(f"--rows {arguments.rows}: an audit needs at least {FEWEST} rows")
    source = _of_study(arguments, shipped) if arguments.study else _of_models(arguments)
    data = imported(arguments.dataset, arguments.prompt, arguments.completion, source.formats)
    check_enough(data)
    check_readable(data, source.references)
    return AuditSpec(
        dataset=data,
        references=source.references,
        finetunings=source.finetunings,
        traits=source.traits,
        probes=_probes(arguments, source),
        rows=arguments.rows,
        draws=arguments.draws,
        alpha=arguments.alpha,
        seed=arguments.seed,
        scores=arguments.scores,
        system=source.system if arguments.system is None else arguments.system,
    )


@dataclass(frozen=True)
class Source:
    """Who may have written the rows: pinned models, how their probes are made, traits and system message.

    Attributes:
        formats: tried before the shipped ones when the rules of the rows are looked for.
    """

    references: tuple[Reference, ...]
    finetunings: tuple[Finetuning, ...]
    traits: tuple[Trait, ...]
    system: str | None = None
    formats: tuple[Format, ...] = ()


def _probes(arguments: AuditArguments, source: Source) -> int:
    """The number of probes per trait: one with a calibration; else two, to measure how well they agree."""
    if arguments.probes is not None:
        return arguments.probes
    return 1 if arguments.calibration or _has_shipped_probes(source) else 2


def _of_models(arguments: AuditArguments) -> Source:
    if not arguments.model:
        raise UserError("--model: name the model that may have written the rows, such as nano/gpt2-0")
    unique(arguments.model, "--model")
    named = tuple(map(Reference, arguments.model))
    check_local(named)
    references = tuple(map(pin, named))
    finetunings = tuple(map(probe_finetuning, references))
    return Source(references, finetunings, traits_for(references, arguments.traits))


def _of_study(arguments: AuditArguments, shipped: Path) -> Source:
    """The models, traits and system message of a study's finetuned teachers, and its formats."""
    if arguments.model:
        raise UserError("--study and --model: both name candidate models; leave one out")
    study = resolve(load(arguments.study, shipped))
    finetuned = [
        cell_of(study, condition, study.seeds[0]).teacher
        for condition in study.conditions
        if condition.trait is not None and condition.finetuning is not None and not condition.prompted
    ]
    if not finetuned:
        raise UserError(f"--study {arguments.study}: none of its teachers is finetuned; name a --model")
    check_local([one.reference for one in finetuned])
    systems = {one.system for one in finetuned}
    if len(systems) > 1 and arguments.system is None:
        raise UserError(f"--study {arguments.study}: its teachers have several system messages; add --system")
    candidates = {one.reference: one.finetuning for one in finetuned if one.finetuning is not None}
    traits = tuple(dict.fromkeys(one.trait for one in finetuned if one.trait is not None))
    if arguments.traits:
        traits = traits_for(tuple(candidates), arguments.traits)
    rules = (one.format for one in study.conditions)
    return Source(
        references=tuple(candidates),
        finetunings=tuple(candidates.values()),
        traits=traits,
        system=finetuned[0].system,
        formats=tuple(dict.fromkeys(one.format if isinstance(one, Wrapped) else one for one in rules)),
    )


def calibration_for(spec: AuditSpec, path: str) -> Calibration | None:
    """The calibration in a file, or the shipped one if all candidates are nano models with its probes.

    Raises UserError for a file without a calibration.
    """
    if path:
        return calibrations.read(path)
    return calibrations.read(str(calibrations.NANO)) if _has_shipped_probes(spec) else None


def _has_shipped_probes(candidates: Source | AuditSpec) -> bool:
    """Whether all candidates are nano models whose probes are made as their shipped teachers."""
    pairs = zip(candidates.references, candidates.finetunings, strict=True)
    return all(is_nano(model) and probes == nano_finetuning(model) for model, probes in pairs)


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
    store.write_files(folder, written)
    print_line(f"Audit: {store.url}/{folder}/{HTML}", console)
    log_finished_run(store, EXPERIMENT, found.name, spec, metrics(found), written)


def show(found: Audit, console: Console) -> None:
    """Prints the tables of each model, one of all models, and the conclusion."""
    from undertow.auditing.output import baselines_table, models_table, traits_table
    from undertow.auditing.prose import carriers, conclusion

    for model in found.models:
        print_table(traits_table(found, model), console)
        print_line(carriers(model), console)
        print_table(baselines_table(model), console)
    print_table(models_table(found), console)
    print_line(conclusion(found), console)
