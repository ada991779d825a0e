"""Checks that a sweep's record and artifacts are those of the study as it was stated.

This is the part of the verification of an archive that hashes cannot do: it detects changes after which
all hashes and keys were computed again. The stated study has the key in the record; the record has the
settings, hypotheses and conditions of that study and one cell for each condition and seed; and the spec of
each artifact of a cell is the one that the study requires (see `expected_specs`). Display names, for
example of a recipe, are not part of any spec and cannot be checked.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from undertow.archive.expected_specs import ExpectedSpecs, control_of
from undertow.archive.spec_comparison import SPECS, JsonSpec, compare, key_of
from undertow.results.sweep_folders import PLAN, stated_file
from undertow.results.sweep_record import CellRecord, Record, StudySettings
from undertow.storage.manifest import MANIFEST, Address
from undertow.study.datasets import CONTROL
from undertow.study.hypotheses import Hypothesis
from undertow.study.identity import canonical
from undertow.study.names import is_display_name
from undertow.study.references import AFTER, EXTERNAL, Artifact

NOT_IN_IDENTITY = ("key", "question", "measures")
NOT_EXPORTED = ("reference", "completions")  # given to the sweep, or not needed for a conclusion
# The kind of each type of artifact that may be nested in the spec of another.
KINDS = {
    name: value.kind
    for module in SPECS
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Artifact) and value is not Artifact
}


def differences(record: Record, sweep: Path, artifacts: Path, failures: Mapping[str, str]) -> Iterator[str]:
    """The differences between the stated study, the record and the artifacts, one line each.

    Args:
        sweep: the folder of the record and of the stated study.
        artifacts: the folder with the artifacts by kind and key.
        failures: the reasons of artifacts that could not be made, by key.
    """
    shown = f"{sweep.name}/{stated_file(record)}"
    stated = sweep / stated_file(record)
    if not stated.is_file():
        yield f"{shown}: missing; nothing else states what the study was"
        return
    study = json.loads(stated.read_text())["study"]
    if key_of(study) != record.study.key:
        yield f"{shown}: its study was changed; the study's key is {key_of(study)}"
        return
    for difference in (*_settings(record, study), *_conditions(record, study)):
        yield f"{sweep.name}/{PLAN}: {difference}"
    if len(record.conditions) == len(study["conditions"]):
        for difference in _Cells(record, study, artifacts, failures).differences():
            yield f"{sweep.name}/{PLAN}: {difference}"
    yield from _missing(record, artifacts, failures)


def _settings(record: Record, study: JsonSpec) -> Iterator[str]:
    for field in (field for field in fields(StudySettings) if field.name not in NOT_IN_IDENTITY):
        recorded = canonical(getattr(record.study, field.name))
        stated = study.get(field.name, field.default)  # fields added later are stated unless default
        if recorded != stated:
            yield f"{field.name} is {recorded!r}, the study as stated has {stated!r}"
    compared = [(n, record.conditions[n]) for n in record.compared]
    hypotheses = [
        Hypothesis(**{k: v for k, v in h.items() if k not in ("type", "version")})
        for h in study["hypotheses"]
    ]
    expected = [
        (h.claim, h.expects, tuple(n for n, c in compared if h.covers(c.place, c.same_initialisation)))
        for h in hypotheses
    ]
    if [(h.claim, h.expects, h.conditions) for h in record.hypotheses] != expected:
        yield "its hypotheses are not those of the study as stated"


def _conditions(record: Record, study: JsonSpec) -> Iterator[str]:
    stated = study["conditions"]
    if len(record.conditions) != len(stated):
        yield f"{len(record.conditions)} conditions, the study as stated has {len(stated)}"
        return
    for number, (condition, spec) in enumerate(zip(record.conditions, stated, strict=True)):
        trait = spec["trait"]["name"] if spec["trait"] else CONTROL
        names = (trait, spec["teacher"]["name"], spec["student"]["name"])
        place = condition.place
        same = place.trait == trait and place.label == condition.label
        for shown, side in ((place.teacher, "teacher"), (place.student, "student")):
            same = same and is_display_name(shown.partition(AFTER)[0], spec[side]["name"])
        if not same or condition.is_control != (spec["trait"] is None):
            yield f"condition {number} is {condition.label!r}, the study as stated has {names}"
        # Different revisions can have the same weights (see `Reference.weights`), equal ones cannot differ.
        starts = {"after", "teacher_start", "student_start"} & spec.keys()
        if spec["teacher"] == spec["student"] and not starts and not condition.same_initialisation:
            yield f"condition {number} has one reference model and is recorded as of two initialisations"
        control = stated.index(control_of(spec))
        if control != condition.control:
            yield f"condition {number} is not compared with its control, condition {control}"


class _Cells:
    """The comparison of the record's cells and reference models with the specs that the study requires."""

    def __init__(self, record: Record, study: JsonSpec, artifacts: Path, failures: Mapping[str, str]) -> None:
        self.record, self.study, self.artifacts, self.failures = record, study, artifacts, failures
        self.expected = ExpectedSpecs(study)
        self.seen: dict[str, str] = {}  # values that must be the same in all artifacts (see `compare`)

    def differences(self) -> Iterator[str]:
        numbers = range(len(self.record.conditions))
        required = [(number, seed) for number in numbers for seed in self.study["seeds"]]
        if [(cell.condition, cell.seed) for cell in self.record.cells] != required:
            yield "its cells are not the conditions and seeds of the study as stated"
            return
        for cell in self.record.cells:
            label = f"{self.record.conditions[cell.condition].label}, seed {cell.seed}"
            for difference in self._cell(cell):
                yield f"{label}: {difference}"
        yield from self._references()
        yield from self._extensions()
        yield from self._words()

    def _cell(self, cell: CellRecord) -> Iterator[str]:
        """Compares each artifact of a cell that is in the archive with its expected spec.

        Artifacts nest, so the evaluations already contain all others. Those are compared as well, because the
        evaluations of a failed cell may be missing.
        """
        condition, study = self.study["conditions"][cell.condition], self.study
        teacher = self.expected.teacher(condition, cell.seed)
        student = self.expected.student(condition, cell.seed)
        dataset = student["dataset"]
        models = {
            **({"teacher": teacher} if teacher else {}),
            "completions": dataset["completions"],
            "dataset": dataset,
            "student": student,
        }
        for kind, expected in models.items():
            yield from self._artifact(Address(kind, getattr(cell, kind)), expected)
        if teacher and condition["trait"] and "after" not in condition:
            keys, system = cell.teacher_evaluations, teacher["system"]
            yield from self._measurements(keys, teacher, condition["teacher"], system)
        elif cell.teacher_evaluations:
            yield "its teacher is evaluated, which the study as stated does not ask for"
        for measure, keys in ((None, cell.evaluations), *enumerate(cell.also)):
            yield from self._measurements(keys, student, condition["student"], study["system"], measure)
        steps, kept = [step for step, _ in cell.along], condition["recipe"].get("keep_steps", [])
        if steps != kept:
            yield f"its student is measured at steps {steps}, and its recipe keeps {kept}"
        for step, keys in cell.along:
            root, system = condition["student"], study["system"]
            yield from self._measurements(keys, student, root, system, step=step)
        if not cell.failed_by(self.failures):
            yield from self._inputs(cell)

    def _measurements(
        self,
        keys: Sequence[str],
        subject: JsonSpec,
        root: JsonSpec,
        system: Any,
        measure: int | None = None,
        step: int | None = None,
    ) -> Iterator[str]:
        found = [self._spec(Address("evaluation", key)) for key in keys]
        expected = self.expected.measurements(subject, root, system, measure, found, step)
        if expected is None:
            return
        if len(expected) != len(keys):
            yield f"{len(keys)} evaluations of {subject['type']}, the study as stated has {len(expected)}"
            return
        for key, spec in zip(keys, expected, strict=True):
            yield from self._artifact(Address("evaluation", key), spec)

    def _artifact(self, address: Address, expected: Any) -> Iterator[str]:
        actual = self._spec(address)
        if actual is not None:
            for difference in compare(expected, actual, "", self.seen):
                yield f"{address}: {difference}"

    def _inputs(self, cell: CellRecord) -> Iterator[str]:
        """Checks that the record names exactly the artifacts that the cell's measurements were made from."""
        along = (key for _, at_step in cell.along for key in at_step)
        keys = (*cell.evaluations, *sum(cell.also, ()), *along)
        specs = [self._spec(Address("evaluation", key)) for key in (*keys, *cell.teacher_evaluations)]
        if None in specs:
            return  # reported as missing
        for spec in specs[: len(keys)]:
            student = spec.get("evaluation", spec).get("subject")
            recorded = {"": cell.student, "dataset": cell.dataset, "dataset.completions": cell.completions}
            source = "dataset.completions"
            while _at(student, f"{source}.type") == "Rewritten":
                source += ".dataset.completions"
            if _at(student, "dataset.ranked.scores"):
                recorded["dataset.ranked.scores.teacher"] = cell.teacher
            elif cell.teacher:
                recorded[f"{source}.teacher"] = cell.teacher
            for place, key in recorded.items():
                if student and key_of(_at(student, place)) != key:
                    yield f"evaluation/{key_of(spec)}: its {f'subject.{place}'.rstrip('.')} is not {key}"
        measured = {Address("evaluation", key) for key in (*keys, *cell.teacher_evaluations)}
        inputs = dict(nested for spec in specs for nested in _nested(spec))
        recorded_inputs = set(cell.addresses())
        for address in sorted(recorded_inputs - measured - inputs.keys()):
            yield f"{address}: recorded, but none of its evaluations was made from it"
        for address in sorted(
            a for a, spec in inputs.items() if _is_stored(spec) and a not in recorded_inputs
        ):
            yield f"{address}: its evaluations were made from it, but the record does not name it"

    def _references(self) -> Iterator[str]:
        conditions = self.study["conditions"]
        models = (c[side] for c in conditions for side in ("teacher", "student"))
        stated = {key_of(model): model for model in models if not model["name"].startswith(EXTERNAL)}
        if [r.key for r in self.record.references] != list(stated):
            yield "its reference models are not those of the study as stated"
            return
        for recorded, (key, spec) in zip(self.record.references, stated.items(), strict=True):
            for name in ("revision", "chat_template"):
                if getattr(recorded, name) != spec[name]:
                    yield f"reference/{key}: {name} is {getattr(recorded, name)!r}, not {spec[name]!r}"
            if key not in self.failures:
                yield from self._measurements(recorded.evaluations, spec, spec, self.study["system"])

    def _extensions(self) -> Iterator[str]:
        """Checks that artifacts of the study's own kinds were made from artifacts of the study."""
        made = [Address(kind.kind, key) for kind in self.record.extensions for key, _ in kind.artifacts]
        specs = {address: spec for address in made if (spec := self._spec(address)) is not None}
        known = set(self.record.addresses())
        if specs:  # teachers that are only prompted are inputs and are not stored
            evaluations = [self._spec(address) for address in known if address.kind == "evaluation"]
            known |= {address for spec in evaluations if spec for address, _ in _nested(spec)}
        for address, spec in specs.items():
            for nested, _ in _nested(spec):
                if nested not in known:
                    yield f"{address}: made from {nested}, which is not of this study"

    def _words(self) -> Iterator[str]:
        words = list(dict.fromkeys(c.word for c in self.record.conditions if c.word))
        for asked in self.expected.asked() or ():
            names = [asked.outcome] if asked.outcome else [word["name"] for word in asked.words]
            if [word for word in words if word in names] != names:
                yield f"its traits' words are {words}, the evaluations measure {names}"

    def _spec(self, address: Address) -> Any:
        """The spec in an artifact's manifest, or None if the artifact is not in the archive."""
        return _spec_of(self.artifacts, address)


