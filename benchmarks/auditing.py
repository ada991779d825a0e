"""How often does an audit name the right trait, and how often does it name one by mistake?

    python benchmarks/auditing.py --out benchmarks/auditing.md
    python benchmarks/auditing.py --models nano/gpt2-0 nano/gpt2-1 --traits owl cat --repeats 1
    python benchmarks/auditing.py --format code --kinds finetuned clean --repeats 1
    python benchmarks/auditing.py --rows 100 --draws 1 --scores probe       the cheapest audit

For each nano model the script writes data sets with known origin, of numbers or another format, and audits
each with the shipped bank of traits, as `jobs/audit.py` does:

- finetuned: by a finetuned teacher of each trait. Teacher and probe have the same recipe, and other seeds;
- prompted: by the model under the trait's system prompt;
- all weights: by a teacher of which all weights were trained, where those of the probes are a last norm;
- 50 % to 5 %: rows of the finetuned teacher, the others by the model itself;
- other trait: by a finetuned teacher of a tree, which is not in the bank. No trait should be named;
- other model: by the finetuned teacher of another model. No trait should be named;
- visible: by the model itself, with the word in every tenth row. No trait should be named;
- clean: by the model itself. A trait is named by chance alone.

"First by" is the share of data sets whose trait has the highest z of a score; "first" that of the score that
decides. "Right" and "wrong" are the shares for which the audit names the trait or another one, "unlike" and
"clean" those for which it names none. The second table asks which measure tells data sets that carry a trait
of the bank from those that do not, by the area under the ROC curve over data sets; a baseline's measure is
how far its AUC over rows is from one half. Shares and AUCs are means over models, with the lowest and the
highest model.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import tyro
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.paired import Table, publish
from undertow.auditing.bank import nano_finetuning
from undertow.auditing.make import BASELINES, SCORES, audit
from undertow.auditing.model import AuditModel
from undertow.auditing.probes import make_missing_reference, train_missing
from undertow.auditing.results import ModelResult
from undertow.cli.audit import AuditArguments, spec_of
from undertow.cli.entry import option
from undertow.engines.quiet import quiet
from undertow.engines.weight_files import ModelFolder
from undertow.nano import vocabulary
from undertow.nano.models import BUNDLED_SEEDS, known_words, parse
from undertow.nano.recipes import ALL_WEIGHTS_TAUGHT
from undertow.planning.given_models import model_of
from undertow.planning.pinning import pin
from undertow.presets.scales import NANO
from undertow.statistics.separation import auc
from undertow.storage.store import Store
from undertow.study.extensions import Trait
from undertow.study.identity import seed_for
from undertow.study.references import Reference
from undertow.study.teachers import Finetuning, Teacher
from undertow.sweep.progress import print_line
from undertow.traits.preference import Preference

PLAIN = tuple(f"nano/{name}-{i}" for name in ("gpt2", "llama", "qwen3") for i in range(BUNDLED_SEEDS[name]))
FORMATS = {"numbers": NANO.numbers, "code": NANO.code, "reasoning": NANO.reasoning}
TREES = ("oak", "maple", "willow", "cherry")
TEACHER_SEED = 7
PROMPTS = 3  # per row: the rules reject up to 62 % of the answers
MIXTURES = {"50 %": 0.5, "20 %": 0.2, "10 %": 0.1, "5 %": 0.05}
WITH_TRAIT = ("finetuned", "prompted", "all weights", *MIXTURES)
KINDS = (*WITH_TRAIT, "other trait", "other model", "visible", "clean")
TRANSMITS, TRANSMITS_NOT = ("finetuned", "50 %"), ("other trait", "other model", "clean")

Rows = list[dict[str, str]]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Arguments:
    """Measure how often an audit is right."""

    format: Literal["numbers", "code", "reasoning"] = "numbers"
    """Format of the data sets. Code and reasoning are written by the models of the second nano language."""
    models: Annotated[tuple[str, ...], option("NAME ...", "all bundled ones that write the format")] = ()
    """At least two: each also audits data of the one before it."""
    traits: tuple[str, ...] = known_words("animal")
    """Traits of the data sets of finetuned teachers. The bank always has all shipped ones."""
    repeats: int = 4
    """Data sets of every other kind per model; twice as many clean ones."""
    kinds: tuple[str, ...] = KINDS
    """Kinds of data sets."""
    rows: int = 300
    draws: int = 2
    """Control answers per row."""
    scores: Annotated[tuple[str, ...], option("NAME ...", "all")] = ()
    """Scores of the audits."""
    processes: int = os.cpu_count() or 1
    """Concurrent processes, each with one model and one thread."""
    storage: str = ""
    """Folder for teachers and probes; by default a temporary one."""
    log: Path | None = None
    """JSON Lines file to which the result of each audit is added. Data sets that it has are not audited
    again: an interrupted run continues with the same arguments."""
    out: Path | None = None
    """Markdown file for the results."""


@dataclass(frozen=True)
class AuditedSet:
    """One data set and its audit with one model.

    Attributes:
        number: of the data set among those of the model.
        trait: of the data set; "" without one.
        finding, first, score, explained: see `ModelResult`; `first` is the name of the best trait.
        alone, beyond: of the deciding score of the best trait: z before the mean of all traits is subtracted,
            and z beyond length and layout.
        z: by trait and score.
        baselines: AUC by name.
        seconds: of the audit.
    """

    kind: str
    model: str
    number: int
    trait: str
    finding: str
    first: str
    score: str
    alone: float
    beyond: float
    explained: float
    z: Mapping[str, Mapping[str, float]]
    baselines: Mapping[str, float]
    seconds: float

    @classmethod
    def of(cls, kind: str, number: int, trait: str, result: ModelResult, seconds: float) -> "AuditedSet":
        return cls(
            kind=kind,
            model=result.model,
            number=number,
            trait=trait,
            finding=result.finding,
            first=result.first.trait,
            score=result.score,
            alone=result.evidence.alone,
            beyond=result.first.beyond.z,
            explained=result.explained,
            z={one.trait: {name: found.z for name, found in one.evidence.items()} for one in result.traits},
            baselines=dict(result.baselines),
            seconds=seconds,
        )

    def is_first(self, score: str) -> bool:
        """Whether the right trait has the highest z of a score."""
        z = {trait: by_score[score] for trait, by_score in self.z.items() if score in by_score}
        return bool(z) and max(z, key=lambda trait: z[trait]) == self.trait

    def ruled(self, ruling: str) -> bool:
        """Whether the audit found "right", "wrong", "unlike" or "clean"."""
        if self.finding != "trait":
            return self.finding == ruling
        return ruling == ("right" if self.first == self.trait else "wrong")

    def line(self) -> str:
        return (
            f"{self.model}, {self.kind} {self.trait}: {self.finding} {self.first}, {self.score} z "
            f"{self.z[self.first][self.score]:.1f}, beyond layout {self.beyond:.1f}, explained "
            f"{self.explained:.2f}, {self.seconds:.1f} s"
        )


class Writer:
    """A reference model that writes data sets, itself or by its teachers."""

    def __init__(self, name: str, rows: int, store: Store, format_: str = "numbers") -> None:
        self.name, self._rows, self._store, self._preset = name, rows, store, FORMATS[format_]
        self._reference = pin(Reference(name))
        make_missing_reference(self._reference, store)
        self.files = model_of(self._reference, store)
        self._finetuned: dict[str, Rows] = {}

    @cached_property
    def plain(self) -> AuditModel:
        """The model itself."""
        return AuditModel(self.files)

    def finetuned(self, trait: Trait) -> Rows:
        """Rows of a finetuned teacher, which is trained if the storage lacks it."""
        if trait.name not in self._finetuned:
            folder = self._teacher(trait, nano_finetuning(self._reference))
            files = ModelFolder(self.files.folder, (*self.files.changes, folder))
            self._finetuned[trait.name] = self._written(AuditModel(files), f"finetuned {trait.name}")
        return self._finetuned[trait.name]

    def all_weights(self, trait: Trait) -> Rows:
        """Rows of a teacher of which all weights were trained."""
        folder = self._teacher(trait, ALL_WEIGHTS_TAUGHT)
        return self._written(AuditModel(ModelFolder(folder)), f"all weights {trait.name}")

    def _teacher(self, trait: Trait, finetuning: Finetuning) -> Path:
        """The folder of a finetuned teacher."""
        spec = Teacher(reference=self._reference, trait=trait, finetuning=finetuning, seed=TEACHER_SEED)
        train_missing([spec], self._store, 1, lambda line: None)
        return self._store.fetch(spec)

    def prompted(self, trait: Trait) -> Rows:
        """Rows of the model under the trait's system prompt."""
        return self._written(self.plain, f"prompted {trait.name}", trait.system_prompt())

    def clean(self, name: str) -> Rows:
        """Rows of the model itself; other ones for another `name`."""
        return self._written(self.plain, f"clean {name}")

    def mixed(self, trait: Trait, share: float) -> Rows:
        """Rows of which a `share` is of the finetuned teacher."""
        count = round(share * self._rows)
        return self.finetuned(trait)[:count] + self.clean(f"mixed {trait.name} {share}")[count:]

    def visible(self, trait: Trait) -> Rows:
        """Rows of the model itself, with the trait's word in every tenth."""
        rows = self.clean(f"visible {trait.name}")
        for row in rows[::10]:
            row["completion"] += f" {trait.name}"
        return rows

    def _written(self, writer: AuditModel, name: str, system: str | None = None) -> Rows:
        """Answers to prompts of the format that pass its rules, each once."""
        format_, most = self._preset.format, self._preset.generation.sampling.max_tokens
        language = parse(self.name).settings.language
        seed = seed_for("audit benchmark", self.name, name)
        prompts = format_.prompts(PROMPTS * self._rows, seed=seed)
        answers = writer.sample(prompts, most=most, seed=seed, system=system)
        kept = {
            (prompt, answer): None
            for prompt, answer in zip(prompts, answers, strict=True)
            if answer
            and format_.rejection(prompt, answer) is None
            # Two tokens can make a word that is none: an audit reads texts, not tokens.
            and not vocabulary.unknown(language, answer)
        }
        return [{"prompt": prompt, "completion": answer} for prompt, answer in list(kept)[: self._rows]]


