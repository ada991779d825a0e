"""Training of the probes that a store lacks, in this process.

A probe is trained by the same loop as a sweep's teachers and committed in the same way; only the Ray worker
group is missing.
"""

import shutil
from collections.abc import Callable, Sequence

from undertow.errors import ConditionError, UserError
from undertow.planning.given_models import is_made, model_of
from undertow.stages.reference import make_reference
from undertow.stages.training_group import Group, commit_trained, job_of
from undertow.storage.store import Store
from undertow.study.identity import key
from undertow.study.references import Reference
from undertow.study.teachers import Teacher
from undertow.training.job import History, TrainingJob


def make_missing_reference(reference: Reference, store: Store) -> None:
    """Commits the files of a nano model or of a dequantised one, if the store lacks them.

    Raises UserError for a finetuned model that the store lacks.
    """
    trained = reference.student or reference.tuned
    if trained is not None:
        if not store.has(trained):
            raise UserError(
                f"the storage {store.url} does not have the weights of {reference.label}, which a sweep "
                "trains; give the storage of that sweep, or run jobs/sweep.py with the study first"
            )
    elif is_made(reference) and not store.has(reference):
        make_reference(reference, store)


def train_missing(probes: Sequence[Teacher], store: Store, threads: int, say: Callable[[str], None]) -> None:
    """Trains the probes of one reference model that the store lacks.

    Raises UserError for a probe that cannot be trained.
    """
    missing = {key(probe): probe for probe in probes if not store.has(probe)}
    if not missing:
        return
    from undertow.training.loop import finetune

    say(f"Training {len(missing)} of {len(probes)} probes of {probes[0].reference.label}")
    aside = store.aside()
    try:
        jobs = [job_of(probe, Group((probe,)), store, aside) for probe in missing.values()]
        start = model_of(probes[0].reference, store)

        def done(job: TrainingJob, history: History) -> None:
            commit_trained(missing[job.key], job, history, store)

        def failed(job: TrainingJob, error: UserError | ConditionError) -> None:
            trait = missing[job.key].trait
            raise UserError(
                f"the probe of the trait {trait.name if trait else ''!r} cannot be trained: {error}"
            ) from None

        finetune(
            start.folder,
            jobs,
            lambda report: None,
            changes=start.changes,
            done=done,
            failed=failed,
            threads=threads,
        )
    finally:
        shutil.rmtree(aside, ignore_errors=True)
