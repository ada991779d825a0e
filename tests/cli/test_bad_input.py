"""Invalid input of many kinds: every invalid file or argument is reported in one line that names its place.

The exit code is 2. There is never a traceback and never a hang. Files of the storage are input, too: disks
fill up, people edit files, and object stores can return half a file.
"""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.examples import RECIPE, REFERENCES, TEACHER, study
from tests.filled_store import fill
from undertow.cli import detect, export, power, report, sweep
from undertow.errors import StorageError, UserError
from undertow.formats.numbers import Numbers
from undertow.planning import timings
from undertow.planning.plan import Plan
from undertow.prompts import data_files, packs
from undertow.report.make import make_report
from undertow.results import events as event_log
from undertow.results.sweep_folders import PLAN
from undertow.results.sweep_record import Record
from undertow.storage.manifest import MANIFEST, Manifest
from undertow.storage.store import Store
from undertow.study.grids import grid
from undertow.study.teachers import Finetuning
from undertow.traits.preference import Preference

ROOT = Path(__file__).parents[2]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
MANY = settings(
    max_examples=1000,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
UNUSUAL = (
    "",
    "\0",
    "\u202eowl",
    "🦉" * 10,
    "x" * 10_000,
    "../..",
    "/",
    "[red]",
    "{0}",
    "%s",
    "-1",
    "nan",
    "1e999",
)


def rejection(
    job: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *argv: str
) -> str:
    """The output of a script for invalid arguments. It must exit with code 2, without a traceback."""
    monkeypatch.setattr("sys.argv", ["job", *argv])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "jobs" / f"{job.__name__.split('.')[-1]}.py"), run_name="__main__")
    output = capsys.readouterr()
    assert ended.value.code == 2, output
    assert "Traceback" not in output.out + output.err
    return output.err + output.out


def changed(content: Any, data: st.DataObject) -> Any:
    """JSON data in which one value, at a random depth, is replaced or removed."""
    if isinstance(content, dict) and content and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(content)))
        if data.draw(st.integers(0, 5)) == 0:
            return {other: value for other, value in content.items() if other != name}
        return {**content, name: changed(content[name], data)}
    if isinstance(content, list) and content and data.draw(st.booleans()):
        index = data.draw(st.integers(0, len(content) - 1))
        return [*content[:index], changed(content[index], data), *content[index + 1 :]]
    return data.draw(JSON)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    """A filled store of one trait and its control on one reference model, and its plan."""
    store = Store(str(tmp_path_factory.mktemp("bad") / "storage"))
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(REFERENCES[0], REFERENCES[0])],
        recipes=[RECIPE],
        finetuning=Finetuning(TEACHER, examples=300),
    )
    return fill(study(conditions=conditions, seeds=(0, 1)), store, REFERENCES), store


@pytest.fixture(scope="module")
def record(plan: tuple[Plan, Store]) -> Any:
    """The content of the plan's plan.json."""
    return json.loads(Record.of(plan[0]).to_json())


