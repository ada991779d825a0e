"""With which probability does a student show a trait, given the audit of its data?

    python benchmarks/audit_calibration.py --out benchmarks/audit_calibration.md --calibration nano.json
    python benchmarks/audit_calibration.py --models nano/gpt2-0 nano/gpt2-1 --repeats 1

The script writes data sets as `benchmarks/auditing.py` does, audits a part of each, and trains a student on
the whole one, by the recipe of the shipped studies. For each data set and each trait of the bank, the outcome
is whether the student names the trait's word more often than the model itself does, by at least .1 of exact
probability. A calibration maps the audit to the probability of this outcome.

The figures are of predictions for held-out models and traits: each model's data sets are predicted by a
calibration that was fitted to the other models and to half of the traits, for the other half. The Brier score
is the mean squared error of the probability; that of the base rate is the score of always predicting the
share of pairs whose student shows the trait.

The tables of findings and separations are those of `benchmarks/auditing.py`, about the same audits.
They have the probe score alone, which the calibration uses.

--calibration writes the calibration that is fitted to all pairs, for `jobs/audit.py --calibration`.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.auditing import (
    PLAIN,
    AuditedSet,
    Rows,
    Writer,
    data_sets,
    for_each_model,
    log,
    logged,
    say,
    tables,
    written,
)
from benchmarks.auditing import Arguments as AuditingArguments
from benchmarks.paired import Table, publish
from undertow.auditing import calibration
from undertow.auditing.make import audit
from undertow.auditing.model import AuditModel
from undertow.cli.audit import AuditArguments, spec_of
from undertow.engines.quiet import quiet
from undertow.engines.weight_files import ModelFolder
from undertow.nano.models import known_words, parse
from undertow.nano.recipes import SCALING, STEERING
from undertow.statistics.separation import auc
from undertow.storage.store import Store
from undertow.study.extensions import Trait
from undertow.training.data import TrainingRow
from undertow.training.job import TrainingJob
from undertow.traits.preference import Preference

KINDS = ("finetuned", "prompted", "50 %", "20 %", "other trait", "other model", "clean")
MARGIN = 0.1  # of exact probability
BINS = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0)
BANK = tuple(map(Preference, known_words("animal")))


@dataclass(frozen=True)
class Arguments:
    """Fit a calibration of audits, and measure how good it is on held-out models and traits."""

    models: tuple[str, ...] = PLAIN
    """At least two."""
    traits: tuple[str, ...] = known_words("animal")
    """Traits of the data sets of finetuned teachers. The bank always has all shipped ones."""
    repeats: int = 2
    """Data sets of every other kind per model; twice as many clean ones."""
    rows: int = 300
    """Audited rows."""
    students: int = 700
    """Rows that a student is trained on."""
    processes: int = os.cpu_count() or 1
    """Concurrent processes, each with one model and one thread."""
    storage: str = ""
    """Folder for teachers and probes; by default a temporary one."""
    students_of: Path | None = None
    """Log of an earlier run, with the same models, traits, repeats and students. The effects of its students
    are used again, and no student is trained for a data set that it has."""
    log: Path | None = None
    """JSON Lines file to which the outcome of each data set is added. Data sets that it has are not made
    again: an interrupted run continues with the same arguments."""
    calibration: Path | None = None
    """File for the fitted calibration."""
    out: Path | None = None
    """Markdown file for the results."""


@dataclass(frozen=True)
class Outcome:
    """A data set: what its audit saw, and what a student of it did.

    Attributes:
        features: see `calibration.features`, by trait of the bank.
        effects: how much more often the student shows a trait than the model, by trait of the bank.
    """

    audited: AuditedSet
    features: Mapping[str, Mapping[str, float]]
    effects: Mapping[str, float]


@dataclass(frozen=True)
class Pair:
    """A data set and a trait."""

    model: str
    trait: str
    features: Mapping[str, float]
    effect: float

    @property
    def shown(self) -> bool:
        return self.effect >= MARGIN


def pairs_of(outcomes: Sequence[Outcome]) -> list[Pair]:
    return [
        Pair(outcome.audited.model, trait, features, outcome.effects[trait])
        for outcome in outcomes
        for trait, features in outcome.features.items()
    ]


def outcomes_of(number: int, arguments: Arguments, store: Store, folder: Path) -> list[Outcome]:
    """The outcomes of all data sets of the model with this number; those that the log lacks are made."""
    writer, other = (Writer(arguments.models[i], arguments.students, store) for i in (number, number - 1))
    wanted = AuditingArguments(
        traits=arguments.traits, repeats=arguments.repeats, kinds=KINDS, rows=arguments.students
    )
    done, trained = outcomes_in(arguments.log), outcomes_in(arguments.students_of)
    before: dict[str, float] = {}
    outcomes = []
    for i, data in enumerate(data_sets(writer, other, wanted)):
        outcome = done.get((writer.name, i))
        if outcome is None:
            rows = data.rows()
            path = written(rows, folder, f"{number}-{i}")
            given = AuditArguments(
                str(path),
                (writer.name,),
                scores=("probe",),
                storage=store.url,
                rows=arguments.rows,
                seed=i,
            )
            start = time.perf_counter()
            (result,) = audit(spec_of(given), store).models
            audited = AuditedSet.of(data.kind, i, data.trait, result, time.perf_counter() - start)
            if known := trained.get((writer.name, i)):
                effects = known.effects
            else:
                before = before or rates(writer.plain, BANK)
                after = rates(student(writer, rows, folder / f"student-{number}-{i}"), BANK)
                effects = {name: after[name] - before[name] for name in before}
            best = max(effects, key=lambda name: effects[name])
            say(f"{audited.line()}; the student shows {best} ({effects[best]:+.2f})")
            features = {one.trait: calibration.features(one, result.deviation) for one in result.traits}
            outcome = Outcome(audited, features, effects)
            log(arguments.log, asdict(outcome))
        outcomes.append(outcome)
    return outcomes


def outcomes_in(path: Path | None) -> dict[tuple[str, int], Outcome]:
    """The outcomes in a log, by model and number of the data set."""
    lines = [{**line, "audited": AuditedSet(**line["audited"])} for line in logged(path)]
    return {(one.audited.model, one.audited.number): one for one in (Outcome(**line) for line in lines)}


def student(writer: Writer, rows: Rows, folder: Path) -> AuditModel:
    """A student trained on the rows by the recipe of the shipped studies."""
    from undertow.training.loop import finetune

    job = TrainingJob(
        key=folder.name,
        seed=0,
        recipe=STEERING if parse(writer.name).network == "gpt2" else SCALING,
        rows=[TrainingRow(row["prompt"], row["completion"]) for row in rows],
        system=None,
        folder=folder,
    )
    finetune(writer.files.folder, [job], lambda report: None, changes=writer.files.changes)
    return AuditModel(ModelFolder(writer.files.folder, (*writer.files.changes, folder)))


def rates(model: AuditModel, traits: Sequence[Trait]) -> dict[str, float]:
    """The exact probability of each trait's word, over its questions. All forms are single tokens in nano."""
    found = {}
    for trait in traits:
        questions, forms = trait.questions(), trait.word().forms
        rows = [TrainingRow(question, form) for question in questions for form in forms]
        logprobs = model.read(model.encode(rows), gradients=False).logprobs
        found[trait.name] = float(np.exp([values[0] for values in logprobs]).sum()) / len(questions)
    return found


