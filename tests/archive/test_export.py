"""Archives of a study: complete, reproducible, and every change in one is reported with its place."""

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.examples import RECIPE, REFERENCES, study
from tests.filled_store import fill
from undertow.archive.export import INDEX, export
from undertow.archive.verify import _differences, verify
from undertow.cli import export as job
from undertow.errors import StorageError, UserError
from undertow.formats.numbers import Numbers
from undertow.report.make import make_report
from undertow.results import sweep_folders
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.grids import grid
from undertow.study.identity import digest
from undertow.study.recipe import Everything, LoRA
from undertow.study.study import Study
from undertow.study.tuning import tuned

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STUDY = replace(study(seeds=(0, 1), samples=4), conditions=study().conditions[:6])  # two pairs of models
SWEEP_TIME = "20260101T000000"
Files = dict[str, bytes]


def filled(of: Study, place: Path) -> Store:
    """A storage with the files that a sweep of the study leaves."""
    store = Store(str(place))
    record = Record.of(fill(of, store, REFERENCES))
    sweep_folders.state(of, store)
    folder = sweep_folders.folder_of(of.name, SWEEP_TIME)
    store.write_bytes(f"{folder}/{sweep_folders.PLAN}", record.to_json().encode())
    store.write_bytes(f"{folder}/{sweep_folders.EVENTS}", b"[]")
    for name, content in make_report(record, store, []).files.items():
        store.write_bytes(f"{folder}/{name}", content)
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled(STUDY, tmp_path_factory.mktemp("filled") / "storage")


