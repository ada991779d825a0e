"""Placement groups that outlive their creator and still hold CPUs and GPUs.

A Ray Train controller reserves the resources of its workers in a placement group. If the controller dies with
its node, Ray keeps the group until the job ends and moves it to the next node that joins, where it blocks the
training that starts again. Train has a cleaner for such groups, but it asks the dashboard's API which actors
are alive. A local sweep starts Ray without a dashboard, so the API never answers; Ray's control store has the
same information.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from undertow.cluster.background import repeating

SECONDS_BETWEEN_CHECKS = 5.0


def remove_orphans() -> int:
    """Removes this job's placement groups whose creator is dead; returns how many."""
    import ray
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    # The public `placement_group_table` lacks the creator, so this reads the table of Ray's control store.
    job, removed = ray.get_runtime_context().get_job_id(), 0
    for content in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(content)
        is_ours = group.creator_job_id.hex() == job and not group.is_detached
        # For groups that a driver created (Tune's trials) Ray reports a dead actor, although there is none.
        is_orphan = group.creator_actor_dead and not ray.ActorID(group.creator_actor_id).is_nil()
        if is_ours and is_orphan and group.state != PlacementGroupTableData.REMOVED:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
            removed += 1
    return removed


@contextmanager
def without_orphans() -> Iterator[None]:
    """Removes orphans every few seconds while the block runs."""

    def check() -> None:
        with suppress(Exception):  # a cluster that does not answer now is asked again
            remove_orphans()

    with repeating(SECONDS_BETWEEN_CHECKS, check):
        yield
