"""Refuses to run models that need GPUs on the CPUs of a cluster, unless the user declares these CPUs.

A cluster without a GPU is often one whose GPUs start on demand, or a job that forgot to ask for them. A study
of large models would run on its CPUs for weeks. Without RAY_ADDRESS, on the user's own machine, every model
may run on CPUs.
"""

import os
from collections.abc import Mapping

from undertow.errors import UserError
from undertow.nano.models import is_nano
from undertow.planning.artifact_kinds import runs_on, units
from undertow.planning.plan import Plan
from undertow.planning.resources import CPUS_ON_DEMAND, ON_DEMAND
from undertow.study.references import Artifact


def check_gpus(plan: Plan, gpus: int, environment: Mapping[str, str] | None = None) -> None:
    """Raises UserError for a plan of models other than nano models on a cluster without GPUs.

    Args:
        gpus: those of the cluster, running or declared.
    """
    variables = os.environ if environment is None else environment
    if gpus or not variables.get("RAY_ADDRESS") or variables.get(CPUS_ON_DEMAND):
        return
    if models := _local_models(plan):
        listed = ", ".join(models[:3]) + (" …" if len(models) > 3 else "")
        raise UserError(
            f"{listed}: the cluster has no GPUs now. Start nodes with GPUs (Slurm: --gpus-per-node), declare "
            f"those that start on demand ({ON_DEMAND}=8x1 for 8 nodes of 1 GPU each), or, to use CPUs, "
            f"declare them ({CPUS_ON_DEMAND}=4x16 for 4 nodes of 16 CPUs each)"
        )


def _local_models(plan: Plan) -> list[str]:
    """The models that missing artifacts are made with here, without nano models."""
    used = [runs_on(artifact) for artifact in plan.lacking(Artifact) if units(artifact)]
    roots = dict.fromkeys(reference.root for reference in used if reference is not None)
    return [root.label for root in roots if not (is_nano(root.name) or root.is_api)]
