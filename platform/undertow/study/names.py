"""Display names of reference models: short, and distinct within a study."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath

from undertow.study.references import AFTER, GGUF, TUNED, Reference

ABBREVIATED = ".../"  # begins a display name that is the end of a path
REVISION = "@"
REVISION_DIGITS = 7
BIASED = " with mlp_bias"  # ends the display name if the study has the same model without zero biases
IN = (" in fp32", " in bf16")  # ends it if the study has the same model in another precision


def short(name: str) -> str:
    """A reference model's display name without the owner on the hub, the folder above it, or ".gguf".

    An abbreviated path (".../run-a/checkpoint-100") is returned unchanged: its folders distinguish it from
    another model of the same study.
    """
    name, after, learned = name.partition(AFTER)
    if not name.startswith(ABBREVIATED):
        name = name.rstrip("/").rsplit("/", 1)[-1].replace(GGUF, "")
    return name + after + learned


def without_revision(name: str) -> str:
    """A display name without the revision that `display_names` may have added ("org/model@1a2b3c4")."""
    return name if AFTER in name else _plain(name).partition(REVISION)[0]


def is_display_name(shown: str, name: str) -> bool:
    """Whether `display_names` can show a reference called `name` as `shown`."""
    shown = _plain(shown.removesuffix(TUNED))
    if shown.startswith(ABBREVIATED):
        return shown.endswith(f"/{name}")
    return name in (shown, shown.rpartition(REVISION)[0])


def _plain(shown: str) -> str:
    """A display name without what distinguishes variants of one model."""
    for precision in IN:
        shown = shown.removesuffix(precision)
    return shown.removesuffix(BIASED)


def display_names(references: Iterable[Reference]) -> Mapping[Reference, str]:
    """The value of `Reference.shown_as` for each reference of a study: "" where its name is unambiguous.

    A pinned reference is ambiguous if another one has the same `short` name: folders of one base name, or a
    model and its copy by another owner. Unpinned references, which are still called as the user wrote them,
    are only ambiguous if they have the same name (two revisions of one hub id).

    Folders and local GGUF files are shown by the end of their path, other models with the beginning of their
    revision. Of one model with and without zero biases, the former is shown with `BIASED`; one in several
    precisions is shown with the stated one.
    """
    groups: dict[str, list[Reference]] = {}
    for reference in dict.fromkeys(references):
        name = short(reference.name) if reference.chat_template else reference.name
        groups.setdefault(name, []).append(reference)
    shown: dict[Reference, str] = {}
    for group in groups.values():
        models = {_model(reference) for reference in group}
        folders = [reference for reference in group if reference.location]
        others = [reference for reference in group if not reference.location]
        several = len({_model(reference) for reference in others}) > 1
        shown |= _by_path(folders) if len(models) > 1 else dict.fromkeys(folders, "")
        shown |= _by_revision(others) if several else dict.fromkeys(others, "")
        for reference in group:
            same = [other for other in group if _model(other) == _model(reference)]
            if reference.mlp_bias and not all(other.mlp_bias for other in same):
                shown[reference] = (shown[reference] or reference.name) + BIASED
            precisions = {other.precision for other in same if other.mlp_bias == reference.mlp_bias}
            if reference.precision and len(precisions) > 1:
                shown[reference] = f"{shown[reference] or reference.name} in {reference.precision}"
    return shown


def _model(reference: Reference) -> tuple[object, ...]:
    """Identifies a reference model, whatever its precision and whether or not it has zero biases."""
    return reference.name, reference.revision, reference.location, reference.tuned is None


def _by_path(folders: list[Reference]) -> dict[Reference, str]:
    """The ends of the folders' paths, with as many folders as distinguish them."""
    parts = {r: PurePath(r.location.removesuffix(GGUF)).parts[1:] for r in folders}
    longest = max(map(len, parts.values()), default=0)
    length = 2
    distinct = len(set(parts.values()))
    while length < longest and len({path[-length:] for path in parts.values()}) < distinct:
        length += 1
    return {reference: ABBREVIATED + "/".join(path[-length:]) for reference, path in parts.items()}


def _by_revision(references: list[Reference]) -> dict[Reference, str]:
    """The names with the first digits of the revisions, with as many digits as distinguish them."""
    digits = REVISION_DIGITS
    while len({r.revision[:digits] for r in references}) < len({r.revision for r in references}):
        digits += 1
    return {r: f"{r.name}{REVISION}{r.revision[:digits]}" if r.revision else "" for r in references}
