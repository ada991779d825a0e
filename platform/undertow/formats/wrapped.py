"""What formats that wrap another format share: the wrapped format's rules, canonical form and parts."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from undertow.study.extensions import Format


class Wrapped:
    """A base class of formats with a field `format` whose rules apply to their completions.

    It is not a `Format` itself, so that `families` does not list it.
    """

    format: Format

    def rejection(self, prompt: str, completion: str) -> str | None:
        return self.format.rejection(prompt, completion)

    def canonical(self, completion: str) -> str:
        return self.format.canonical(completion)

    def implements(self, method: str) -> bool:
        return self.format.implements(method)

    def written(self, prompt: str, rng: random.Random) -> str:
        return self.format.written(prompt, rng)

    def rewritten(self, prompt: str, completion: str, rng: random.Random) -> str:
        return self.format.rewritten(prompt, completion, rng)

    def parts(self, completion: str) -> list[str]:
        return self.format.parts(completion)

    def with_parts(self, completion: str, parts: Sequence[str]) -> str:
        return self.format.with_parts(completion, parts)


def rules_of(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The format whose rules apply to the completions, in canonical JSON as `spec`: the innermost one."""
    inner = spec.get("format")
    return rules_of(inner) if isinstance(inner, Mapping) else spec
