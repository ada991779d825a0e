"""The gate: a teacher that does not show its trait cannot transmit it, so its condition stops.

This module imports nothing heavy: sweeps also apply the gate to evaluations of earlier sweeps.
"""

from undertow.errors import ConditionError
from undertow.results.evaluation_files import Evaluations
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.measurements import Measurement
from undertow.study.steering import ProjectedOut, RandomBias
from undertow.study.teachers import Teacher


def passes_gate(evaluation: Measurement, store: Store, gate: float) -> None:
    """Raises ConditionError if a teacher's sampled rate of its own trait is below the gate."""
    subject = evaluation.subject
    if not isinstance(subject, Teacher) or subject.trait is None or not subject.trait.must_show:
        return
    if isinstance(subject.steering, RandomBias | ProjectedOut):
        return  # the controls of a steered teacher, which need not show the trait
    # A teacher is measured by several sets of questions; only those about its own trait have its word.
    rate = Evaluations(store).rates(key(evaluation)).sampled.get(subject.trait.word().name)
    if rate is not None and rate < gate:
        raise ConditionError(
            f"teacher {key(subject)[:16]} ({subject.reference.label}) shows {subject.trait.name!r} in "
            f"{rate:.1%} of its answers, below the gate of {gate:.0%}; train it longer, change its prompt "
            "or lower Study.gate"
        )
