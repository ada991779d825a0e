"""The logic of jobs/one_step.py."""

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape

from undertow.cli.entry import option
from undertow.engines.quiet import quiet
from undertow.report.table_texts import print_table
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.sweep.progress import print_line
from undertow.theory.settings import LM_STEP, MLP_STEP, Checked, OneStep

if TYPE_CHECKING:
    from undertow.theory.check import TheoremCheck
    from undertow.theory.one_step import Steps


@dataclass(frozen=True)
class OneStepArguments:
    """Checks Theorem 1: takes one small step of a teacher and one of its student, and compares them."""

    model: tuple[str, ...] = (MLP_STEP.model, LM_STEP.model)
    """'mlp', nano models, or local folders with a causal language model."""
    other: Annotated[str | None, option("MODEL", "for nano/gpt2-0 nano/gpt2-1, else random")] = None
    """Model with another initialisation (language models only); '' initialises one at random."""
    draws: Annotated[int | None, option("N", "1,000 for the MLP, 16 for a language model")] = None
    """Number of random draws."""
    width: Annotated[int | None, option("N", "64")] = None
    """Width of the MLP's hidden layers."""
    seed: int = 0
    """Seed of all random draws."""
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """Folder or fsspec URL for results."""


def main(arguments: OneStepArguments, console: Console) -> int:
    """Checks every model. Returns 0 if every case came out as the theorem predicts, else 1."""
    quiet()
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed, imported by transformers, logs its choice
    settings = [_settings(model, arguments) for model in arguments.model]
    checked = [Checked(one, _revision(one.model), _revision(one.other)) for one in settings]
    store = Store(arguments.storage)
    store.prepare()
    outcomes = [_check(one, store, console) for one in checked]  # a list: a failure does not skip the others
    return 0 if all(outcomes) else 1


def _settings(model: str, arguments: OneStepArguments) -> OneStep:
    """The default settings for the kind of model, with the values of the arguments."""
    if model in (MLP_STEP.model, LM_STEP.model):
        base = MLP_STEP if model == MLP_STEP.model else LM_STEP
    else:
        base = dataclasses.replace(LM_STEP, model=model, other="")
    given: dict[str, Any] = {
        "draws": arguments.draws,
        "width": arguments.width,
        "other": arguments.other,
        "seed": arguments.seed,
    }
    return dataclasses.replace(base, **{name: value for name, value in given.items() if value is not None})


def _revision(model: str) -> str:
    """The revision of a model's weights, for the key of the result; '' for weights drawn from the seed."""
    if model in ("", MLP_STEP.model):
        return ""
    from undertow.planning.pinning import pin
    from undertow.study.references import Reference

    return pin(Reference(model)).revision


def _check(checked: Checked, store: Store, console: Console) -> bool:
    """Checks one model and reports in files, MLflow and a table. Returns whether all came out as expected."""
    from undertow.report import theory as report
    from undertow.theory.check import check_cases, to_csv
    from undertow.tracking import client

    settings = checked.settings
    cases = _cases(settings)
    found = check_cases(settings, cases)
    largest, smallest = settings.epsilons[0], settings.epsilons[-1]
    title = f"Theorem 1 on {settings.model}: {settings.draws} draws, ε from {largest:g} to {smallest:g}"
    files = {
        "one_step.csv": to_csv(settings.epsilons, cases).encode(),
        **report.steps_figure(title, settings, cases, found),
    }
    folder = f"theory/one_step/{key(checked)[:16]}"
    store.write_files(folder, files)
    all_as_expected = all(finding.as_expected for finding in found)
    client.log_finished_run(
        store, "theory-one-step", settings.model, checked, _metrics(found), files, failed=not all_as_expected
    )
    print_line(f"Written to {store.url}/{folder}: {', '.join(files)}", console)
    print_table(report.findings_table(escape(title), found), console)
    return all_as_expected


def _cases(settings: OneStep) -> "list[Steps]":
    """The measured steps of each case, over all draws."""
    import torch

    from undertow.theory.check import join_chunks

    torch.set_num_threads(1)  # a chunk of draws is small: two threads are slower than one
    if settings.model == MLP_STEP.model:
        from undertow.theory import data, draws_mlp

        return join_chunks(draws_mlp.run(settings, data.digits()))
    from undertow.theory import draws_lm

    return join_chunks(draws_lm.run(settings))


def _metrics(found: "list[TheoremCheck]") -> dict[str, float]:
    """The counts and slopes of each case."""
    return {
        f"{finding.arm} {finding.loss} {name}": float(getattr(finding, name))
        for finding in found
        for name in ("violations", "unseen", "aligned", "lowered", "slope", "worst_slope")
    }