@MANY
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode) | JSON.map(json.dumps).map(str.encode))
def test_any_file_is_read_as_a_table_or_pack_or_reported_by_name(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "anything"
    file.write_bytes(content)
    readers: tuple[Callable[[str], object], ...] = (
        lambda path: data_files.read(path, ("prompt",)),
        data_files.pairs,
        data_files.prompts,
        packs.read,
    )
    for read in readers:
        for cached in (data_files.read, data_files.chats, data_files.pairs, data_files.prompts, packs.read):
            cached.cache_clear()
        try:
            read(str(file))
        except UserError as error:
            assert str(file) in str(error)
            assert "\n" not in str(error).strip()


@settings(MANY, max_examples=300)
@given(st.data())
def test_a_changed_plan_is_read_or_reported(record: Any, data: st.DataObject) -> None:
    try:
        found = Record.from_json(json.dumps(changed(record, data)), "here")
    except StorageError as error:
        assert str(error).startswith("here: not a sweep's plan")
    else:
        assert Record.from_json(found.to_json(), "here") == found or "NaN" in found.to_json()


@MANY
@given(st.data())
def test_a_changed_manifest_is_read_or_reported(plan: tuple[Plan, Store], data: st.DataObject) -> None:
    made, store = plan
    student = made.cells[0].student
    content = json.loads(store.manifest(student).to_json())
    try:
        manifest = Manifest.from_json(json.dumps(changed(content, data)), "here")
    except StorageError as error:
        assert str(error).startswith("here: ")
    else:
        assert all(not name.startswith("/") and ".." not in name.split("/") for name in manifest.files)


@MANY
@given(st.data())
def test_changed_events_and_timings_are_skipped(data: st.DataObject) -> None:
    store = Store("memory://bad-events")
    events = [
        {"time": 1.0, "event": "started", "missing": 2, "versions": {"python": "3.11", "commit": "1f"}},
        {"time": 2.0, "event": "wave", "name": "students", "units": 3, "seconds": 4.0},
        {"time": 2.5, "event": "judged", "kind": "dataset", "key": "1f", "calls": 3},
        {"time": 3.0, "event": "failed", "kind": "student", "key": "1f", "reason": "x", "traceback": ""},
        {"time": 4.0, "event": "finished"},
    ]
    store.write_bytes("sweeps/s/t/events.json", json.dumps(changed(events, data)).encode())
    event_log.failures(event_log.read(store, "s", "t"))
    paces = {"students numbers nano/gpt2-0": {"seconds": 1.0, "tokens": None}}
    store.write_bytes(timings.FILE, json.dumps(changed(paces, data)).encode())
    assert all(isinstance(pace.seconds, float) for pace in timings.read(store).values())


EVENTS = ("started", "wave", "made", "judged", "asked", "failed", "retried", "untracked", "finished", "other")


def read_events(store: Store, content: object) -> list[dict[str, Any]]:
    store.write_bytes("sweeps/small/20200101T000000/events.json", json.dumps(content).encode())
    return event_log.read(store, "small", "20200101T000000")


@pytest.mark.parametrize("event", EVENTS)
def test_events_without_a_valid_time_are_skipped(event: str) -> None:
    store = Store("memory://events-without-time")
    assert read_events(store, [{"event": event}]) == []
    assert read_events(store, [{"event": event, "time": 1e300}, {"event": event, "time": "now"}]) == []


def test_a_report_is_made_from_events_that_lack_fields(plan: tuple[Plan, Store]) -> None:
    made, store = plan
    events = read_events(store, [{"event": event, "time": 1.0} for event in EVENTS])
    kept = {event["event"] for event in events}
    assert kept == {"judged", "asked", "retried", "untracked", "finished", "other"}
    assert make_report(Record.of(made), store, events).rows


@pytest.mark.parametrize(
    ("job", "text"),
    [(report, "plan.json"), (export, "plan.json"), (detect, "plan.json")],
    ids=["report", "export", "detect"],
)
def test_every_script_reports_an_invalid_plan_in_the_storage(
    job: Any, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sweeps" / "owls" / "20200101T000000"
    folder.mkdir(parents=True)
    (folder / PLAN).write_text('{"study": 3}')
    output = rejection(job, capsys, monkeypatch, "--storage", str(tmp_path), "--study", "owls")
    assert text in output.replace("\n", "")


@pytest.mark.parametrize("value", UNUSUAL)
@pytest.mark.parametrize(
    "flag", ["--study", "--storage", "--models", "--files", "--scale", "--seeds", "--workers", "--judge"]
)
def test_unusual_values_on_the_command_line_give_exit_code_0_or_2(
    flag: str,
    value: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["job", "--plan", f"{flag}={value}"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "jobs" / "sweep.py"), run_name="__main__")
    output = capsys.readouterr()
    assert ended.value.code in (0, 2), output
    assert "Traceback" not in output.out + output.err
    assert list(tmp_path.iterdir()) == []


INVALID_STUDIES = {
    "nothing": "",
    "null bytes": "a = '\0'",
    "not utf-8": b"# \xff\xfe\ndef study(): pass",
    "no study": "def study(): pass",
    "raises": "def study(): raise RuntimeError('[red]{0}%s')",
    "exits": "import sys\ndef study(): sys.exit(0)",
    "exits when read": "raise SystemExit",
    "endless": "def study(): return study()",
    "needs more": "def study(a, b): pass",
    "is a builtin": "study = print",
    "has no signature": "study = dict",
    "is a number": "study = 3",
    "imports a missing module": "import nowhere_to_be_found",
    "deep": "x = " + "(" * 500 + ")" * 500,
    "wrong fields": "from undertow.study.study import Study\ndef study(): return Study(name=3, conditions=4)",
    "a lone surrogate": "from undertow.study.study import Study\n"
    "def study(): return Study(name='\\ud800', conditions=())",
}


@pytest.mark.parametrize("content", INVALID_STUDIES.values(), ids=INVALID_STUDIES)
def test_an_invalid_study_file_is_reported_by_name(
    content: str | bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "mine.py"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    storage = str(tmp_path / "storage")
    output = rejection(sweep, capsys, monkeypatch, "--study", str(file), "--storage", storage)
    assert "mine.py" in output
    assert not (tmp_path / "storage").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_TRACKING_URI", "nosuch://place"),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:1"),
        ("UNDERTOW_JUDGE_CONCURRENCY", "many"),
        ("UNDERTOW_JUDGE_URL", "nowhere"),
    ],
)
def test_an_invalid_environment_does_not_prevent_a_plan(
    name: str,
    value: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["job", "--plan", "--storage", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "jobs" / "sweep.py"), run_name="__main__")
    assert ended.value.code == 0, capsys.readouterr()


def test_a_manifest_that_is_a_folder_is_reported(plan: tuple[Plan, Store], tmp_path: Path) -> None:
    store, student = Store(str(tmp_path)), plan[0].cells[0].student
    folder = tmp_path / "artifacts" / "student" / "1f"
    (folder / MANIFEST).mkdir(parents=True)
    assert not store.has(student)
    with pytest.raises(UserError):
        store.manifest(student)


def test_power_reports_an_invalid_pilot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in ("", "a,b\n1,2\n", "\0", "student,rate\nx,nan\n"):
        (tmp_path / "students.csv").write_text(content)
        rejection(
            power, capsys, monkeypatch, "--pilot", str(tmp_path), "--effect", "0.1", "--conditions", "2"
        )
