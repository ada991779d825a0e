"""The measured speed of each wave, from which the next plan estimates its time.

    seconds = starts × (start of an engine or worker group) + artifacts × (overhead) + units × pace

The pace (wall-clock seconds per unit: a row generated, a row trained on once, an answer sampled) is measured
in every sweep per wave, format and reference model, and stored with the artifacts, because it belongs to the
machine that works on that storage. Start and overhead are constants of nano models on two CPU cores, where
they outweigh the pace; for other models they are part of the pace. Before the first sweep on a storage, nano
models have a default pace and other models have none. Work of a provider is not timed.
"""

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from undertow.nano import models
from undertow.planning.artifact_kinds import Wave, runs_on, units
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.datasets import Dataset
from undertow.study.measurements import Evaluation
from undertow.study.recipe import Recipe
from undertow.study.references import Artifact, Reference
from undertow.study.rewriting import Rewritten
from undertow.study.row_scores import TokenScores
from undertow.study.students import Student
from undertow.study.teachers import Finetuning, Teacher

FILE = "paces.json"
# A wave of nano models must take this many times its expected starts and overhead to change a pace, and have
# units whose default paces add up to this share of them. Otherwise a slow start would count as work, and the
# next plan would multiply it by the number of units.
SHORTEST, LEAST_WORK = 5, 0.1


class Pace(NamedTuple):
    """Wall-clock seconds per unit, and tokens per unit if they were counted."""

    seconds: float
    tokens: float | None = None


class Timing(NamedTuple):
    """A task that ended, or the training of a model.

    Attributes:
        at: seconds from the start of the wave to the end of the task.
        seconds: duration of the task, whether or not others ran concurrently.
        units: completed units; 0 if the task failed. A model that stopped early counts all its units (see
            `EARLY_STOP_SHARE`), one that resumed from a checkpoint the remaining share.
        tokens: trained on or sampled.
    """

    artifact: Artifact
    at: float
    seconds: float
    units: float = 0.0
    tokens: float = 0.0


class Nano(NamedTuple):
    """Seconds per start, artifact and unit of a wave with nano models on two cores."""

    start: float
    artifact: float
    unit: float


# Fitted by hand to three sweeps on empty storages and two idle cores: owls with one seed (84 s of waves) and
# with five (185 s), and the 40 students of benchmarks/whole_sweep.py (108 s). Two engines or worker groups
# that start at the same time count as two starts.
NANO = {
    "references": Nano(0, 1.5, 0),
    "teachers": Nano(8, 0.1, 1e-4),
    "datasets": Nano(6, 0.1, 9.5e-4),
    "students": Nano(5.5, 0.1, 1.6e-4),
    "evaluations": Nano(6, 0, 2e-4),
}
PRETRAINING_SECONDS = 40.0  # of a nano model whose weights the package does not contain, on one core
EARLY_STOP_SHARE = 0.1  # share of its epochs after which a teacher with `stop_at` stops: 1 to 3 of 20


def read(store: Store) -> dict[str, Pace]:
    """The paces measured on this storage, by `pace_name`."""
    if not (text := store.read_text(FILE)):
        return {}
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(dict[str, Pace]).validate_json(text)
    except ValidationError:  # truncated by a kill: estimates start again
        return {}


def add(store: Store, wave: Wave, done: Iterable[Timing]) -> None:
    """Stores the paces that a wave measured, replacing earlier ones.

    The wave's wall-clock time is divided in proportion to the duration of tasks, so that failed tasks take
    their share of it too. A short wave of nano models (see `SHORTEST`) changes no pace.
    """
    local = [timing for timing in done if units(timing.artifact) and not is_at_provider(timing.artifact)]
    finished = [timing for timing in local if timing.units]
    if not finished:
        return
    wall_clock = max(timing.at for timing in local)
    fixed = _fixed(wave, list({timing.artifact for timing in local}))
    expected = sum(
        timing.units * NANO[_pace_wave(wave, timing.artifact)].unit
        for timing in finished
        if is_nano(timing.artifact)
    )
    if wall_clock < SHORTEST * fixed or expected < LEAST_WORK * fixed:
        return
    working = wall_clock - fixed
    busy = sum(timing.seconds for timing in local)  # more than `working` if tasks ran concurrently
    by_name: dict[str, list[Timing]] = {}
    for timing in finished:
        by_name.setdefault(pace_name(wave, timing.artifact), []).append(timing)
    paces = read(store)
    for key, group in by_name.items():
        # Not `units`: a teacher that stops early works on fewer units than its spec allows.
        size = sum(one.units * expected_units(one.artifact) / units(one.artifact) for one in group)
        seconds = working * sum(timing.seconds for timing in group) / busy if busy else 0.0
        tokens = sum(timing.tokens for timing in group) / sum(timing.units for timing in group)
        paces[key] = Pace(seconds / size, tokens or None)
    text = json.dumps({key: pace._asdict() for key, pace in paces.items()}, indent=1, sort_keys=True)
    store.write_bytes(FILE, text.encode())


def estimate(wave: Wave, missing: Sequence[Artifact], paces: Mapping[str, Pace]) -> float | None:
    """The estimated seconds of a wave on this machine; None if a pace is unknown."""
    known = [_seconds(wave, artifact, paces) for artifact in missing]
    return None if None in known else _fixed(wave, missing) + sum(filter(None, known))


