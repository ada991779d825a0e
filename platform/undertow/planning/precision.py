"""Resolves the precision "auto" of reference models and recipes when a study is planned.

The result of a study depends on its precision, so the plan decides it once, and the specs and keys of all
artifacts state it. It never depends on which node happens to make an artifact.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from undertow.planning.given_models import is_nano
from undertow.study.fields import Spec, class_of, inner_fields
from undertow.study.references import Reference
from undertow.study.study import Study

AUTO = "auto"


def with_precision(study: Study, supports_bf16: Callable[[], bool]) -> Study:
    """The study with "auto" replaced, wherever it occurs, by "bf16" if it is supported, else by "fp32".

    A nano model, an API model or an external teacher keeps the default instead.

    Args:
        supports_bf16: whether all nodes support bf16. Called at most once, and only if there is an "auto".
    """
    supported = cache(supports_bf16)
    seen: dict[int, tuple[Any, Any]] = {}  # by identity: equal specs may differ in their display names

    def replaced(value: Any) -> Any:
        if not isinstance(value, (Spec, tuple)):
            return value
        if id(value) not in seen:
            new = replaced_tuple(value) if isinstance(value, tuple) else replaced_spec(value)
            seen[id(value)] = (value, new)  # with the value, which keeps its id from being used again
        return seen[id(value)][1]

    def replaced_tuple(values: tuple[Any, ...]) -> tuple[Any, ...]:
        new = tuple(map(replaced, values))
        return values if all(a is b for a, b in zip(new, values, strict=True)) else new

    def replaced_spec(spec: Spec) -> Spec:
        old = {name: getattr(spec, name) for name in inner_fields(class_of(spec))}
        changes = {name: new for name, value in old.items() if (new := replaced(value)) is not value}
        if getattr(spec, "precision", "") == AUTO:
            is_fixed = isinstance(spec, Reference) and (spec.is_api or spec.is_external or is_nano(spec))
            changes["precision"] = "" if is_fixed else "bf16" if supported() else "fp32"
        return spec.changed(**changes) if changes else spec

    result: Study = replaced(study)
    return result


def precision_note(reference: Reference) -> str:
    """A line for the plan if the precision of a model's engine is stated; "" otherwise."""
    return f"{reference.label}: its engine computes in {reference.precision}" if reference.precision else ""
