"""Placement groups that outlive whoever asked for them, and hold CPUs and GPUs that nobody uses any more.

A Ray Train controller asks for the places of its workers. Where it dies with its node, Ray keeps them until
the job ends, and moves them to the next node that joins, where they keep out the training that is begun
again. Train has a cleaner for this; but that asks the dashboard's API who is alive, which a Ray without a
dashboard (one of our own, for one) does not have, and then it asks for ever. Ray's own table knows, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from undertow.cluster.background import meanwhile

SECONDS_BETWEEN_LOOKS = 5.0


def drop_orphans() -> int:
    """Removes this job's placement groups whose creator is dead; how many there were."""
    import ray
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    job, dropped = ray.get_runtime_context().get_job_id(), 0
    for content in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(content)
        ours = group.creator_job_id.hex() == job and not group.is_detached
        # Of what a driver asked for (Tune's trials) Ray says that the actor is dead: there is none.
        left = group.creator_actor_dead and not ray.ActorID(group.creator_actor_id).is_nil()
        if ours and left and group.state != PlacementGroupTableData.REMOVED:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
            dropped += 1
    return dropped


@contextmanager
def no_orphans() -> Iterator[None]:
    """Drops them every few seconds for as long as the block runs."""

    def look() -> None:
        with suppress(Exception):  # a cluster that does not answer now is asked again
            drop_orphans()

    with meanwhile(SECONDS_BETWEEN_LOOKS, look):
        yield
