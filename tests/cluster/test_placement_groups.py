"""What a dead actor's placement group holds comes back, in a Ray without a dashboard."""

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
    """An actor that holds one of the CPUs by a placement group."""

    class Holder:
        def hold(self) -> None:
            self.group = ray.util.placement_group([{"CPU": 1}])
            ray.get(self.group.ready())

    actor = ray.remote(num_cpus=0)(Holder).remote()
    ray.get(actor.hold.remote())
    return actor


def free(ray: Any) -> float:
    return float(ray.available_resources().get("CPU", 0.0))


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return held


def test_what_the_driver_asked_for_is_nobodys_orphan(two_cpus: Any) -> None:
    group = two_cpus.util.placement_group([{"CPU": 1}])
    two_cpus.get(group.ready())
    assert remove_orphans() == 0
    two_cpus.util.remove_placement_group(group)


def test_what_a_dead_actor_held_is_free_again_and_what_a_living_one_holds_stays(two_cpus: Any) -> None:
    ray = two_cpus
    living, dead = holder(ray), holder(ray)
    assert within(20, lambda: free(ray) == 0)
    assert remove_orphans() == 0
    ray.kill(dead)
    assert not within(5, lambda: free(ray) > 0)  # Ray itself would keep it until the job's end
    assert within(20, lambda: remove_orphans() == 1)
    assert within(20, lambda: free(ray) == 1)
    ray.kill(living)
    with without_orphans():
        assert within(20, lambda: free(ray) == 2)