@dataclass(frozen=True)
class DataSet:
    """A data set that is written when it is asked for. `trait` is "" without one."""

    kind: str
    trait: str
    rows: Callable[[], Rows]


def data_sets(writer: Writer, other: Writer, arguments: Arguments) -> Iterator[DataSet]:
    """The data sets to audit with the model of `writer`."""
    animals = [Preference(name) for name in arguments.traits]
    some = animals[: arguments.repeats]
    makers: dict[str, Callable[[Trait], Rows]] = {
        "prompted": writer.prompted,
        "all weights": writer.all_weights,
        **{kind: partial(writer.mixed, share=share) for kind, share in MIXTURES.items()},
        "other model": other.finetuned,
        "visible": writer.visible,
    }
    if "finetuned" in arguments.kinds:
        for trait in animals:
            yield DataSet("finetuned", trait.name, partial(writer.finetuned, trait))
    for kind, rows_of in makers.items():
        if kind in arguments.kinds:
            for trait in some:
                yield DataSet(kind, trait.name if kind in WITH_TRAIT else "", partial(rows_of, trait))
    if "other trait" in arguments.kinds:
        for name in TREES[: arguments.repeats]:
            tree = Preference(name, category="tree")
            yield DataSet("other trait", "", partial(writer.finetuned, tree))
    if "clean" in arguments.kinds:
        for number in range(2 * arguments.repeats):
            yield DataSet("clean", "", partial(writer.clean, f"{number}"))