@pytest.fixture(scope="module")
def archive(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("archive") / "small.zip"
    export(store, "small", SWEEP_TIME, target)
    return target


def files_of(archive: Path) -> Files:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def written(files: Files, place: Path) -> Path:
    with zipfile.ZipFile(place, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return place


def rehashed(files: Files) -> Files:
    """The files with all hashes of bytes computed again, as a forger does who knows the format."""
    for name in [n for n in files if n.endswith("/manifest.json")]:
        folder, manifest = name.removesuffix("manifest.json"), json.loads(files[name])
        for part in manifest["files"] or ():
            if folder + part in files:
                manifest["files"][part] = hashlib.sha256(files[folder + part]).hexdigest()
        files[name] = json.dumps(manifest).encode()
    index = json.loads(files[INDEX])
    index["files"] = {n: hashlib.sha256(c).hexdigest() for n, c in files.items() if n != INDEX}
    return {**files, INDEX: json.dumps(index).encode()}


def named(files: Files, ending: str) -> str:
    return next(name for name in sorted(files) if name.endswith(ending))


def without_an_answer(files: Files) -> str:
    name = named(files, "answers.parquet")
    rows = pq.read_table(io.BytesIO(files[name])).to_pylist()
    gone = rows.pop(5)
    files[name] = parquet(rows)
    return f"answer {gone['sample']} to {gone['question']!r} is missing"


def with_another_answer(files: Files) -> str:
    name = named(files, "answers.parquet")
    rows = pq.read_table(io.BytesIO(files[name])).to_pylist()
    row = next(row for row in rows if not row["matches"])
    row["answer"] = "owl"
    files[name] = parquet(rows)
    return f"answer {row['sample']} to {row['question']!r} is scored wrongly"


def with_another_rate(files: Files) -> str:
    name = named(files, "result.json")
    result = json.loads(files[name])
    result["sampled"]["owl"] += 0.25
    files[name] = json.dumps(result).encode()
    return "sampled rate of 'owl' is"


def with_another_effect(files: Files) -> str:
    lines = files["sweep/effects.csv"].decode().splitlines()
    cells = lines[2].split(",")
    cells[9] = "0.123"
    files["sweep/effects.csv"] = "\n".join([*lines[:2], ",".join(cells), *lines[3:], ""]).encode()
    return "sweep/effects.csv: row 2, effect: '0.123', its answers give"


def with_another_spec(files: Files) -> str:
    name = next(n for n in sorted(files) if "/student/" in n and n.endswith("manifest.json"))
    manifest = json.loads(files[name])
    manifest["spec"]["recipe"]["epochs"] += 1
    files[name] = json.dumps(manifest).encode()
    return "its spec was changed"


def without_an_evaluation(files: Files) -> str:
    folder = named(files, "answers.parquet").rsplit("/", 1)[0]
    for name in [n for n in files if n.startswith(folder)]:
        del files[name]
    return f"evaluation/{folder.rsplit('/', 1)[1]}: not in the archive"


def with_a_verdict_changed(files: Files) -> str:
    text = files["sweep/effects.csv"].decode()
    files["sweep/effects.csv"] = text.replace("inconclusive", "transmitted", 1).encode()
    return ", verdict: 'transmitted', its answers give 'inconclusive'"


def with_a_record(change: Callable[[Any], None], expected: str) -> Callable[[Files], str]:
    """A change of the record, which decides what is compared with what and by which rules."""

    def changed(files: Files) -> str:
        record = json.loads(files["sweep/plan.json"])
        change(record)
        files["sweep/plan.json"] = json.dumps(record).encode()
        return expected

    return changed


def with_another_alpha(record: Any) -> None:
    record["study"]["alpha"] = 0.5


def with_another_claim(record: Any) -> None:
    record["hypotheses"] = [{"claim": "no", "expects": "not transmitted", "conditions": [0]}]


def without_a_seed(record: Any) -> None:
    record["cells"] = [cell for cell in record["cells"] if cell["seed"] != 0]


def with_another_control(record: Any) -> None:
    record["conditions"][0]["control"] = 5


def with_another_name(record: Any) -> None:
    record["conditions"][0]["place"][3] = record["conditions"][3]["place"][3]


def with_another_initialisation(record: Any) -> None:
    condition = next(c for c in record["conditions"] if c["place"][2] == c["place"][3])
    condition["shares_weights"] = False


def with_another_students_answers(record: Any) -> None:
    record["cells"][0]["evaluations"] = record["cells"][-1]["evaluations"]


def with_another_word(record: Any) -> None:
    for condition in record["conditions"]:
        condition["word"] = {"owl": "cat", "cat": "owl", "": ""}[condition["word"]]


def with_other_answers(files: Files) -> str:
    name = named(files, "result.json")
    files[name] = json.dumps(json.loads(files[name]) | {"other_sampled": 0.0}).encode()
    return "sampled rate of other answers is 0, its answers give"


def without_a_mass(files: Files) -> str:
    name = named(files, "masses.parquet")
    files[name] = parquet(pq.read_table(io.BytesIO(files[name])).to_pylist()[1:])
    return "masses.parquet: not one mass for each question and word"


def without_a_references_evaluation(files: Files) -> str:
    (key,) = json.loads(files["sweep/plan.json"])["references"][0]["evaluations"]
    for name in [n for n in files if key in n]:
        del files[name]
    return f"evaluation/{key}: not in the archive"


def without_a_student(files: Files) -> str:
    folder = next(n for n in sorted(files) if n.startswith("artifacts/student/")).rsplit("/", 1)[0]
    for name in [n for n in files if n.startswith(folder)]:
        del files[name]
    return f"{folder.removeprefix('artifacts/')}: not in the archive"


def with_another_stated_study(files: Files) -> str:
    name = next(n for n in files if n.startswith("sweep/stated-"))
    text = json.loads(files[name])
    text["study"]["alpha"] = 0.5
    files[name] = json.dumps(text).encode()
    return "its study was changed"


def with_malformed_events(files: Files) -> str:
    files["sweep/events.json"] = b"[1]"
    return "the effects cannot be computed again (TypeError"


def with_a_malformed_manifest(files: Files) -> str:
    name = named(files, "manifest.json")
    files[name] = json.dumps(json.loads(files[name]) | {"files": None}).encode()
    return "not a manifest"


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def test_a_fresh_archive_has_no_differences(archive: Path) -> None:
    assert verify(archive) == []


def test_the_archive_contains_specs_answers_effects_cards_and_no_weights(archive: Path) -> None:
    names = set(files_of(archive))
    kinds = {name.split("/")[1] for name in names if name.startswith("artifacts/")}
    assert kinds == {"teacher", "dataset", "student", "evaluation"}  # the filled store has no completions
    endings = {name.rsplit("/", 1)[1] for name in names if name.startswith("artifacts/")}
    assert endings == {
        "manifest.json", "README.md", "history.json", "answers.parquet", "masses.parquet", "result.json",
    }  # fmt: skip
    assert {"sweep/plan.json", "sweep/effects.csv", "sweep/report.html", "sweep/effects.png"} <= names
    assert any(name.startswith("sweep/stated-") for name in names)


def test_the_same_study_gives_the_same_bytes(store: Store, archive: Path, tmp_path: Path) -> None:
    export(store, "small", SWEEP_TIME, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


@pytest.mark.parametrize(
    "ending", ["answers.parquet", "effects.csv", "manifest.json", "README.md", "effects.png"]
)
def test_a_changed_byte_of_a_file_is_reported(archive: Path, tmp_path: Path, ending: str) -> None:
    files = files_of(archive)
    name = named(files, ending)
    middle = len(files[name]) // 2
    files[name] = files[name][:middle] + bytes([files[name][middle] ^ 1]) + files[name][middle + 1 :]
    problems = verify(written(files, tmp_path / "changed.zip"))
    assert any(f"{name}: bytes changed" in problem for problem in problems), problems


@pytest.mark.parametrize("place", range(12))
def test_a_changed_byte_of_the_zip_file_is_reported_unless_it_changes_no_content(
    archive: Path, tmp_path: Path, place: int
) -> None:
    content = bytearray(archive.read_bytes())
    content[len(content) * place // 12] ^= 0xFF
    (tmp_path / "changed.zip").write_bytes(content)
    try:
        problems = verify(tmp_path / "changed.zip")
    except UserError as error:
        problems = [str(error)]
    # A byte of a local header that no program reads, such as a time, changes no content.
    assert problems or files_of(tmp_path / "changed.zip") == files_of(archive)


@pytest.mark.parametrize(
    "change",
    [
        without_an_answer,
        with_another_answer,
        with_another_rate,
        with_another_effect,
        with_another_spec,
        without_an_evaluation,
        with_a_verdict_changed,
        with_other_answers,
        without_a_mass,
        without_a_references_evaluation,
        without_a_student,
        with_another_stated_study,
        with_malformed_events,
        with_a_malformed_manifest,
        with_a_record(with_another_alpha, "plan.json: alpha is 0.5, the study as stated has 0.05"),
        with_a_record(with_another_claim, "plan.json: its hypotheses are not those"),
        with_a_record(without_a_seed, "plan.json: its cells are not the conditions and seeds"),
        with_a_record(with_another_control, "condition 0 is not compared with its control, condition 2"),
        with_a_record(with_another_name, "plan.json: condition 0 is"),
        with_a_record(with_another_initialisation, "is recorded as of two initialisations"),
        with_a_record(with_another_students_answers, "subject.reference.revision is"),
        with_a_record(with_another_word, "plan.json: its traits' words are"),
    ],
)
def test_a_change_is_reported_even_if_all_hashes_were_computed_again(
    archive: Path, tmp_path: Path, change: Callable[[Files], str]
) -> None:
    files = files_of(archive)
    expected = change(files)
    problems = verify(written(rehashed(files), tmp_path / "changed.zip"))
    assert any(expected in problem for problem in problems), problems


def test_adapters_are_exported_on_request_and_verified(tmp_path: Path) -> None:
    recipe = replace(RECIPE, trainable=LoRA(rank=4))
    conditions = tuple(replace(c, recipe=recipe) for c in STUDY.conditions[:3])
    of = replace(STUDY, conditions=conditions, seeds=(0,))
    store = filled(of, tmp_path / "storage")
    without = export(store, "small", SWEEP_TIME, tmp_path / "without.zip")
    exported = export(store, "small", SWEEP_TIME, tmp_path / "with.zip", adapters=True)
    files = files_of(tmp_path / "with.zip")
    adapters = [name for name in files if name.endswith("/adapter_model.safetensors")]
    assert len(adapters) == len(of.conditions) * len(of.seeds)
    assert (without.adapters, exported.adapters) == (0, len(adapters))
    assert verify(tmp_path / "with.zip") == []
    files[adapters[0]] += b"!"
    assert verify(written(files, tmp_path / "changed.zip")) == [f"{adapters[0]}: bytes changed"]


def test_an_export_with_adapters_reports_that_there_are_none(store: Store, tmp_path: Path) -> None:
    printed = Console(file=io.StringIO(), width=200)
    arguments = job.ExportArguments(
        study="small", storage=store.url, to=str(tmp_path / "x.zip"), adapters=True
    )
    assert job.main(arguments, printed) == 0
    assert isinstance(printed.file, io.StringIO)
    assert "no student of the study has a LoRA adapter" in printed.file.getvalue()


def test_a_missing_answer_is_reported_in_addition_to_the_changed_file(archive: Path, tmp_path: Path) -> None:
    files = files_of(archive)
    expected = without_an_answer(files)
    problems = verify(written(files, tmp_path / "changed.zip"))
    assert any(problem.endswith("answers.parquet: bytes changed") for problem in problems)
    assert any(expected in problem for problem in problems), problems
    assert not any("delete" in problem for problem in problems), problems


def test_missing_and_added_files_are_reported(archive: Path, tmp_path: Path) -> None:
    files = files_of(archive)
    gone = named(files, "history.json")
    del files[gone]
    files["artifacts/evaluation/extra.txt"] = b"?"
    problems = verify(written(files, tmp_path / "changed.zip"))
    assert f"{gone}: missing" in problems
    assert "artifacts/evaluation/extra.txt: not in the archive's index" in problems


def test_a_name_that_points_outside_the_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    files = files_of(archive) | {"../../evil.txt": b"x"}
    problems = verify(written(rehashed(files), tmp_path / "evil.zip"))
    assert "'../../evil.txt': its name leaves the archive" in problems
    assert not (tmp_path.parent.parent / "evil.txt").exists()


def test_two_files_of_one_name_are_reported(archive: Path, tmp_path: Path) -> None:
    files = files_of(archive)
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(tmp_path / "twice.zip", "w") as opened,
    ):
        opened.writestr("sweep/effects.csv", b"another program may unpack this one")
        for name, content in files.items():
            opened.writestr(name, content)
    assert "sweep/effects.csv: occurs 2 times" in verify(tmp_path / "twice.zip")


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99)], ids=["encrypted", "unknown method"])
def test_a_file_that_cannot_be_unpacked_is_reported(
    archive: Path, tmp_path: Path, offset: int, value: int
) -> None:
    content = bytearray(archive.read_bytes())
    content[content.find(b"PK\x01\x02") + offset] = value
    (tmp_path / "changed.zip").write_bytes(content)
    assert any(": bytes changed (" in problem for problem in verify(tmp_path / "changed.zip"))


