"""Tests of asking all nodes whether they support bf16."""

import ray

from undertow.cluster import bf16


def test_ray_accepts_the_trial_as_a_task() -> None:
    assert callable(ray.remote(num_cpus=0)(bf16._trial).remote)
