"""How everything was made, a line each: recipes, teachers, data, questions; from the specs in the store."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from undertow.manifest import Address
from undertow.report.gather import Gathered
from undertow.report.sheets import Column, Sheet

HIDDEN = ("type", "version", "content")  # of a spec: what stands before its settings, or is no setting


def settings(gathered: Gathered) -> Sheet:
    """One line for each setting in use; conditions that share it share the line."""
    lines = dict.fromkeys(line for cell in range(len(gathered.record.cells)) for line in _of(gathered, cell))
    return Sheet([Column("what"), Column("how", "wide")], list(lines), stacks=True)


def _of(gathered: Gathered, number: int) -> Iterator[tuple[str, str]]:
    """What leads to one student and measures it."""
    cell = gathered.record.cells[number]
    place = gathered.record.conditions[cell.condition].place
    found = [gathered.manifests.get(Address("evaluation", key)) for key in cell.evaluations]
    for evaluation in (manifest.spec for manifest in found if manifest):
        student, data = evaluation["subject"], evaluation["subject"]["dataset"]
        completions, teacher = data["completions"], data["completions"]["teacher"]
        if teacher["finetuning"]:
            yield "teachers, finetuned", said(teacher["finetuning"])
        elif teacher["system"]:
            yield f"teacher of {place.trait}, system prompt", teacher["system"]
        drawn = f"prompts {completions['prompts']:,}, {said(completions['sampling'])}"
        yield f"answers of teachers, {place.format}", f"{drawn}; {said(completions['format'])}"
        rows = "all" if data["rows"] is None else data["rows"]
        kept = {"rows": rows, "deduplicate": data["deduplicate"], "shuffle": data["shuffle"]}
        yield f"data, {place.format}", said(kept)
        system = f"; system message: {student['system']}" if student["system"] else ""
        yield f"students, {place.recipe}", said(student["recipe"]) + system
        asked = {"questions": len(evaluation["questions"]), "answers to each": evaluation["samples"]}
        system = f"; system message: {evaluation['system']}" if evaluation["system"] else ""
        yield "questions", f"{said(asked)}, {said(evaluation['sampling'])}{system}"


def said(spec: Mapping[str, Any]) -> str:
    """A spec's settings as words: "epochs 4, batch size 64, …"."""
    return ", ".join(
        f"{name.replace('_', ' ')} {_value(value)}" for name, value in spec.items() if name not in HIDDEN
    )


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{value.get('type', '')} ({said(value)})"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " and ".join(map(_value, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