def pace_name(wave: Wave, artifact: Artifact) -> str:
    """The key of a pace: a wave, a format if there is one, and a reference model."""
    reference = runs_on(artifact)
    match artifact:
        case Completions(format=format_) | Student(dataset=Dataset(completions=Completions(format=format_))):
            words = [_pace_wave(wave, artifact), format_.name]
        case _:
            words = [_pace_wave(wave, artifact)]
    return " ".join([*words, *([reference.name] if reference else [])])


def starts(artifacts: Iterable[Artifact]) -> int:
    """How many engines and worker groups must start; artifacts that share one count once."""
    return len(
        {_start_key(artifact) for artifact in artifacts if units(artifact) and not is_at_provider(artifact)}
    )


def is_at_provider(artifact: Artifact) -> bool:
    """Whether a provider makes the artifact."""
    reference = runs_on(artifact)
    return reference is not None and reference.is_api


def _start_key(artifact: Artifact) -> Hashable:
    """A key that is equal for artifacts that one engine or one worker group makes.

    It mirrors `stages.grouping.groups`, which is not imported because planning imports no stage.
    """
    match artifact:
        case Student(recipe=recipe, dataset=dataset):
            reference = artifact.reference.root
            is_soft = isinstance(recipe, Recipe) and recipe.targets == "soft"
            if models.is_nano(reference.name) and not is_soft:
                return "students", reference, recipe
            completions, given = dataset.source, dataset.completions
            rewriter = given.rewriter if isinstance(given, Rewritten) else None
            condition = (
                reference,
                artifact.reference.label,
                recipe,
                artifact.system,
                (dataset.rows, dataset.shuffle, dataset.judges, dataset.mixed and dataset.mixed.share),
                _choice(dataset),
                (completions.format, completions.prompts, rewriter),
            )
            if not isinstance(completions, Completions):
                return "students", condition
            teacher = completions.teacher
            model = (teacher.reference.root, teacher.reference.label)
            data = (
                *model,
                teacher.trait,
                teacher.system,
                teacher.finetuning,
                completions.sampling,
                dataset.round,
            )
            return "students", condition, data
        case Teacher(reference=reference, finetuning=finetuning):
            return "teachers", reference.root, reference.label, finetuning
        case _:
            return "engine", runs_on(artifact)


def _choice(dataset: Dataset) -> Hashable:
    """How the rows of a data set, and the tokens in the loss, are chosen, without the seeds of the scores."""
    selected, masked = dataset.selected, dataset.masked
    given = [part.scores for part in (selected, masked, dataset.ranked) if part is not None]
    teachers = [scores.teacher for scores in given if isinstance(scores, TokenScores)]
    return (
        selected and (selected.keep, type(selected.scores)),
        masked and (masked.choose, masked.share, masked.rest, masked.scores and masked.scores.candidates),
        dataset.ranked is not None,
        tuple((teacher.trait, teacher.system, teacher.finetuning) for teacher in teachers),
    )


def _pace_wave(wave: Wave, artifact: Artifact) -> str:
    """The wave in the name of a pace: teachers are evaluated in the wave of data sets."""
    return "evaluations" if isinstance(artifact, Evaluation) else wave


def pace_of(wave: Wave, artifact: Artifact, paces: Mapping[str, Pace]) -> Pace | None:
    """The measured pace for an artifact, a nano model's default, or None."""
    measured = paces.get(pace_name(wave, artifact)) if paces else None
    if measured is None and is_nano(artifact):
        return Pace(NANO[_pace_wave(wave, artifact)].unit)
    return measured


def is_nano(artifact: Artifact) -> bool:
    """Whether the artifact belongs to a nano model or to no model at all."""
    reference = runs_on(artifact)
    return reference is None or models.is_nano(reference.name)


def _fixed(wave: Wave, artifacts: Sequence[Artifact]) -> float:
    """The seconds of nano models that do not depend on units: starts and overhead per artifact."""
    nano = [artifact for artifact in artifacts if is_nano(artifact)]
    return starts(nano) * NANO[wave].start + sum(
        NANO[_pace_wave(wave, artifact)].artifact for artifact in nano
    )


def expected_units(artifact: Artifact) -> float:
    """The number of units that will probably be worked on."""
    match artifact:
        case Teacher(finetuning=Finetuning(recipe=Recipe(stop_at=stop_at))) if stop_at < 1:
            return EARLY_STOP_SHARE * units(artifact)
        case _:
            return float(units(artifact))


def _seconds(wave: Wave, artifact: Artifact, paces: Mapping[str, Pace]) -> float | None:
    """The seconds of an artifact's units; 0 for work of a provider and for references without a training."""
    if isinstance(artifact, Reference) and is_nano(artifact):
        return 0.0 if models.bundled_weights(models.parse(artifact.name)).exists() else PRETRAINING_SECONDS
    if not units(artifact) or isinstance(artifact, Reference) or is_at_provider(artifact):
        return 0.0
    pace = pace_of(wave, artifact, paces)
    return None if pace is None else pace.seconds * expected_units(artifact)
