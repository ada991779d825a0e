"""The logic of jobs/one_step.py."""

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from undertow.cluster.connection import quiet
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.theory.settings import LM_STEP, MLP_STEP, Checked, OneStep

if TYPE_CHECKING:
    from undertow.theory.check import TheoremCheck
    from undertow.theory.one_step import Steps


@dataclass(frozen=True)
class OneStepArguments:
    """Takes one small step of a teacher and one of its imitator, and compares what the theorem promises."""

    model: tuple[str, ...] = (MLP_STEP.model, LM_STEP.model)
    """'mlp', nano models, or local folders with a causal model."""
    other: str | None = None
    """A model for the other initialisation (language models); '' draws one from the configuration."""
    draws: int | None = None
    """Random draws in place of the default number (1,000 for the MLP, 16 for a language model)."""
    width: int | None = None
    """Of the MLP's hidden layers."""
    seed: int = 0
    storage: Annotated[str, tyro.conf.arg(metavar="URL")] = "storage"
    """A folder or any fsspec URL for results."""


def main(arguments: OneStepArguments, console: Console) -> int:
    """Checks every model; the exit code says whether all came out as the theorem has it."""
    quiet()
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # transformers imports DeepSpeed, which else says so
    wanted = [_settings(model, arguments) for model in arguments.model]
    checked = [Checked(settings, _revision(settings.model), _revision(settings.other)) for settings in wanted]
    store = Store(arguments.storage)
    store.prepare()
    outcomes = [_check(one, store, console) for one in checked]  # the second, too, where the first fails
    return 0 if all(outcomes) else 1


def _settings(model: str, arguments: OneStepArguments) -> OneStep:
    """The defaults for a kind of model, with what the arguments say."""
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
    """What the weights of a named model are, for the result's name; '' for those drawn from the seed."""
    if model in ("", MLP_STEP.model):
        return ""
    from undertow.planning.pinning import pin
    from undertow.study.artifacts import Reference

    return pin(Reference(model)).revision


def _check(checked: Checked, store: Store, console: Console) -> bool:
    """One model: draws, files, an MLflow run, the table; whether everything came out as expected."""
    from undertow.report import theory as report
    from undertow.theory.check import findings, to_csv
    from undertow.tracking import client

    settings = checked.settings
    cases = _cases(settings)
    found = findings(settings, cases)
    largest, smallest = settings.epsilons[0], settings.epsilons[-1]
    title = f"Theorem 1 on {settings.model}: {settings.draws} draws, ε from {largest:g} to {smallest:g}"
    files = {
        "one_step.csv": to_csv(settings.epsilons, cases).encode(),
        **report.steps_figure("one_step", title, settings, cases, found),
    }
    folder = f"theory/one_step/{key(checked)[:16]}"
    for file, content in files.items():
        store.write_bytes(f"{folder}/{file}", content)
    good = all(finding.as_expected for finding in found)
    client.record(store, "theory-one-step", settings.model, checked, _metrics(found), files, failed=not good)
    console.print(f"Written to {store.url}/{folder}: {', '.join(files)}", soft_wrap=True)
    console.print(report.findings_table(title, found))
    return good


def _cases(settings: OneStep) -> "list[Steps]":
    import torch

    from undertow.theory.check import gather

    torch.set_num_threads(1)  # a chunk of draws is too small for two: they cost more than they save
    if settings.model == MLP_STEP.model:
        from undertow.theory import data, draws_mlp

        return gather(draws_mlp.run(settings, data.digits()))
    from undertow.theory import draws_lm

    return gather(draws_lm.run(settings))


def _metrics(found: "list[TheoremCheck]") -> dict[str, float]:
    """Counts and slopes of each case."""
    return {
        f"{finding.arm} {finding.loss} {name}": float(getattr(finding, name))
        for finding in found
        for name in ("violations", "unseen", "aligned", "lowered", "slope", "worst_slope")
    }
