"""Tests of the lines that say that a sweep waits for nodes."""

import pytest

from undertow.cluster.node_watch import PATIENCE, NodeWatch

LATE = PATIENCE + 1


@pytest.mark.parametrize(
    ("looks", "begins"),
    [
        pytest.param([(0, 8), (LATE, 4)], [], id="enough nodes for the largest group"),
        pytest.param([(0, 2), (LATE - 2, 2)], [], id="a node that is replaced in time"),
        pytest.param([(0, 2), (60, 4), (LATE, 2)], [], id="two short losses"),
        pytest.param(
            [(0, 2), (LATE, 2), (2 * LATE, 0)],
            ["waiting for nodes: 2 of the 4 GPUs that the sweep needs at once are up"],
            id="a lasting loss is reported once",
        ),
        pytest.param(
            [(0, 0), (LATE, 0), (2 * LATE, 4), (3 * LATE, 4)],
            ["waiting for nodes: 0 of the 4 GPUs", "nodes have joined: 4 GPUs are up"],
            id="nodes that join",
        ),
    ],
)
def test_a_sweep_reports_that_it_waits_for_nodes(looks: list[tuple[float, int]], begins: list[str]) -> None:
    lines: list[str] = []
    watch = NodeWatch(4, "GPUs", "--workers", lines.append)
    for now, up in looks:
        watch.look(up, now)
    assert [line[: len(begin)] for line, begin in zip(lines, begins, strict=True)] == begins