def _nested(spec: Any) -> Iterator[tuple[Address, JsonSpec]]:
    """The artifacts inside of a spec, at any depth, with the spec of each."""
    values = spec.values() if isinstance(spec, Mapping) else spec if isinstance(spec, list) else ()
    for value in values:
        if isinstance(value, Mapping) and (kind := KINDS.get(value.get("type", ""))):
            yield Address(kind, key_of(value)), value
        yield from _nested(value)


def _is_stored(spec: JsonSpec) -> bool:
    """Whether an artifact of a cell is stored by the sweep; reference models may be given to it."""
    match spec["type"]:
        case "Reference":
            return False
        case "Teacher":
            return spec["finetuning"] is not None
        case "Student":
            return bool(spec["recipe"]["type"] != "InContext")
        case _:
            return True


def _missing(record: Record, artifacts: Path, failures: Mapping[str, str]) -> Iterator[str]:
    needed = [a for cell in record.cells if not cell.failed_by(failures) for a in cell.addresses()]
    needed += [
        Address("evaluation", key)
        for reference in record.references
        for key in reference.evaluations
        if reference.key not in failures
    ]
    for address in dict.fromkeys(needed):
        is_optional = address.kind in NOT_EXPORTED or address.key in failures
        if not is_optional and _spec_of(artifacts, address) is None:
            yield f"{address}: not in the archive"
    known = set(record.addresses())
    for file in sorted(artifacts.glob(f"*/*/{MANIFEST}")):
        address = Address(file.parent.parent.name, file.parent.name)
        if address not in known:
            yield f"{address}: the record does not name it"


def _spec_of(artifacts: Path, address: Address) -> Any:
    file = artifacts / address.kind / address.key / MANIFEST
    return json.loads(file.read_text())["spec"] if address.key.isalnum() and file.is_file() else None


def _at(spec: Any, place: str) -> Any:
    """The value at a place of a spec ("dataset.completions"); None if there is none."""
    for name in place.split(".") if place else ():
        spec = spec.get(name) if isinstance(spec, Mapping) else None
    return spec
