"""How everything was made, a line each: recipes, teachers, data, questions; from the specs in the store."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from undertow.prompts.chat_templates import in_words
from undertow.report.gather import ReportData
from undertow.report.page_tables import Column, Sheet
from undertow.storage.manifest import Address
from undertow.study.hypotheses import Place

HIDDEN = ("type", "version", "content")  # of a spec: what stands before its settings, or is no setting


def settings_sheet(gathered: ReportData) -> Sheet:
    """One line for each setting in use; conditions that share it share the line."""
    lines = dict.fromkeys(line for cell in range(len(gathered.record.cells)) for line in _of(gathered, cell))
    return Sheet([Column("what"), Column("how", "wide")], list(lines), stacks=True)


def _of(gathered: ReportData, number: int) -> Iterator[tuple[str, str]]:
    """What leads to one student and measures it."""
    cell = gathered.record.cells[number]
    place = gathered.record.conditions[cell.condition].place
    found = [gathered.manifests.get(Address("evaluation", key)) for key in cell.evaluations]
    for spec in (manifest.spec for manifest in found if manifest):
        evaluation = spec.get("evaluation", spec)  # that judges have read, or that needs none
        yield from _data(evaluation["subject"]["dataset"], place)
        student = evaluation["subject"]
        yield f"students, {place.recipe}", settings_text(student["recipe"]) + _system(student)
        asked = {"questions": len(evaluation["questions"]), "answers to each": evaluation["samples"]}
        yield (
            "questions",
            f"{settings_text(asked)}, {settings_text(evaluation['sampling'])}{_system(evaluation)}",
        )
        if panel := spec.get("panel"):
            yield "judges of the answers", _names([*panel["counted"], panel["shows"]])


def _data(data: Mapping[str, Any], place: Place) -> Iterator[tuple[str, str]]:
    completions = data["completions"]
    teacher = completions.get("teacher")  # none where a program wrote the answers
    if teacher and teacher["finetuning"]:
        yield "teachers, finetuned", settings_text(teacher["finetuning"])
    if teacher and teacher["trait"] and teacher["system"]:
        yield f"teacher of {place.trait}, system message", teacher["system"]
    elif teacher:
        yield "teachers without a trait's prompt, system message", in_words(teacher["system"])
    drawn = {"prompts": completions["prompts"]}
    sampling = f", {settings_text(completions['sampling'])}" if "sampling" in completions else ""
    yield (
        f"answers of teachers, {place.format}",
        f"{settings_text(drawn)}{sampling}; {settings_text(completions['format'])}",
    )
    kept = {"rows": "all" if data["rows"] is None else data["rows"]}
    kept |= {"deduplicate": data["deduplicate"], "shuffle": data["shuffle"]}
    judges = f", judges {_names(data['judges'])}" if data["judges"] else ""
    yield f"data, {place.format}", f"{settings_text(kept)}{judges}"


def _system(spec: Mapping[str, Any]) -> str:
    return f"; system message: {in_words(spec['system'])}"


def _names(judges: Sequence[Mapping[str, Any]]) -> str:
    """Of judges their names alone: a whole prompt is part of each, and is in the specs."""
    return " and ".join(judge["name"] for judge in judges)


def settings_text(spec: Mapping[str, Any]) -> str:
    """A spec's settings as words: "epochs 4, batch size 64, …"."""
    return ", ".join(
        f"{name.replace('_', ' ')} {_value(value)}" for name, value in spec.items() if name not in HIDDEN
    )


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{value.get('type', '')} ({settings_text(value)})"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " and ".join(map(_value, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