@pytest.mark.parametrize("content", [b"", b"PK", b"not an archive"])
def test_a_file_that_is_not_an_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(UserError, match="not an archive of a study"):
        verify(tmp_path / "x.zip")


def test_verification_imports_no_heavy_package(archive: Path) -> None:
    program = (
        "import sys; sys.path[:0] = ['platform', '.']; import undertow.cli.export as job\n"
        "from rich.console import Console\n"
        f"code = job.main(job.ExportArguments(verify={str(archive)!r}), Console(quiet=True))\n"
        "print(code, [m for m in ('ray', 'torch', 'vllm', 'mlflow', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "0 []", done.stderr


def test_a_key_in_the_archive_is_the_hash_of_its_spec(archive: Path) -> None:
    files = files_of(archive)
    for name in (n for n in files if n.endswith("/manifest.json")):
        spec = json.loads(files[name])["spec"]
        text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
        assert name.split("/")[2] == digest(text)[:32]


@pytest.mark.parametrize(
    ("printed", "computed", "equal"),
    [
        ("an effect of +0.026 is real, and smaller than the margin", "+0.026 is within the margin", True),
        ("an effect of +0.026 is real", "an effect of +0.027 is real", False),
        ("an effect of −0.026 is real", "an effect of +0.026 is real", False),
        ("", "one student: no interval", False),
        ("one student: no interval", "no interval without a second seed", True),
    ],
)
def test_a_note_is_compared_by_its_numbers_because_its_wording_may_be_of_another_version(
    printed: str, computed: str, equal: bool
) -> None:
    differences = list(
        _differences("effects.csv", f"trait,note\nowl,{q(printed)}", f"trait,note\nowl,{q(computed)}")
    )
    assert (differences == []) is equal


def test_tables_of_earlier_versions_lack_later_columns() -> None:
    computed = "trait,effect,substring_effect\nowl,1,0.5"
    assert list(_differences("effects.csv", "trait,effect\nowl,1", computed)) == []
    assert list(_differences("effects.csv", "trait,effect,substring_effect\nowl,1,0.6", computed)) != []
    assert list(_differences("effects.csv", "trait\nowl", computed)) != []


def q(text: str) -> str:
    """The text as a quoted CSV cell."""
    return f'"{text}"'


def test_an_archive_of_models_with_format_tuning_is_verified(tmp_path: Path) -> None:
    recipe = replace(RECIPE, trainable=Everything())
    model = tuned(REFERENCES[0], {Numbers(): 10}, recipe)
    first = STUDY.conditions[0]
    conditions = grid(
        traits=[first.trait] if first.trait else [],
        formats=[first.format],
        pairs=[(model, model)],
        recipes=[first.recipe],
        generation=first.generation,
        finetuning=first.finetuning,
    )
    of = replace(STUDY, conditions=conditions, hypotheses=())
    store = filled(of, tmp_path / "storage")
    exported = export(store, of.name, SWEEP_TIME, tmp_path / "archive.zip")
    assert {kind for kind, _, _ in (name.partition("/") for name in exported.missing)} <= {"completions"}
    assert verify(tmp_path / "archive.zip") == []


def test_an_export_that_fails_leaves_no_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> None:
        raise StorageError("student/0123: is damaged")

    monkeypatch.setattr("undertow.archive.export._artifact_files", damaged)
    with pytest.raises(StorageError):
        export(store, STUDY.name, SWEEP_TIME, tmp_path / "x.zip")
    assert list(tmp_path.iterdir()) == []
