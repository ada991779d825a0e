"""Tests of chains, in which the students of a condition are the teachers of the next, seed by seed."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.examples import REFERENCES, students, study
from tests.filled_store import fill
from undertow.archive import lineage
from undertow.errors import SpecError
from undertow.planning.plan import Plan, ancestors, failed_by, make, waits
from undertow.report.make import HTML, make_report
from undertow.results.events import EventLog
from undertow.results.sweep_folders import state, stated_file
from undertow.results.sweep_record import Record
from undertow.stages.grouping import groups
from undertow.stages.weights import lora_rank, trained_by, weights_of
from undertow.storage.leases import Leases
from undertow.storage.store import Store
from undertow.study.completions import Completions
from undertow.study.grids import next_hop
from undertow.study.identity import key
from undertow.study.recipe import InContext
from undertow.study.students import Student
from undertow.study.study import Study
from undertow.study.teachers import Teacher
from undertow.sweep.executors import Executors
from undertow.sweep.waves import Waves
from undertow.tracking.link import Link
from undertow.tracking.tracker import Tracker

pytestmark = pytest.mark.slow

FIRST = tuple(c for c in study().conditions if c.teacher == c.student == REFERENCES[0])
HOPS = (FIRST, next_hop(FIRST), next_hop(next_hop(FIRST)))
CHAIN = replace(study("chain"), conditions=tuple(c for hop in HOPS for c in hop))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "storage"))


@pytest.fixture
def plan(store: Store) -> Plan:
    return make(CHAIN, store, REFERENCES)


def test_the_students_of_a_hop_are_the_teachers_of_the_next_hop(plan: Plan) -> None:
    assert plan.hops == 3
    for before, after in zip((*HOPS[0], *HOPS[1]), (*HOPS[1], *HOPS[2]), strict=True):
        taught = students(plan, after)
        for seed, teacher in students(plan, before).items():
            writer = taught[seed].dataset.teacher
            assert writer is not None
            assert writer.student == teacher
            assert writer.trait == before.trait
            assert (writer.system, writer.finetuning) == (None, None)
            assert taught[seed].reference == teacher.reference
            assert teacher in ancestors(taught[seed])


def test_the_label_contains_the_hop_and_the_control_is_also_a_chain() -> None:
    owl = HOPS[2][0]
    assert owl.label == "owl · numbers, hop 3 · nano/gpt2-0 → nano/gpt2-0 · steering"
    assert owl.control() in HOPS[2]
    assert owl.control().after in HOPS[1]
    assert owl.control().after.control() == owl.control().after  # type: ignore[union-attr]


def test_the_first_hop_shares_its_students_with_a_study_without_a_chain() -> None:
    alone = replace(study("chain"), conditions=FIRST)
    apart = {key(cell.student) for cell in make(alone, Store("memory://alone"), REFERENCES).cells}
    whole = {key(cell.student) for cell in make(CHAIN, Store("memory://alone"), REFERENCES).cells}
    assert apart < whole


def test_data_of_a_teaching_student_wait_for_it_and_fail_with_it(plan: Plan) -> None:
    first, second = students(plan, HOPS[0][0])[0], students(plan, HOPS[1][0])[0]
    assert not waits(first.dataset.completions, set())
    assert waits(second.dataset.completions, set())
    assert not waits(second.dataset.completions, {key(first)})
    assert waits(second, {key(first)}) is False
    assert failed_by(second, {key(first): "too few rows"}) == "too few rows"
    order = list(plan.artifacts)
    assert order.index(key(first)) < order.index(key(second.dataset.completions))


def test_each_round_makes_the_students_of_one_hop(plan: Plan, store: Store) -> None:
    """`Leases.share` repeats until nothing is possible, but the students of the next hop have no data yet."""
    store.prepare()
    waves = waves_of(plan, store)
    waves.begin_round()
    made: list[Student] = []

    def make(students: list[Student]) -> None:
        made.extend(students)
        for student in students:
            with store.new(student, {}) as folder:
                (folder / "model.safetensors").write_bytes(b"")

    for hop in HOPS:
        waves.leases.share(lambda: waves.possible(plan.lacking(Student)), make, print)
        assert {key(s) for s in made} == {key(s) for c in hop for s in students(plan, c).values()}
        made.clear()
        waves.begin_round()


def waves_of(plan: Plan, store: Store) -> Waves:
    link, events = Link(lambda: Tracker(CHAIN, store), print, print), EventLog(Record.of(plan), store)
    return Waves(Executors(plan, store, link, events, Console()), Leases(store))


def test_a_teaching_student_has_its_own_weights_and_no_gate(plan: Plan, store: Store) -> None:
    cell = next(cell for cell in plan.cells if cell.condition == HOPS[1][0])
    assert cell.teacher.student is not None
    assert cell.teacher_evaluations == ()
    assert cell.teacher not in plan.artifacts.values()
    assert trained_by(cell.teacher) == HOPS[0][0].recipe
    assert lora_rank(cell.teacher) == 0
    fill(CHAIN, store, REFERENCES)
    found = weights_of(cell.teacher, store)
    assert found == weights_of(cell.teacher.student, store)
    assert found is not None
    assert found.key == key(cell.teacher.student)


def test_all_seeds_of_a_hop_share_a_worker_group(plan: Plan) -> None:
    hop = list(students(plan, HOPS[2][0]).values())
    real = [replace(s, reference=replace(s.reference, name="org/model")) for s in hop]
    assert [len(group.models) for group in groups(real, slots=1)] == [len(hop)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trait": None}, r"Condition\.after = .*: a condition with the same trait and with the student"),
        ({"teacher": REFERENCES[1]}, r"Condition\.after = .*with the student 'nano/gpt2-1' is needed"),
        ({"finetuning": FIRST[0].finetuning}, r"Condition\.finetuning = .*the students of `after`"),
    ],
)
def test_an_invalid_chain_is_rejected(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(HOPS[1][0], **changes)  # type: ignore[arg-type]


def test_in_context_students_cannot_teach() -> None:
    shown = replace(FIRST[0], recipe=InContext(rows=4))
    with pytest.raises(SpecError, match="trained students are needed, not in-context ones"):
        next_hop([shown])


def test_a_record_that_skips_a_hop_contradicts_its_artifacts(store: Store) -> None:
    plan = fill(CHAIN, store, REFERENCES)
    record, sweep = Record.of(plan), Path(store.root) / "sweeps" / "chain" / "now"
    state(CHAIN, store)
    sweep.mkdir(parents=True, exist_ok=True)
    stated = next((Path(store.root) / "sweeps").rglob(stated_file(record).rsplit("/", 1)[-1]))
    (sweep / stated.name).write_bytes(stated.read_bytes())
    artifacts = Path(store.root) / "artifacts"
    assert list(lineage.differences(record, sweep, artifacts, {})) == []
    first, third = record.cells[0], record.cells[2 * len(FIRST) * len(CHAIN.seeds)]
    assert third.earlier
    swapped = replace(third, evaluations=first.evaluations, student=first.student, dataset=first.dataset)
    cells = tuple(swapped if cell == third else cell for cell in record.cells)
    lines = list(lineage.differences(replace(record, cells=cells), sweep, artifacts, {}))
    assert any("subject.dataset.completions.teacher.student is absent" in line for line in lines)


def test_the_artifacts_of_a_hop_include_those_of_earlier_hops(plan: Plan) -> None:
    last = next(cell for cell in plan.cells if cell.condition == HOPS[2][0])
    made = list(last.artifacts())
    kinds = [type(artifact) for artifact in made]
    assert kinds.count(Completions) == kinds.count(Student) == 3
    assert kinds.count(Teacher) == 1
    short: Study = replace(CHAIN, conditions=(*HOPS[2],))
    alone = make(short, Store("memory://chains"), REFERENCES)
    assert {key(artifact) for artifact in made} <= set(alone.artifacts)


def test_the_report_shows_the_hops_of_a_chain(store: Store) -> None:
    record = Record.of(fill(CHAIN, store, REFERENCES))
    report = make_report(record, store, [])
    assert len(report.rows) == sum(c.trait is not None for c in CHAIN.conditions)
    assert "numbers, hop 3" in report.files[HTML].decode()
