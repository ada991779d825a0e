"""Tests of the check that every node can read the storage, except nodes that left the cluster."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from undertow.cluster.connection import check_reach
from undertow.engines.quiet import quiet
from undertow.storage.store import Store

pytestmark = pytest.mark.stack


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    quiet()
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.second = cluster.add_node(**node)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_a_node_that_left_need_not_read_the_storage(two_nodes: Any, tmp_path: Path) -> None:
    import ray

    store, nodes = Store(str(tmp_path)), ray.nodes()
    assert len(nodes) == 2
    check_reach(store, nodes)
    two_nodes.remove_node(two_nodes.second, allow_graceful=True)
    check_reach(store, nodes)
    assert store.names("partial") == ["aside"]  # the check removed its files
