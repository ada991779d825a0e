"""Whether a sweep's record says what its artifacts are: the part of an archive's check that no hash can do.

The study as it was stated has the record's key; settings, claims and conditions are that study's; there is a
cell for every condition and seed; and each student compared was made as its condition says and asked what
the study asks. Names that no spec holds (of a format or a recipe) cannot be checked.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from undertow.results.sweep_folders import PLAN, stated_file
from undertow.results.sweep_record import CellRecord, Record, StudySettings
from undertow.storage.manifest import MANIFEST, Address
from undertow.study.artifacts import AFTER, CONTROL
from undertow.study.hypotheses import Hypothesis
from undertow.study.identity import KEY_DIGITS, canonical, digest
from undertow.study.names import is_display_name

NOT_IN_IDENTITY = ("key", "question", "measures")
STARTS = ("teacher_start", "student_start")
NOT_EXPORTED = ("reference", "completions")  # given to us, or not needed for a conclusion

JsonSpec = Mapping[str, Any]


def key_of(spec: Any) -> str:
    """The key of a spec in its canonical form, as `identity.key` gives it."""
    return digest(json.dumps(spec, sort_keys=True, separators=(",", ":")))[:KEY_DIGITS]


def differences(record: Record, sweep: Path, artifacts: Path, failures: Mapping[str, str]) -> Iterator[str]:
    """Where the record in the folder `sweep` and the artifacts in the folder `artifacts` do not agree."""
    shown = f"{sweep.name}/{stated_file(record)}"
    stated = sweep / stated_file(record)
    if not stated.is_file():
        yield f"{shown}: missing; without it nothing says what the study was"
        return
    study = json.loads(stated.read_text())["study"]
    if key_of(study) != record.study.key:
        yield f"{shown}: its study was changed; the study's key is {key_of(study)}"
        return
    for what in (*_settings(record, study), *_conditions(record, study)):
        yield f"{sweep.name}/{PLAN}: {what}"
    if len(record.conditions) == len(study["conditions"]):
        for what in _cells(record, study, artifacts, failures):
            yield f"{sweep.name}/{PLAN}: {what}"
    yield from _missing(record, artifacts, failures)


def _settings(record: Record, study: JsonSpec) -> Iterator[str]:
    for name in (field.name for field in fields(StudySettings) if field.name not in NOT_IN_IDENTITY):
        ours = canonical(getattr(record.study, name))
        if ours != study[name]:
            yield f"{name} is {ours!r}, the study as stated has {study[name]!r}"
    compared = [(n, record.conditions[n]) for n in record.compared]
    claims = [
        Hypothesis(**{k: v for k, v in h.items() if k not in ("type", "version")})
        for h in study["hypotheses"]
    ]
    expected = [
        (h.claim, h.expects, tuple(n for n, c in compared if h.covers(c.place, c.same_initialisation)))
        for h in claims
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
        control = stated.index(_control(spec))
        if control != condition.control:
            yield f"condition {number} is not compared with its control, condition {control}"


def _control(condition: JsonSpec) -> JsonSpec:
    """A condition's control, as `Condition.control` makes it; fields at a later default are absent."""
    generation = {name: value for name, value in condition["generation"].items() if name != "mixed"}
    kept = {name: value for name, value in condition.items() if name != "prompted"}
    before = {"after": _control(condition["after"])} if "after" in condition else {}
    starts = {name: _without(condition[name], condition["trait"]) for name in STARTS if name in condition}
    return {**kept, "trait": None, "finetuning": None, "generation": generation, **before, **starts}


def _without(condition: JsonSpec, trait: JsonSpec | None) -> JsonSpec:
    """The same without a trait, as `Condition.without` makes it."""
    if trait is None:
        return condition
    if condition["trait"] == trait:
        return _control(condition)
    earlier = {n: _without(condition[n], trait) for n in ("after", *STARTS) if n in condition}
    return {**condition, **earlier}


