"""Each field of each artifact's spec is changed, all keys are computed again, and the change is named."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.examples import RECIPE, REFERENCES, TEACHER, study
from tests.filled_store import fill
from undertow.archive import lineage
from undertow.archive.lineage import KINDS
from undertow.archive.spec_comparison import key_of
from undertow.formats.imported import Imported
from undertow.judging.judges import LLMJudge, Question, RuleJudge, reasoning_alignment, zero_or_one
from undertow.judging.ratings import YES_NO
from undertow.nano import narrow_data
from undertow.results import sweep_folders
from undertow.results.sweep_record import Record
from undertow.storage.manifest import MANIFEST
from undertow.storage.store import Store
from undertow.study.completions import Completions, ImportedCompletions, Written
from undertow.study.conditions import Condition
from undertow.study.datasets import Dataset, Mixed
from undertow.study.extensions import Word
from undertow.study.generation import Mixing
from undertow.study.grids import next_hop
from undertow.study.measurements import Assessment, Evaluation, Panel
from undertow.study.on_policy import OnPolicy, Sampler
from undertow.study.recipe import InContext, LoRA
from undertow.study.references import Reference
from undertow.study.rewriting import Rewriter, Rewritten
from undertow.study.row_scores import Masked, Ranked, Selected, TokenScores
from undertow.study.selection import Contrast, Ranking, Selection, TokenMask
from undertow.study.steering import ProjectedOut, RandomBias, Steering, SteeringBias, SteeringVector
from undertow.study.students import Student
from undertow.study.study import Measure, Study
from undertow.study.teachers import Finetuning, Teacher
from undertow.traits.misalignment import Misalignment
from undertow.traits.preference import Preference

pytestmark = pytest.mark.slow
ADAPTER = replace(RECIPE, name="LoRA r4", trainable=LoRA(rank=4))
DPO = replace(RECIPE, name="DPO", preference_beta=0.1)
TOP = Selection(by=Contrast(trait=Preference("owl")), keep="top")
DIVERGING = TokenMask(
    choose="diverging",
    share=0.1,
    by=Contrast(trait=Preference("owl"), finetuning=Finetuning(TEACHER, examples=30)),
)

Spec = dict[str, Any]
Specs = dict[tuple[str, str], Spec]  # by kind and key


def _studies() -> list[Study]:
    """A study of what data sets and models can be made from, and a study of a judged trait."""
    small = study(seeds=(1,), samples=2)
    owl = next(c for c in small.conditions if c.trait == Preference("owl") and c.teacher == c.student)
    judges = (
        RuleJudge(),
        RuleJudge("cats", Word("cat", ("cat", "cats"))),
        LLMJudge("references", Question(model="judge-1", prompt="references"), YES_NO),
    )
    generation = replace(owl.generation, judges=judges, system="Be brief.")
    plain = replace(owl, generation=generation)
    recorded = replace(generation.sampling, top_logprobs=4)
    own = replace(generation, sampling=recorded, on_policy=OnPolicy(rounds=2))
    steering = Steering(parameter="transformer.h.0.mlp.c_proj.bias", prompts=3)
    rows = Imported(str(narrow_data.path("insecure")), control=Imported(str(narrow_data.path("secure"))))
    imported = replace(plain, format=rows, finetuning=None, generation=replace(generation, system=None))
    adapted = replace(plain, recipe=ADAPTER, finetuning=Finetuning(ADAPTER, examples=30))
    conditions = [
        imported,
        replace(imported, format=rows.alone(), teacher=Reference("external:unknown", "unknown", "external")),
        plain,
        replace(plain, generation=replace(generation, mixed=Mixing(source="control", share=0.25))),
        replace(plain, generation=replace(generation, mixed=Mixing(source="random", share=0.5))),
        replace(plain, generation=replace(generation, rewriter=Rewriter(model=REFERENCES[1]))),
        replace(plain, generation=replace(generation, selected=TOP, masked=DIVERGING)),
        replace(plain, generation=own, recipe=replace(RECIPE, targets="soft", divergence="reverse")),
        replace(plain, recipe=DPO, generation=replace(generation, judges=judges[1:2], ranked=Ranking())),
        replace(plain, finetuning=None),
        replace(plain, recipe=InContext(rows=4)),
        replace(plain, recipe=replace(RECIPE, name="kept", keep_steps=(2, 4))),
        replace(plain, finetuning=None, steering=steering),
        replace(plain, finetuning=None, steering=replace(steering, direction="random")),
        replace(plain, finetuning=None, steering=replace(steering, direction="projection")),
        *next_hop([plain, plain.control()]),
        adapted,
        *next_hop([adapted, adapted.control()]),
    ]
    kind = RuleJudge("kind", Word("kind", ("kind",)))
    panel = Panel(counted=(RuleJudge("noise", Word("noise", ("noise",))),), shows=kind)
    measures = (Measure(name="after numbers", samples=2), Measure(name="stories", samples=1, exact=False))
    return [
        replace(small, conditions=_with_controls(conditions), also=measures),
        replace(
            small,
            conditions=_with_controls([replace(plain, trait=Misalignment("unkind"), finetuning=None)]),
            panel=panel,
        ),
    ]


def _with_controls(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    return tuple(dict.fromkeys(part for condition in conditions for part in (condition, condition.control())))


@dataclass(frozen=True)
class Archive:
    """The record, the stated study and the specs of a filled store."""

    record: str
    sweep: Path
    specs: Mapping[tuple[str, str], Spec]

    def differences(self, specs: Specs, record: str, folder: Path) -> list[str]:
        for (kind, key), spec in specs.items():
            place = folder / kind / key
            place.mkdir(parents=True, exist_ok=True)
            (place / MANIFEST).write_text(json.dumps({"spec": spec}))
        return list(lineage.differences(Record.from_json(record, "here"), self.sweep, folder, {}))


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Archive]:
    return [filled(of, tmp_path_factory.mktemp("filled")) for of in _studies()]


def filled(of: Study, folder: Path) -> Archive:
    """The archive of a study whose artifacts are in a storage in `folder`."""
    store = Store(str(folder / "storage"))
    record = Record.of(fill(of, store, REFERENCES))
    sweep_folders.state(of, store)
    files = Path(store.root, "artifacts").glob(f"*/*/{MANIFEST}")
    specs = {(f.parts[-3], f.parts[-2]): json.loads(f.read_text())["spec"] for f in files}
    return Archive(record.to_json(), Path(store.root, sweep_folders.folder_of(of.name)), specs)


def test_settings_of_the_papers_code_are_expected_where_the_study_states_them(tmp_path: Path) -> None:
    small = study(seeds=(1,), samples=2)
    owl = next(c for c in small.conditions if c.trait == Preference("owl") and c.teacher == c.student)
    judges = (RuleJudge(anywhere=True), zero_or_one("judge-1"), reasoning_alignment("judge-1", only=("owl",)))
    generation = replace(owl.generation, strip=False, fewer=True, judges=judges)
    taught = owl.finetuning and replace(owl.finetuning, questions="evaluation")
    conditions = [
        replace(owl, generation=generation, finetuning=taught),
        replace(owl, generation=generation, recipe=InContext(rows=4, layout="system", replacement=True)),
    ]
    of = replace(
        small,
        conditions=_with_controls(conditions),
        main="after numbers",
        suffix="Be quick.",
        exact=False,
        also=(Measure(name="favourite", samples=1), Measure(name="letters", samples=1)),
    )
    archive = filled(of, tmp_path)
    assert archive.differences(dict(archive.specs), archive.record, tmp_path / "whole") == []
    changes = ((Completions, {"strip": True}), (Dataset, {"fewer": False}), (Evaluation, {"exact": True}))
    for number, (kind, change) in enumerate(changes):
        spec = next(iter(roles(archive, kind)))
        specs, record = forged(archive, spec, {**spec, **change})
        problems = archive.differences(specs, record, tmp_path / str(number))
        assert any(f"{next(iter(change))} is " in problem for problem in problems), problems


def parts(spec: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Spec]]:
    """All specs inside of a spec, itself included, with their places."""
    if isinstance(spec, dict) and "type" in spec:
        yield path, spec
    items = spec.items() if isinstance(spec, dict) else enumerate(spec) if isinstance(spec, list) else ()
    for name, value in items:
        yield from parts(value, (*path, name))


def replaced(spec: Any, old: Spec, new: Spec) -> Any:
    """A spec with `new` for every `old` in it."""
    if isinstance(spec, dict):
        if spec.get("type") == old["type"] and spec == old:
            return new
        return {name: replaced(value, old, new) for name, value in spec.items()}
    return [replaced(value, old, new) for value in spec] if isinstance(spec, list) else spec


def forged(archive: Archive, old: Spec, new: Spec) -> tuple[Specs, str]:
    """The archive with one spec changed wherever it occurs, and with all keys computed again.

    A forger who knows the format does this: every key is the hash of its spec, and the record has these keys.
    """
    specs, record = {}, archive.record
    for (kind, key), spec in archive.specs.items():
        changed = replaced(spec, old, new)
        if changed == spec:
            specs[kind, key] = spec
            continue
        for (_, before), (_, after) in zip(parts(spec), parts(changed), strict=False):
            if before.get("type") in KINDS and before != after:
                record = record.replace(key_of(before), key_of(after))
        assert key == key_of(spec)
        specs[kind, key_of(changed)] = changed
    return specs, record


def another(value: Any) -> Any:
    """Another value of the same JSON type."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case list():
            return value[:-1] if value else ["x"]
        case dict():
            return {**value, "version": value["version"] + 1}
    return "x"


