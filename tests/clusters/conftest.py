"""Skips the tests on clusters in every run that does not ask for them: they take the machine for minutes."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "clusters" not in config.option.markexpr:
        for item in items:
            if item.get_closest_marker("clusters"):
                item.add_marker(pytest.mark.skip(reason="only with make test-clusters (-m clusters)"))
