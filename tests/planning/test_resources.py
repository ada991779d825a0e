"""Tests of how the CPUs and GPUs of nodes are divided among engines and worker groups."""

import math

import pytest

from undertow.errors import UserError
from undertow.planning.resources import Layout, Machine, Node, parts_of, planned, waiting_line

EIGHT = Node(cpus=64, gpus=8)
ONE = Node(cpus=8, gpus=1)
HEAD = Node(cpus=4)

# Nodes, layout → concurrent engines, GPUs per engine, concurrent worker groups.
DIVIDED: list[tuple[str, list[Node], Layout, tuple[int, float, int]]] = [
    ("one CPU per engine", [Node(2)], Layout(), (2, 0, 2)),
    ("CPUs of three nodes", [Node(1), Node(1), Node(2)], Layout(workers=2), (4, 0, 2)),
    ("GPUs, if there are any", [HEAD, ONE, ONE], Layout(), (2, 1, 2)),
    ("a worker group spans nodes", [HEAD, ONE, ONE], Layout(workers=2), (2, 1, 1)),
    ("tensor parallel over four", [EIGHT], Layout(gpus_per_engine=4), (2, 4, 8)),
    ("an engine runs on one node", [Node(32, 4)] * 3, Layout(gpus_per_engine=3), (3, 3, 12)),
    ("too small nodes hold no engine", [ONE, EIGHT], Layout(gpus_per_engine=8), (1, 8, 9)),
    ("four engines per GPU", [ONE, ONE], Layout(gpus_per_engine=0.25), (8, 0.25, 2)),
    ("0.33 means three engines per GPU", [ONE], Layout(gpus_per_engine=0.33), (3, 0.33, 1)),
    ("each engine also needs a CPU", [Node(cpus=2, gpus=1)], Layout(gpus_per_engine=0.25), (2, 0.25, 1)),
    ("fewer engines by --engines", [EIGHT], Layout(engines=2), (2, 1, 8)),
    ("limits above the capacity", [Node(2)], Layout(engines=9, trainings=9), (2, 0, 2)),
    ("fewer trainings by --trainings", [EIGHT], Layout(trainings=3), (8, 1, 3)),
]


@pytest.mark.parametrize(
    ("nodes", "layout", "expected"), [row[1:] for row in DIVIDED], ids=[row[0] for row in DIVIDED]
)
def test_nodes_are_divided_among_engines_and_worker_groups(
    nodes: list[Node], layout: Layout, expected: tuple[int, float, int]
) -> None:
    machine = Machine.of(nodes, layout)
    assert (machine.actors, machine.gpus_per_engine, machine.slots) == expected
    assert machine.gpus_per_worker == (1 if any(node.gpus for node in nodes) else 0)


def test_the_types_of_gpus_are_known_as_far_as_nodes_state_them() -> None:
    nodes = [HEAD, Node(8, 1, "H100"), Node(8, 1, "L4"), Node(8, 0, "T4")]
    assert Machine.of(nodes, Layout()).gpu_types == {"H100", "L4"}
    assert Machine.of([*nodes, ONE], Layout()).gpu_types == {"H100", "L4", ""}