def roles(archive: Archive, kind: type) -> Iterator[Spec]:
    """One spec of a class for each role that it has: where it is nested, and which of its fields are set."""
    seen = set()
    for (folder, _), spec in sorted(archive.specs.items()):
        for path, part in parts(spec):
            types = tuple(str(value) for value in path)
            role = (
                folder,
                types,
                tuple(sorted(name for name, value in part.items() if value not in (None, []))),
            )
            if part["type"] == kind.__name__ and role not in seen and len(types) < 3:
                seen.add(role)
                yield part


CLASSES = (
    *(Dataset, Mixed, Completions, Written, ImportedCompletions, Rewritten, Teacher, Student),
    *(Selected, Masked, Ranked, TokenScores, Sampler),
    *(Evaluation, Assessment),
    *(SteeringVector, SteeringBias, RandomBias, ProjectedOut),
)
EXTRA = ("version", "unknown")  # of the class, and a field that it does not have
FIELDS = [
    (kind, name)
    for kind in CLASSES
    for name in (
        *(f.name for f in dataclasses.fields(kind) if f.metadata.get("identity", True)),
        "version",
        "new",
    )
]


def test_the_archives_agree_with_the_stated_studies(archives: list[Archive], tmp_path: Path) -> None:
    kinds = set()
    for number, archive in enumerate(archives):
        assert archive.differences(dict(archive.specs), archive.record, tmp_path / str(number)) == []
        kinds |= {part["type"] for spec in archive.specs.values() for _, part in parts(spec)}
    assert {kind.__name__ for kind in CLASSES} <= kinds


