"""Fixtures of the tests of the harness, for the test of jobs/benchmark.py."""

from tests.harness.conftest import data, model, no_hub, small_index, tasks

__all__ = ["data", "model", "no_hub", "small_index", "tasks"]