def _cells(record: Record, study: JsonSpec, artifacts: Path, failures: Mapping[str, str]) -> Iterator[str]:
    wanted = [(number, seed) for number in range(len(record.conditions)) for seed in study["seeds"]]
    if [(cell.condition, cell.seed) for cell in record.cells] != wanted:
        yield "its cells are not the conditions and seeds of the study as stated"
        return
    asked: list[Any] = []
    for cell in (cell for cell in record.cells if not cell.failed_by(failures)):
        every: list[tuple[int | None, str]] = [(None, key) for key in cell.evaluations]
        every += [(i, key) for i, keys in enumerate(cell.also) for key in keys]
        specs = [(measure, _spec(artifacts, Address("evaluation", key))) for measure, key in every]
        if any(spec is None for _, spec in specs):
            continue  # `_missing` names it
        for measure, spec in specs:
            evaluation = spec.get("evaluation", spec)  # of a judged one, the answers that were judged
            for place, value in _expected(study, cell, measure).items():
                if _at(evaluation, place) != value:
                    label = record.conditions[cell.condition].label
                    yield f"{label}, seed {cell.seed}: what it was measured on has another {place}"
            for place, key in (("subject", cell.student), ("subject.dataset", cell.dataset)):
                if key_of(_at(evaluation, place)) != key:
                    yield f"the student evaluated by {key_of(spec)} is not {key}"
            if spec is not evaluation and spec["panel"] != study.get("panel"):
                yield f"the answers of student {cell.student} were judged by another panel"
        of_this = [
            (spec.get("evaluation", spec)["questions"], spec.get("words", [{"name": spec.get("outcome")}]))
            for measure, spec in specs
            if measure is None
        ]
        asked = asked or of_this
        if of_this != asked:
            yield f"student {cell.student} was asked other questions than the others"
    words = list(dict.fromkeys(c.word for c in record.conditions if c.word))
    for _, group in asked:
        names = [word["name"] for word in group]
        if [word for word in words if word in names] != names:
            yield f"its traits' words are {words}, what was measured are {names}"


def _expected(study: JsonSpec, cell: CellRecord, measure: int | None) -> dict[str, Any]:
    """What an evaluation's spec must have at which place; the same as `cells.cell_of` builds from real specs.

    `measure`: the number of one beside the traits' own questions.
    """
    condition = study["conditions"][cell.condition]
    asked = study if measure is None else study["also"][measure]
    return {
        "samples": asked["samples"],
        "sampling": asked["sampling"],
        "system": study["system"],
        **_student(study, condition, cell.seed, "subject"),
    }


def _student(study: JsonSpec, condition: JsonSpec, seed: int, place: str) -> dict[str, Any]:
    """The same of a student at a `place`, and in a chain of those whose data it goes back to."""
    generation, before = condition["generation"], condition.get("after")
    seeds = {level: seed if level in study["redraw"] else 0 for level in ("teacher", "data", "student")}
    data, completions = f"{place}.dataset", f"{place}.dataset.completions"
    teacher = f"{completions}.teacher"
    by_prompt = not before and (condition.get("prompted") or not condition["finetuning"])
    is_prompted = condition["trait"] and by_prompt  # by the trait's text, which no study holds
    taught = before or {"student": condition["teacher"], "student_start": condition.get("teacher_start")}
    return {
        f"{place}.type": "Student",
        **_reference(study, condition, seed, f"{place}.reference"),
        f"{place}.recipe": condition["recipe"],
        f"{place}.system": condition["system"],
        f"{place}.seed": seeds["student"],
        f"{data}.rows": generation["rows"],
        f"{data}.deduplicate": generation["deduplicate"],
        f"{data}.shuffle": generation["shuffle"],
        f"{data}.seed": seeds["data"],
        f"{completions}.prompts": generation["prompts"],
        f"{completions}.sampling": generation["sampling"],
        f"{completions}.format": condition["format"],
        f"{completions}.seed": seeds["data"],
        **_reference(study, taught, seed, f"{teacher}.reference"),
        f"{teacher}.trait": condition["trait"],
        f"{teacher}.finetuning": condition["finetuning"],
        f"{teacher}.seed": seeds["teacher"] if condition["finetuning"] else 0,
        **({} if is_prompted else {f"{teacher}.system": generation.get("system")}),
        **(_student(study, before, seed, f"{teacher}.student") if before else {f"{teacher}.student": None}),
    }


def _reference(study: JsonSpec, condition: JsonSpec, seed: int, place: str) -> dict[str, Any]:
    """The same of the reference model at a `place` that a condition's student is made from."""
    start = condition.get("student_start")
    if not start:
        return {place: condition["student"]}
    root = {f"{place}.{name}": value for name, value in condition["student"].items()}
    return root | _student(study, start, seed, f"{place}.student")


def _missing(record: Record, artifacts: Path, failures: Mapping[str, str]) -> Iterator[str]:
    needed = [a for cell in record.cells if not cell.failed_by(failures) for a in cell.addresses()]
    needed += [
        Address("evaluation", key)
        for r in record.references
        for key in r.evaluations
        if r.key not in failures
    ]
    for address in dict.fromkeys(needed):
        there = address.kind in NOT_EXPORTED or address.key in failures
        if not there and _spec(artifacts, address) is None:
            yield f"{'/'.join(address)}: not in the archive"


def _spec(artifacts: Path, address: Address) -> Any:
    """The spec in an artifact's manifest, or None where there is no such artifact."""
    file = artifacts / address.kind / address.key / MANIFEST
    return json.loads(file.read_text())["spec"] if address.key.isalnum() and file.is_file() else None


def _at(spec: Any, place: str) -> Any:
    """What is at a place; None where it is not: a field at its later default is absent."""
    for name in place.split("."):
        spec = (spec or {}).get(name)
    return spec
