"""Tests that placement groups of dead actors are removed, in a Ray without a dashboard."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from undertow.cluster.placement_groups import remove_orphans, without_orphans

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def two_cpus() -> Iterator[Any]:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def holder(ray: Any) -> Any:
    """An actor that holds one of the CPUs in a placement group."""

    class Holder:
        def hold(self) -> None:
            self.group = ray.util.placement_group([{"CPU": 1}])
            ray.get(self.group.ready())

    actor = ray.remote(num_cpus=0)(Holder).remote()
    ray.get(actor.hold.remote())
    return actor


def free(ray: Any) -> float:
    return float(ray.available_resources().get("CPU", 0.0))


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether `condition` becomes true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return held


def test_a_placement_group_of_the_driver_is_not_an_orphan(two_cpus: Any) -> None:
    group = two_cpus.util.placement_group([{"CPU": 1}])
    two_cpus.get(group.ready())
    assert remove_orphans() == 0
    two_cpus.util.remove_placement_group(group)


def test_only_placement_groups_of_dead_actors_are_removed(two_cpus: Any) -> None:
    ray = two_cpus
    living, dead = holder(ray), holder(ray)
    assert within(20, lambda: free(ray) == 0)
    assert remove_orphans() == 0
    ray.kill(dead)
    assert not within(5, lambda: free(ray) > 0)  # Ray keeps it until the job ends
    assert within(20, lambda: remove_orphans() == 1)
    assert within(20, lambda: free(ray) == 1)
    ray.kill(living)
    with without_orphans():
        assert within(20, lambda: free(ray) == 2)