@pytest.mark.parametrize(
    ("nodes", "layout", "message"),
    [
        ([Node(2)], {"workers": 3}, "--workers 3: the machine has 2 CPUs; use at most 2"),
        ([HEAD, ONE], {"workers": 2}, "--workers 2: the machine has 1 GPUs; use at most 1"),
        ([ONE, ONE], {"gpus_per_engine": 2}, "no node has more than 1 GPUs.*use at most 1"),
        ([EIGHT], {"gpus_per_engine": 1.5}, "--gpus-per-engine 1.5: a whole number"),
        ([EIGHT], {"gpus_per_engine": 0.4}, "--gpus-per-engine 0.4: a whole number.* or a share"),
        ([EIGHT], {"gpus_per_engine": 0}, "--gpus-per-engine 0"),
        ([EIGHT], {"engines": 0}, "--engines 0: must be at least 1"),
        ([EIGHT], {"workers": 0}, "--workers 0: must be at least 1"),
        ([EIGHT], {"max_num_seqs": -1}, "--max-num-seqs -1: must be at least 1"),
    ],
)
def test_a_layout_that_does_not_fit_is_rejected(
    nodes: list[Node], layout: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Machine.of(nodes, Layout(**layout))  # type: ignore[arg-type]


def test_the_settings_of_an_engine_follow_from_the_layout() -> None:
    assert Machine.of([Node(2)], Layout()).engine_settings() == {"threads": 1}
    assert Machine.of([EIGHT], Layout(gpus_per_engine=4)).engine_settings() == {"tensor_parallel": 4}
    assert Machine.of([EIGHT], Layout(gpus_per_engine=0.5, max_num_seqs=64)).engine_settings() == {
        "gpu_share": 0.5,
        "max_num_seqs": 64,
    }


# Nodes, layout → engines and CPUs of each, worker groups and CPUs of each worker.
CORES: list[tuple[str, list[Node], Layout, tuple[int, int, int, int]]] = [
    ("one machine", [Node(16)], Layout(), (1, 16, 1, 16)),
    ("two workers", [Node(16)], Layout(workers=2), (1, 16, 1, 8)),
    ("three engines and trainings", [Node(16)], Layout(engines=3, trainings=3), (3, 5, 3, 5)),
    ("more trainings than cores", [Node(2)], Layout(trainings=9), (1, 2, 2, 1)),
    ("one engine and group per node", [Node(8), Node(4)], Layout(), (2, 4, 2, 4)),
    ("workers do not fit where all CPUs together would", [Node(8), Node(8)], Layout(workers=3), (2, 8, 1, 4)),
    ("nor do engines", [Node(8), Node(8)], Layout(engines=3), (3, 4, 2, 8)),
    ("a group spans nodes", [Node(8), Node(8), Node(8)], Layout(workers=2), (3, 8, 1, 8)),
]


@pytest.mark.parametrize(
    ("nodes", "layout", "expected"), [row[1:] for row in CORES], ids=[row[0] for row in CORES]
)
def test_models_that_are_not_tiny_use_all_cores(
    nodes: list[Node], layout: Layout, expected: tuple[int, int, int, int]
) -> None:
    machine = Machine.of(nodes, layout)
    whole = machine.for_models(tiny=False)
    assert (whole.actors, whole.cpus_per_engine, whole.slots, whole.cpus_per_worker) == expected
    assert whole.engine_settings() == {"threads": expected[1]}
    assert machine.for_models(tiny=True) == machine


def test_on_gpus_all_models_share_one_division() -> None:
    machine = Machine.of([EIGHT], Layout())
    assert machine.for_models(tiny=False) == machine
    assert "threads" not in machine.engine_settings()


def test_concurrent_pipelines_share_the_engines() -> None:
    machine = Machine.of([EIGHT], Layout())
    assert machine.share(3).actors == 2
    assert machine.share(20).actors == 1


def test_declared_gpus_that_start_on_demand_are_planned_for() -> None:
    assert planned([HEAD], {}) == [HEAD]
    assert Machine.of(planned([HEAD], {"UNDERTOW_GPUS": "8x1"}), Layout(workers=4)).slots == 2
    assert Machine.of(planned([HEAD, ONE], {"UNDERTOW_GPUS": "2x8"}), Layout(gpus_per_engine=8)).actors == 2
    assert planned([HEAD, EIGHT, EIGHT], {"UNDERTOW_GPUS": "8x1"}) == [HEAD, EIGHT, EIGHT]


def test_declared_cpus_that_start_on_demand_are_planned_for() -> None:
    without = Node(cpus=0)
    assert planned([without], {"UNDERTOW_CPUS": "4x16"}) == [Node(16)] * 4
    assert Machine.of(planned([without], {"UNDERTOW_CPUS": "4x16"}), Layout(workers=2)).slots == 32
    assert planned([HEAD, Node(64)], {"UNDERTOW_CPUS": "2x16"}) == [HEAD, Node(64)]
    assert planned([HEAD, ONE], {"UNDERTOW_CPUS": "4x16"}) == [HEAD, ONE], "GPUs come first"
    both = {"UNDERTOW_GPUS": "8x1", "UNDERTOW_CPUS": "4x16"}
    assert [node.gpus for node in planned([without], both)] == [1] * 8


def test_one_line_says_how_many_declared_resources_are_waited_for() -> None:
    rest = "are running; the cluster starts the others when there is work"
    assert waiting_line([Node(0)], [Node(16)] * 4) == f"waiting for nodes: 0 of the 64 declared CPUs {rest}"
    assert waiting_line([HEAD, ONE], [ONE] * 8) == f"waiting for nodes: 1 of the 8 declared GPUs {rest}"


def test_a_cluster_without_any_resources_names_the_variables_to_set() -> None:
    with pytest.raises(UserError, match=r"no CPUs and no GPUs now; .* UNDERTOW_GPUS=8x1 .* UNDERTOW_CPUS="):
        planned([Node(cpus=0)], {})


@pytest.mark.parametrize("text", ["8", "8x", "x1", "0x1", "8x-1", "many"])
@pytest.mark.parametrize("unit", ["GPU", "CPU"])
def test_an_invalid_declaration_is_rejected(unit: str, text: str) -> None:
    with pytest.raises(UserError, match=rf"UNDERTOW_{unit}S = '{text}': write NODESx{unit}S, such as 8x1"):
        planned([HEAD], {f"UNDERTOW_{unit}S": text})


# The numbers of models of conditions, slots → worker groups per condition.
PARTS: list[tuple[str, list[int], int, int]] = [
    ("as many groups as slots", [5] * 4, 4, 1),
    ("more slots than conditions", [5] * 4, 8, 2),
    ("more slots than models", [5] * 4, 64, 16),
    ("one slot", [30] * 9, 1, 1),
    ("many small conditions fill the slots", [5] * 54, 8, 1),
    ("a condition more than slots", [30] * 9, 8, 8),
    ("one of two slots would idle for a third of the time", [30] * 3, 2, 2),
    ("a single model per condition", [1] * 9, 8, 1),
]


@pytest.mark.parametrize(
    ("sizes", "slots", "parts"), [row[1:] for row in PARTS], ids=[row[0] for row in PARTS]
)
def test_conditions_are_divided_so_that_all_slots_work(sizes: list[int], slots: int, parts: int) -> None:
    assert parts_of(sizes, slots) == parts


def test_conditions_are_divided_for_idle_slots_alone_if_starts_are_expensive() -> None:
    assert [parts_of([30] * 9, slots, math.inf) for slots in (1, 8, 18, 64)] == [1, 1, 2, 7]
