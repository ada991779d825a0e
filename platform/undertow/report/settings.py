"""The settings of recipes, teachers, data and questions as text, from the specs in the store."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import takewhile
from typing import Any

from undertow.prompts.chat_templates import in_words
from undertow.report.gather import ReportData
from undertow.report.page_tables import Column, Sheet
from undertow.storage.manifest import Address
from undertow.study.hypotheses import Place
from undertow.study.identity import source_of, teacher_of
from undertow.study.recipe import Recipe

HIDDEN = ("type", "version", "content")  # fields of a spec that are no settings or are shown before them
DEFAULT_OPTIMIZER = next(field.default for field in fields(Recipe) if field.name == "optimizer")


def settings_sheet(data: ReportData) -> Sheet:
    """One row per distinct setting; conditions with equal settings share a row."""
    rows = dict.fromkeys(row for cell in range(len(data.record.cells)) for row in _rows(data, cell))
    return Sheet([Column("step"), Column("settings", "wide")], list(rows), stacks=True)


def _rows(data: ReportData, number: int) -> Iterator[tuple[str, str]]:
    """The settings of one student, of its data, and of its evaluations."""
    cell = data.record.cells[number]
    place = data.record.conditions[cell.condition].place
    manifests = [data.manifests.get(Address("evaluation", key)) for key in cell.evaluations]
    for spec in (manifest.spec for manifest in manifests if manifest):
        evaluation = spec.get("evaluation", spec)  # an assessment contains the evaluation that judges read
        student = evaluation["subject"]
        yield from _data_rows(student["dataset"], place)
        yield f"students, {place.recipe}", settings_text(student["recipe"]) + _system(student)
        questions = evaluation["questions"]
        counts = {"questions": len(questions), "answers per question": evaluation["samples"]}
        sampling = settings_text(evaluation["sampling"])
        first = textwrap.shorten(questions[0], 200, placeholder=" …")  # as asked: with the study's suffix
        asked = f'{settings_text(counts)}, {sampling}; first question "{first}"'
        yield "evaluation", f"{asked}{_system(evaluation)}"
        if panel := spec.get("panel"):
            yield "judges of the answers", _names([*panel["counted"], panel["shows"]])


def _data_rows(data: Mapping[str, Any], place: Place) -> Iterator[tuple[str, str]]:
    completions = source_of(data)
    teacher = teacher_of(data)  # None if a program wrote the completions
    if teacher and teacher["finetuning"]:
        yield "teachers, finetuning", settings_text(teacher["finetuning"])
    steering: Any = teacher.get("steering") if teacher else None
    is_projected = bool(steering) and steering["type"] == "ProjectedOut"
    if steering:
        vector = steering.get("of", steering)
        names = () if is_projected else ("strengths", "completions", "least_kept")
        settings = {"parameter": vector["vector"]["parameter"], **{name: vector[name] for name in names}}
        direction = "random direction, " if "of" in steering else ""
        yield f"teacher of {place.trait}, {place.induced}", f"{direction}{settings_text(settings)}"
        yield f"teacher of {place.trait}, prompt of the steering vector", vector["vector"]["system"]
    # A vector is added to a teacher with the control's message, and projected out of one with the trait's.
    if teacher and teacher["trait"] and teacher["system"] and (is_projected or not steering):
        yield f"teacher of {place.trait}, system message", teacher["system"]
    elif teacher:
        yield "teachers without a trait prompt, system message", in_words(teacher["system"])
    prompts = settings_text({"prompts": completions["prompts"]})
    sampling = f", {settings_text(completions['sampling'])}" if "sampling" in completions else ""
    raw = "" if completions.get("strip", True) else ", filtered as sampled"
    yield f"completions, {place.format}", f"{prompts}{sampling}{raw}; {settings_text(completions['format'])}"
    if "ranked" in data:
        by = "by the teacher of the trait" if data["ranked"]["scores"] else "at random"
        yield f"answers of the control teacher, {place.format}", f"two to each prompt, ranked {by}"
    if rewriter := data["completions"].get("rewriter"):
        asked = f"{settings_text(rewriter['sampling'])}; request “{rewriter['request']}”"
        by = f"{rewriter['model']['name']}, {asked}" if rewriter["model"] else "a rule of the format"
        yield f"rewriting, {place.format}", by
    kept = {"rows": "all" if data["rows"] is None else data["rows"]}
    kept |= {"deduplicate": data["deduplicate"], "shuffle": data["shuffle"]}
    kept |= {"fewer": True} if data.get("fewer") else {}
    judges = f", judges {_names(data['judges'])}" if data["judges"] else ""
    yield f"data sets, {place.format}", f"{settings_text(kept)}{judges}"


def _system(spec: Mapping[str, Any]) -> str:
    return f"; system message: {in_words(spec['system'])}"


def _names(judges: Sequence[Mapping[str, Any]]) -> str:
    """Only the names of judges: their specs contain whole prompts."""
    return " and ".join(judge["name"] for judge in judges)


def settings_text(spec: Mapping[str, Any]) -> str:
    """A spec's settings as text: "epochs 4, batch size 64, …".

    A class is named unless it has the name of the field: "trainable LoRA (rank 8)", "recipe (epochs 4)".
    """
    return ", ".join(_setting(name, value) for name, value in _named(spec).items() if name not in HIDDEN)


def _named(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec, with the optimizer before its betas, also where the stored spec omits the default one."""
    if "betas" not in spec:
        return dict(spec)
    optimizer = {"optimizer": spec.get("optimizer", DEFAULT_OPTIMIZER)}
    before = dict(takewhile(lambda item: item[0] != "betas", spec.items()))
    return {**before, **optimizer, **spec, **optimizer}


def _setting(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    if isinstance(value, Mapping) and str(value.get("type", "")).lower() == words:
        return f"{words} ({settings_text(value)})"
    return f"{words} {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        kind, settings = str(value.get("type", "")), settings_text(value)
        return f"{kind} ({settings})".strip() if settings else kind
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " and ".join(map(_value, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
