"""How often does an audit find the right trait, and how often does it raise a false alarm?

    python benchmarks/auditing.py --out benchmarks/auditing.md
    python benchmarks/auditing.py --models nano/gpt2-0 nano/gpt2-1 --traits owl cat --clean 4

For each nano model the script makes data sets of numbers with known origin and audits each with the shipped
bank of traits, as `jobs/audit.py` does:

- finetuned: by a finetuned teacher of each trait. Teacher and probe have the same recipe, and other seeds;
- prompted: by the model under the trait's system prompt;
- other trait: by a finetuned teacher of a tree, which is not in the bank. No trait should be reported;
- other model: by the finetuned teacher of another model. No trait should be reported;
- clean: by the model itself. A trait is reported by chance alone.

"First by" is the number of data sets whose trait is ranked first by a score alone; "reported" the number with
an adjusted p-value of the main score below .05; "signature" the number that are also more likely under the
probe than under the model, which is what the conclusion calls a signature.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.paired import Table, publish
from undertow.auditing.bank import nano_finetuning
from undertow.auditing.make import SCORES, audit
from undertow.auditing.model import AuditModel
from undertow.auditing.probes import make_missing_reference, train_missing
from undertow.auditing.results import Audit
from undertow.cli.audit import AuditArguments, spec_of
from undertow.engines.quiet import quiet
from undertow.engines.weight_files import ModelFolder
from undertow.formats.numbers import Numbers
from undertow.nano.models import known_words
from undertow.planning.pinning import model_of, pin
from undertow.storage.store import Store
from undertow.study.artifacts import Reference, Teacher
from undertow.study.extensions import Trait
from undertow.study.identity import seed_for
from undertow.sweep.progress import print_line
from undertow.traits.preference import Preference

MODELS = tuple(f"nano/gpt2-{seed}" for seed in range(4))
OTHER = Preference("oak", category="tree")
TEACHER_SEED = 7
KINDS = ("finetuned", "prompted", "other trait", "other model", "clean")


@dataclass(frozen=True)
class Arguments:
    """Measure how often an audit is right."""

    models: tuple[str, ...] = MODELS
    """At least two: each also audits data of the one before it."""
    traits: tuple[str, ...] = known_words("animal")
    """Traits of the data sets. The bank always has all shipped ones."""
    clean: int = 12
    """Clean data sets per model."""
    rows: int = 300
    storage: str = ""
    """Folder for teachers and probes; by default a temporary one."""
    out: Path | None = None
    """Markdown file for the results."""


@dataclass(frozen=True)
class AuditedSet:
    """One data set: how it was made, its trait ("" for none in the bank), and its audit."""

    kind: str
    trait: str
    found: Audit


class Maker:
    """Makes and audits the data sets of one model."""

    def __init__(self, name: str, arguments: Arguments, store: Store, folder: Path) -> None:
        self.name, self.arguments, self.store, self.folder = name, arguments, store, folder
        self.reference = pin(Reference(name))
        make_missing_reference(self.reference, store)
        self.files = model_of(self.reference, store)

    def teacher(self, trait: Trait) -> AuditModel:
        """A finetuned teacher, trained if the storage lacks it."""
        spec = Teacher(
            reference=self.reference,
            trait=trait,
            finetuning=nano_finetuning(self.reference),
            seed=TEACHER_SEED,
        )
        train_missing([spec], self.store, 1, lambda line: None)
        return AuditModel(ModelFolder(self.files.folder, (*self.files.changes, self.store.fetch(spec))))

    def written(self, writer: AuditModel, name: str, system: str | None = None) -> Path:
        """A file of a model's answers to numbers prompts that pass the rules."""
        seed = seed_for("benchmark", self.name, name)
        prompts = Numbers().prompts(4 * self.arguments.rows, seed=seed)
        answers = writer.sample(prompts, most=32, seed=seed, system=system)
        kept = [
            {"prompt": prompt, "completion": answer}
            for prompt, answer in zip(prompts, answers, strict=True)
            if answer and Numbers().rejection(prompt, answer) is None
        ]
        path = self.folder / f"{seed}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in kept[: self.arguments.rows]))
        return path

    def audited(self, path: Path, number: int) -> Audit:
        arguments = AuditArguments(
            str(path), (self.name,), storage=self.store.url, rows=self.arguments.rows, seed=number
        )
        return audit(spec_of(arguments), self.store)

    def sets(self, other: "Maker") -> Iterator[AuditedSet]:
        """All data sets of this model; those of another model are written by a teacher of `other`."""
        plain = AuditModel(self.files)
        for number, name in enumerate(self.arguments.traits):
            trait = Preference(name)
            path = self.written(self.teacher(trait), f"finetuned {name}")
            yield AuditedSet("finetuned", name, self.audited(path, number))
            path = self.written(plain, f"prompted {name}", trait.system_prompt())
            yield AuditedSet("prompted", name, self.audited(path, number))
            path = self.written(other.teacher(trait), f"other model {name}")
            yield AuditedSet("other model", "", self.audited(path, number))
        yield AuditedSet("other trait", "", self.audited(self.written(self.teacher(OTHER), "oak"), 0))
        for number in range(self.arguments.clean):
            yield AuditedSet("clean", "", self.audited(self.written(plain, f"clean {number}"), number))


