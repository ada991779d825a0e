"""Short display names."""

from undertow.study.artifacts import AFTER


def short(name: str) -> str:
    """A reference's name without its owner or folder."""
    name, after, learned = name.partition(AFTER)
    return name.rstrip("/").rsplit("/", 1)[-1] + after + learned