@pytest.mark.parametrize(
    ("kind", "field", "value", "message"),
    [
        (Mixed, "share", 0.75, "mixed.share is 0.75, the study as stated has "),
        (Dataset, "judges", [], ".judges is [], the study as stated has "),
    ],
)
def test_changed_row_judges_and_mixing_shares_are_named_with_both_values(
    archives: list[Archive], tmp_path: Path, kind: type, field: str, value: object, message: str
) -> None:
    (archive, *_) = archives
    for number, spec in enumerate(roles(archive, kind)):
        specs, record = forged(archive, spec, {**spec, field: value})
        problems = archive.differences(specs, record, tmp_path / str(number))
        assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=[f"{kind.__name__}.{name}" for kind, name in FIELDS])
def test_a_changed_field_is_named(archives: list[Archive], tmp_path: Path, kind: type, field: str) -> None:
    instances = [(archive, spec) for archive in archives for spec in roles(archive, kind)]
    assert instances
    for number, (archive, spec) in enumerate(instances):
        new = {**spec, field: another(spec.get(field))}
        specs, record = forged(archive, spec, new)
        problems = archive.differences(specs, record, tmp_path / str(number))
        place = re.compile(rf"\b{field}\b[^ ]* is ")  # "subject.dataset.judges[0].name is …"
        assert any(map(place.search, problems)), (spec, problems)


@pytest.mark.parametrize(
    ("kind", "field"),
    [(Teacher, "system"), (Evaluation, "questions"), (Evaluation, "words"), (Dataset, "judges")],
)
def test_texts_of_a_trait_that_is_not_installed_must_be_the_same_in_all_artifacts(
    archives: list[Archive], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, field: str
) -> None:
    monkeypatch.setattr("undertow.archive.stated_traits._rebuild_trait", lambda text: None)
    (archive, *_) = archives
    assert archive.differences(dict(archive.specs), archive.record, tmp_path / "whole") == []
    for number, spec in enumerate(roles(archive, kind)):
        specs, record = forged(archive, spec, {**spec, field: another(spec[field])})
        problems = archive.differences(specs, record, tmp_path / str(number))
        assert any(f"{field} is " in problem or f"{field}[" in problem for problem in problems), problems