def summary(kind: str, sets: Sequence[AuditedSet]) -> tuple[str, ...]:
    """The line of one kind of data set."""
    models = [one.found.models[0] for one in sets]
    first = []
    for score in SCORES:
        ranked = [
            max(model.traits, key=lambda result: result.evidence[score.name].z).trait for model in models
        ]
        is_right = [trait == one.trait for trait, one in zip(ranked, sets, strict=True)]
        first.append(f"{sum(is_right)}" if sets[0].trait else "–")
    reported = [model.traits[0].p_adjusted < sets[0].found.alpha for model in models]
    positive = [model.traits[0].evidence[SCORES[0].name].mean > 0 for model in models]
    signature = [one and other for one, other in zip(reported, positive, strict=True)]
    z = np.median([model.traits[0].evidence[SCORES[0].name].z for model in models])
    loss = np.median([(model.baselines or {})["mean_loss"] for model in models])
    words = np.median([(model.baselines or {})["unit_frequencies"] for model in models])
    return (
        kind,
        f"{len(sets)}",
        *first,
        f"{sum(reported)}",
        f"{sum(signature)}",
        f"{z:.1f}",
        f"{loss:.2f}",
        f"{words:.2f}",
    )


def main() -> None:
    quiet()
    arguments = tyro.cli(Arguments)
    console = Console(width=160)
    found: list[AuditedSet] = []
    with tempfile.TemporaryDirectory() as temporary:
        store = Store(arguments.storage or f"{temporary}/storage")
        store.prepare()
        makers = [Maker(name, arguments, store, Path(temporary)) for name in arguments.models]
        say = partial(print_line, console=console)
        for number, maker in enumerate(makers):
            for one in maker.sets(makers[number - 1]):
                top = one.found.models[0].traits[0]
                main_score = top.evidence[SCORES[0].name]
                label = f"{maker.name}, {one.kind} {one.trait}".strip()
                say(
                    f"{label}: first {top.trait}, z {main_score.z:.1f}, {main_score.mean:+.2f} nats per row, "
                    f"adjusted p {top.p_adjusted:.2g}"
                )
                found.append(one)
    lines = [summary(kind, sets) for kind in KINDS if (sets := [one for one in found if one.kind == kind])]
    headings = (
        *("data", "sets", *(f"first by {score.heading}" for score in SCORES)),
        *("reported", "signature", "median z", "loss AUC", "numbers AUC"),
    )
    title = f"{len(arguments.models)} models, {arguments.rows} rows"
    publish(__doc__, [Table(title, headings, lines)], arguments.out)


if __name__ == "__main__":
    main()
