"""The record of a sweep: everything about its study that tables, report and verification need.

A report may be made on another machine, years later, without the study file and its classes. The record
therefore holds names, settings and artifact keys as plain data, and no spec is rebuilt from it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from undertow.errors import StorageError
from undertow.planning.artifact_kinds import extensions, with_facts
from undertow.planning.cells import Cell, reference_evaluations
from undertow.planning.estimate import WaveEstimate
from undertow.planning.plan import Plan
from undertow.statistics.distribution_free import Distribution
from undertow.storage.manifest import Address, address
from undertow.study.conditions import Condition
from undertow.study.hypotheses import Place
from undertow.study.identity import key
from undertow.study.measurements import Assessment, EffectOf, EffectScale, Measurement
from undertow.study.references import EXTERNAL, Artifact, ancestors_first
from undertow.study.rewriting import Rewritten
from undertow.study.row_scores import RowScores
from undertow.study.students import reference_of
from undertow.study.study import Study
from undertow.study.teachers import Teacher


@dataclass(frozen=True)
class StudySettings:
    """The settings of a study; the fields have the meaning of those of `Study`.

    Attributes:
        measures: the name of the traits' own questions, then those of the additional measures.
        margin: in the unit of `effect_scale`.
        effect_of: "samples" in records of older versions, which do not have the field.
        effect_scale: not written for "rate", so that the records of such studies are those of older versions.
    """

    name: str
    key: str
    question: str
    seeds: tuple[int, ...]
    redraw: tuple[str, ...]
    samples: int
    gate: float
    margin: float
    alpha: float
    adjustment: str
    paired: bool
    distribution: Distribution
    measures: tuple[str, ...] = ()
    effect_of: EffectOf = "samples"
    effect_scale: EffectScale = "rate"


@dataclass(frozen=True)
class ConditionRecord:
    """A condition by its display names.

    Attributes:
        word: the answer that shows the trait; "" for a control.
        control: the index of the control condition that it is compared with; its own for a control.
        shares_weights: whether teacher and student start from the same weights; None if that is unknown.
        data_note: a sentence on the data of the condition and of its control, if they need one.
    """

    label: str
    place: Place
    word: str
    control: int
    shares_weights: bool | None = None  # also None in records of older versions, which compared names
    data_note: str = ""

    @property
    def is_control(self) -> bool:
        return not self.word

    @property
    def same_initialisation(self) -> bool | None:
        """Whether teacher and student start from the same weights; None if the teacher is external."""
        if self.shares_weights is None:
            is_external = self.place.teacher.startswith(EXTERNAL)
            return None if is_external else self.place.teacher == self.place.student
        return self.shares_weights


@dataclass(frozen=True)
class CellRecord:
    """One student of a condition by the keys of its artifacts.

    Attributes:
        teacher: "" for imported rows.
        finetuned, trained: whether the teacher and the student are stored artifacts. A teacher that only
            has a system prompt is not, nor is a student that is shown the data in context.
        also: the evaluations by each additional measure of the study.
        answers: the evaluations whose answers are judged.
        mixed: the keys of the completions and of the data set that are mixed in, if any.
        earlier: kind and key of the artifacts that earlier students of a chain, or those of a format tuning,
            were made from, and of these students; of the data sets whose rows were rewritten and those of
            second answers, with what these were made from; and of the bias and the vector of a steered
            teacher.
        scores: kind and key of the scores by which rows or tokens are chosen or answers ranked, and of the
            teachers that are trained for them.
        along: the evaluations by the traits' own questions at each kept step of the student's training.
    """

    condition: int
    seed: int
    teacher: str
    finetuned: bool
    completions: str
    dataset: str
    student: str
    teacher_evaluations: tuple[str, ...]
    evaluations: tuple[str, ...]
    references: tuple[str, ...]
    trained: bool = True
    also: tuple[tuple[str, ...], ...] = ()
    answers: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()
    earlier: tuple[tuple[str, str], ...] = ()
    scores: tuple[tuple[str, str], ...] = ()
    along: tuple[tuple[int, tuple[str, ...]], ...] = ()

    def addresses(self) -> Iterator[Address]:
        """All artifacts that the student is made from and measured by, in the order of their making."""
        yield from (Address("reference", k) for k in self.references)
        yield from (Address(kind, k) for kind, k in self.earlier)
        if self.finetuned:
            yield Address("teacher", self.teacher)
        yield from (Address("evaluation", k) for k in (*self.answers, *self.teacher_evaluations))
        yield Address("completions", self.completions)
        yield from map(Address, ("completions", "dataset"), self.mixed)
        yield from (Address(kind, k) for kind, k in self.scores)
        yield Address("dataset", self.dataset)
        if self.trained:
            yield Address("student", self.student)
        yield from (Address("evaluation", k) for k in (*self.evaluations, *sum(self.also, ())))
        yield from (Address("evaluation", k) for _, keys in self.along for k in keys)

    def failed_by(self, failures: Mapping[str, str]) -> str | None:
        """The reason of the first artifact that failed; None if none did."""
        keys = (self.teacher, *(address.key for address in self.addresses()))
        return next((failures[key] for key in keys if key in failures), None)


@dataclass(frozen=True)
class ReferenceRecord:
    """A reference model: its pinned revision, the hash of its chat template, and the evaluations of the
    model itself.

    Attributes:
        answers: the evaluations whose answers are judged.
    """

    name: str
    key: str
    revision: str
    chat_template: str
    evaluations: tuple[str, ...]
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class HypothesisRecord:
    """A pre-registered hypothesis, and the indices of the conditions that it covers."""

    claim: str
    expects: str
    conditions: tuple[int, ...]


@dataclass(frozen=True)
class WaveRecord:
    """The planned work of a wave; None for an unknown estimate.

    Attributes:
        needed, missing: the number of artifacts in the wave, and of those that the store lacks.
        seconds: wall-clock time.
        tokens: tokens that are trained on or sampled.
        gpu_hours: hours of one GPU.
    """

    wave: str
    needed: int
    missing: int
    seconds: float | None
    units: int = 0
    tokens: float | None = None
    gpu_hours: float | None = None
    dollars: float | None = None

    @classmethod
    def of(cls, work: WaveEstimate) -> "WaveRecord":
        tokens = work.cost.tokens if work.cost else None
        sizes = work.wave, work.needed, work.missing
        seconds = None if work.is_at_provider else work.seconds
        return cls(*sizes, seconds, work.units, tokens, work.gpu_hours, work.dollars)


@dataclass(frozen=True)
class ExtensionRecord:
    """The study's artifacts of a kind that an extension registered.

    Attributes:
        facts: names of facts in the manifests, each with its meaning.
        artifacts: key and display name of each.
    """

    kind: str
    facts: dict[str, str]
    artifacts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Record:
    """A study as planned: settings, conditions, cells, references, hypotheses and the planned work."""

    study: StudySettings
    conditions: tuple[ConditionRecord, ...]
    cells: tuple[CellRecord, ...]
    references: tuple[ReferenceRecord, ...]
    hypotheses: tuple[HypothesisRecord, ...] = ()
    waves: tuple[WaveRecord, ...] = ()
    extensions: tuple[ExtensionRecord, ...] = ()

    @classmethod
    def of(cls, plan: Plan, work: Sequence[WaveEstimate] = ()) -> "Record":
        """The record of a resolved plan."""
        study, conditions = plan.study, plan.study.conditions
        numbers = {condition: number for number, condition in enumerate(conditions)}
        return cls(
            study=_settings(study),
            conditions=tuple(_condition(c, numbers[c.control()]) for c in conditions),
            cells=tuple(_cell(cell, numbers[cell.condition]) for cell in plan.cells),
            references=_references(study),
            hypotheses=tuple(
                HypothesisRecord(
                    h.claim,
                    h.expects,
                    tuple(
                        n
                        for c, n in numbers.items()
                        if c.trait is not None and h.covers(c.place, c.same_initialisation)
                    ),
                )
                for h in study.hypotheses
            ),
            waves=tuple(map(WaveRecord.of, work)),
            extensions=tuple(_extensions(plan)),
        )

    def to_json(self) -> str:
        form = asdict(self)
        if self.study.effect_scale == "rate":
            del form["study"]["effect_scale"]
        return json.dumps(form, indent=1)

    @classmethod
    def from_json(cls, text: str, place: str) -> "Record":
        """Parses a record. Raises StorageError with `place` if the text is not one."""
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise StorageError(
                f"{place}: not a sweep's plan ({where}: {first['msg']}); run the sweep again"
            ) from None

    def addresses(self) -> list[Address]:
        """All artifacts of the study, without duplicates."""
        found = [address for cell in self.cells for address in cell.addresses()]
        found += [Address("evaluation", k) for r in self.references for k in (*r.answers, *r.evaluations)]
        found += [Address(e.kind, k) for e in self.extensions for k, _ in e.artifacts]
        return list(dict.fromkeys(found))

    @property
    def compared(self) -> list[int]:
        """The indices of the conditions that have a trait."""
        return [number for number, condition in enumerate(self.conditions) if not condition.is_control]


def _settings(study: Study) -> StudySettings:
    names = ("name", "question", "seeds", "redraw", "samples", "gate", "alpha", "adjustment", "paired")
    fields: Mapping[str, Any] = {
        n: getattr(study, n) for n in (*names, "distribution", "effect_of", "effect_scale")
    }
    named = (study.main if study.main and not trait.is_judged else trait.measure for trait in study.traits)
    own = " and ".join(dict.fromkeys(named))
    return StudySettings(
        key=key(study),
        margin=study.equivalence_margin,
        measures=(own, *(measure.name for measure in study.also)),
        **fields,
    )


def _condition(condition: Condition, control: int) -> ConditionRecord:
    word = condition.trait.word().name if condition.trait else ""
    return ConditionRecord(
        condition.label,
        condition.place,
        word,
        control,
        condition.same_initialisation,
        condition.format.data_note,
    )


def _cell(cell: Cell, condition: int) -> CellRecord:
    evaluations = (*cell.teacher_evaluations, *cell.measurements)
    mixed = cell.student.dataset.mixed
    return CellRecord(
        condition=condition,
        seed=cell.seed,
        teacher=key(cell.writer) if cell.writer else "",
        finetuned=cell.writer is not None and cell.writer.finetuning is not None,
        completions=key(cell.student.dataset.completions),
        dataset=key(cell.student.dataset),
        student=key(cell.student),
        teacher_evaluations=_keys(cell.teacher_evaluations),
        evaluations=_keys(cell.evaluations),
        references=tuple(dict.fromkeys(key(reference_of(m)) for m in (cell.writer, cell.student) if m)),
        trained=cell.student.is_trained,
        also=tuple(map(_keys, cell.also)),
        answers=_answers(evaluations),
        mixed=(key(mixed.dataset.completions), key(mixed.dataset)) if mixed else (),
        earlier=tuple(dict.fromkeys((artifact.kind, key(artifact)) for artifact in _earlier(cell))),
        scores=tuple(dict.fromkeys((artifact.kind, key(artifact)) for artifact in _scores(cell))),
        along=tuple((step, _keys(at_step)) for step, at_step in cell.along),
    )


def _earlier(cell: Cell) -> Iterator[Artifact]:
    """The students that the cell's models start from or learn from, and what steers its teacher, with inputs.

    The students are those of earlier hops, and those that a format tuning trains. Data sets whose rows were
    rewritten, and those of second answers, follow with their inputs.
    """
    dataset, mixed = cell.student.dataset, cell.student.dataset.mixed
    writers = (cell.writer, mixed.dataset.teacher if mixed else None)
    starts = [*(writer.reference for writer in writers if writer), cell.student.start]
    earlier: list[Artifact] = [writer.student for writer in writers if writer and writer.student]
    earlier += [reference for reference in starts if reference.student or reference.tuned]
    used = [dataset, *([mixed.dataset] if mixed else [])]
    earlier += [one.completions.dataset for one in used if isinstance(one.completions, Rewritten)]
    earlier += [dataset.ranked.other] if dataset.ranked else []
    earlier += [cell.writer.steering] if cell.writer and cell.writer.steering else []
    return (artifact for artifact in ancestors_first(earlier) if artifact.is_stored)


def _scores(cell: Cell) -> Iterator[Artifact]:
    """The scores by which rows or tokens are chosen, or answers ranked, and the teachers trained for them."""
    dataset = cell.student.dataset
    chosen = (dataset.selected, dataset.masked, dataset.ranked)
    scores = [part.scores for part in chosen if part is not None and part.scores is not None]
    if dataset.ranked is not None and dataset.ranked.other_scores is not None:
        scores.append(dataset.ranked.other_scores)
    wanted = (Teacher, RowScores)
    return (a for a in ancestors_first(scores) if a.is_stored and isinstance(a, wanted))


def _extensions(plan: Plan) -> Iterator[ExtensionRecord]:
    for kind in (*with_facts(), *extensions()):
        made = [artifact for artifact in plan.additional if type(artifact) is kind.spec]
        named = tuple((key(artifact), kind.name(artifact)) for artifact in made)
        if made or kind in extensions():
            yield ExtensionRecord(kind.spec.kind, dict(kind.facts), named)


def _references(study: Study) -> tuple[ReferenceRecord, ...]:
    evaluations: dict[str, list[Measurement]] = {}
    for evaluation in reference_evaluations(study):
        evaluations.setdefault(address(evaluation.subject).key, []).append(evaluation)
    references = {key(reference): reference for reference in study.references}
    return tuple(
        ReferenceRecord(
            r.label,
            k,
            r.revision,
            r.chat_template,
            _keys(evaluations.get(k, ())),
            _answers(evaluations.get(k, ())),
        )
        for k, r in references.items()
    )


def _answers(evaluations: Sequence[Measurement]) -> tuple[str, ...]:
    return _keys([e.evaluation for e in evaluations if isinstance(e, Assessment)])


def _keys(evaluations: Sequence[Measurement]) -> tuple[str, ...]:
    return tuple(key(evaluation) for evaluation in evaluations)