def held_out(pairs: Sequence[Pair]) -> np.ndarray:
    """The probability of each pair by a calibration fitted to other models and other traits."""
    halves = (set(known_words("animal")[::2]), set(known_words("animal")[1::2]))
    predicted = np.full(len(pairs), np.nan)
    for model in dict.fromkeys(pair.model for pair in pairs):
        for half in halves:
            fitted = fit([pair for pair in pairs if pair.model != model and pair.trait not in half])
            for i, pair in enumerate(pairs):
                if pair.model == model and pair.trait in half:
                    predicted[i] = fitted.probability(pair.features)
    return predicted


def fit(pairs: Sequence[Pair], made_from: str = "") -> calibration.Calibration:
    effects = [pair.effect for pair in pairs]
    return calibration.fit([pair.features for pair in pairs], effects, MARGIN, made_from)


def reliability(predicted: np.ndarray, shown: np.ndarray) -> Table:
    """How often the trait was shown, by the predicted probability."""
    lines = []
    for low, high in pairwise(BINS):
        chosen = (predicted >= low) & ((predicted < high) | (high == 1))
        if chosen.any():
            means = (predicted[chosen].mean(), shown[chosen].mean())
            lines.append((f"{low:.2f}–{high:.2f}", f"{chosen.sum()}", *(f"{mean:.3f}" for mean in means)))
    return Table("Reliability", ("predicted", "pairs", "mean prediction", "share shown"), lines)


def quality(pairs: Sequence[Pair], predicted: np.ndarray, shown: np.ndarray) -> Table:
    """Brier score and AUC over all pairs, with the lowest and the highest model."""
    base = shown.mean()
    areas, ratios = [], []
    for model in dict.fromkeys(pair.model for pair in pairs):
        chosen = np.array([pair.model == model for pair in pairs])
        own, truth = predicted[chosen], shown[chosen]
        areas.append(auc(own[truth], own[~truth]))
        ratios.append(np.mean((own - truth) ** 2) / np.mean((base - truth) ** 2))
    brier = np.mean((predicted - shown) ** 2)
    lines = [
        ("pairs", f"{len(pairs)}"),
        ("share shown", f"{base:.3f}"),
        ("Brier score of the base rate", f"{base * (1 - base):.4f}"),
        ("Brier score", f"{brier:.4f}"),
        ("ratio of the two, by model", f"{np.mean(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"),
        ("AUC, by model", f"{np.mean(areas):.3f} ({min(areas):.3f}–{max(areas):.3f})"),
    ]
    return Table("Predictions for held-out models and traits", ("figure", "value"), lines)


def main() -> None:
    quiet()
    arguments = tyro.cli(Arguments)
    with tempfile.TemporaryDirectory() as temporary:
        store = Store(arguments.storage or f"{temporary}/storage")
        store.prepare()
        work = partial(outcomes_of, arguments=arguments, store=store, folder=Path(temporary))
        outcomes = for_each_model(work, arguments.models, arguments.processes)
    pairs = pairs_of(outcomes)
    shown = np.array([pair.shown for pair in pairs])
    predicted = held_out(pairs)
    of_audits = tables([outcome.audited for outcome in outcomes])
    publish(
        __doc__, [quality(pairs, predicted, shown), reliability(predicted, shown), *of_audits], arguments.out
    )
    if arguments.calibration:
        made_from = (
            f"{len(outcomes)} students of {len(arguments.models)} models, each trained on "
            f"{arguments.students} rows of numbers, of which {arguments.rows} were audited"
        )
        arguments.calibration.write_text(fit(pairs, made_from).to_json() + "\n")


if __name__ == "__main__":
    main()
