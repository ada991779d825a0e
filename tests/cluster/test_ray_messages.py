"""Tests of how Ray's messages to the driver are printed."""

import pytest
from ray._private import worker

from undertow.cluster.ray_messages import print_plainly

MANY_WORKERS = (
    "WARNING: 8 PYTHON worker processes have been started on node: 1a2b with address: 10.0.0.1. This could "
    "be a result of using a large number of actors."
)
LOST = (
    "The node with node id: 8f2c1d04aa and address: 10.0.0.9 and node name: gpu3 has been marked dead "
    "because the detector has missed too many heartbeats from it. This can happen when a \t(1) raylet "
    "crashes unexpectedly (OOM, etc.) \n\t(2) raylet has lagging heartbeats due to slow network."
)
LINES = {
    "the number of worker processes": (MANY_WORKERS, ""),
    "a lost node": (
        LOST,
        "node 10.0.0.9 (8f2c1d04) left the cluster; its work is done again on other nodes\n",
    ),
    "an ended raylet": (
        "Raylet is terminated. Last 20 lines of the Raylet logs:\n  main\n  __libc_start_main",
        "Ray: Raylet is terminated.\n",
    ),
    "a long one": (f"a {'b' * 400}", f"Ray: a {'b' * 296} …\n"),
    "another": (
        "A worker was killed\n\tdue to memory pressure",
        "Ray: A worker was killed due to memory pressure\n",
    ),
}


@pytest.mark.parametrize(("message", "line"), LINES.values(), ids=LINES.keys())
def test_each_message_of_ray_is_one_plain_line(
    message: str, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)  # restored after the test
    print_plainly()
    worker.print_to_stdstream({"lines": [message], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    assert capsys.readouterr().out == line