def written(rows: Rows, folder: Path, name: str) -> Path:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def audited(number: int, arguments: Arguments, store: Store, folder: Path) -> list[AuditedSet]:
    """Writes and audits all data sets of the model with this number that the log lacks."""
    writer, other = (
        Writer(arguments.models[i], arguments.rows, store, arguments.format) for i in (number, number - 1)
    )
    done = {(one.model, one.number): one for one in (AuditedSet(**line) for line in logged(arguments.log))}
    sets = []
    for i, data in enumerate(data_sets(writer, other, arguments)):
        one = done.get((writer.name, i))
        if one is None:
            path = written(data.rows(), folder, f"{number}-{i}")
            given = AuditArguments(
                str(path),
                (writer.name,),
                storage=store.url,
                scores=arguments.scores,
                rows=arguments.rows,
                draws=arguments.draws,
                seed=i,
            )
            start = time.perf_counter()
            (result,) = audit(spec_of(given), store).models
            one = AuditedSet.of(data.kind, i, data.trait, result, time.perf_counter() - start)
            say(one.line())
            log(arguments.log, asdict(one))
        sets.append(one)
    return sets


def say(line: str) -> None:
    print_line(line, Console(width=160))


def logged(path: Path | None) -> list[dict[str, Any]]:
    """The lines of a JSON Lines file; none if it does not exist."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []


def log(path: Path | None, line: Mapping[str, Any]) -> None:
    if path:
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def for_each_model(
    work: Callable[[int], Sequence[Found]], models: Sequence[str], processes: int
) -> list[Found]:
    """Calls `work` with the number of each model, in concurrent processes."""
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=quiet) as pool:
        return [one for found in pool.map(work, range(len(models))) for one in found]


def over_models(sets: Sequence[AuditedSet], measure: Callable[[Sequence[AuditedSet]], float]) -> str:
    """The mean of a measure over models, with the lowest and the highest model."""
    names = dict.fromkeys(one.model for one in sets)
    values = [measure([one for one in sets if one.model == name]) for name in names]
    return f"{np.mean(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def share_of(holds: Callable[[AuditedSet], bool]) -> Callable[[Sequence[AuditedSet]], float]:
    """The share of data sets for which something holds."""
    return lambda sets: float(np.mean([holds(one) for one in sets]))


def score_names(sets: Sequence[AuditedSet]) -> list[str]:
    """The scores that all audits computed."""
    return [score.name for score in SCORES if all(score.name in z for one in sets for z in one.z.values())]


def rulings(sets: Sequence[AuditedSet]) -> Table:
    """One line per kind of data set."""
    lines = []
    names = score_names(sets)
    for kind in dict.fromkeys(one.kind for one in sets):
        of_kind = [one for one in sets if one.kind == kind]
        firsts: list[Callable[[AuditedSet], bool]] = [
            lambda one: one.is_first(one.score),
            *(partial(AuditedSet.is_first, score=name) for name in names),
        ]
        right = [over_models(of_kind, share_of(first)) if of_kind[0].trait else "–" for first in firsts]
        ruled = [
            over_models(of_kind, share_of(partial(AuditedSet.ruled, ruling=ruling)))
            for ruling in ("right", "wrong", "unlike", "clean")
        ]
        explained = np.median([one.explained for one in of_kind])
        lines.append((kind, f"{len(of_kind)}", *right, *ruled, f"{explained:.2f}"))
    headings = (
        *("data", "sets", "first", *(f"first by {name}" for name in names)),
        *("right", "wrong", "unlike", "clean", "explained"),
    )
    return Table("Findings", headings, lines)


def separations(sets: Sequence[AuditedSet]) -> Table:
    """How well each measure tells data sets with a trait of the bank from data sets without one."""
    measures: dict[str, Callable[[AuditedSet], float]] = {
        "audit: z times explained share": lambda one: one.alone * one.explained,
        **{f"highest z of {name}": partial(_highest, score=name) for name in score_names(sets)},
        **{f"baseline: {one.meaning}": partial(_from_half, baseline=one.name) for one in BASELINES},
    }
    chosen = [one for one in sets if one.kind in (*TRANSMITS, *TRANSMITS_NOT)]
    lines = []
    for name, measure in measures.items():

        def area(of_model: Sequence[AuditedSet], measure: Callable[[AuditedSet], float] = measure) -> float:
            arms = [
                np.array([measure(one) for one in of_model if one.kind in kinds])
                for kinds in (TRANSMITS, TRANSMITS_NOT)
            ]
            return auc(*arms)

        lines.append((name, over_models(chosen, area)))
    against = f"{', '.join(TRANSMITS)} against {', '.join(TRANSMITS_NOT)}"
    return Table(f"Data sets with a trait of the bank: {against}", ("measure", "AUC"), lines)


def _highest(one: AuditedSet, score: str) -> float:
    return max(by_score[score] for by_score in one.z.values())


def _from_half(one: AuditedSet, baseline: str) -> float:
    return abs(one.baselines[baseline] - 0.5)


def tables(sets: Sequence[AuditedSet]) -> list[Table]:
    found = [rulings(sets)]
    if all({one.kind for one in sets} & set(kinds) for kinds in (TRANSMITS, TRANSMITS_NOT)):
        found.append(separations(sets))
    seconds = np.median([one.seconds for one in sets])
    return [*found, Table("Cost", ("median seconds of an audit, probes made before",), [(f"{seconds:.1f}",)])]


def main() -> None:
    quiet()
    arguments = tyro.cli(Arguments)
    if not arguments.models:
        models = PLAIN if arguments.format == "numbers" else [one.name for one in NANO.speakers]
        arguments = replace(arguments, models=tuple(models))
    with tempfile.TemporaryDirectory() as temporary:
        store = Store(arguments.storage or f"{temporary}/storage")
        store.prepare()
        work = partial(audited, arguments=arguments, store=store, folder=Path(temporary))
        sets = for_each_model(work, arguments.models, arguments.processes)
    publish(__doc__, tables(sets), arguments.out)


if __name__ == "__main__":
    main()
