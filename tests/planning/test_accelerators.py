"""Tests of the refusal to run models that need GPUs on a cluster without any."""

from pathlib import Path

import pytest

from tests.examples import RECIPE
from undertow.errors import UserError
from undertow.formats.numbers import Numbers
from undertow.planning.accelerators import check_gpus
from undertow.planning.plan import Plan, make
from undertow.storage.store import Store
from undertow.study.completions import Sampling
from undertow.study.generation import Generation
from undertow.study.grids import grid
from undertow.study.references import Reference
from undertow.study.study import Study
from undertow.traits.preference import Preference

CLUSTER = {"RAY_ADDRESS": "10.0.0.7:6379"}


def plan_of(name: str, folder: Path) -> Plan:
    model = Reference(name, "commit", "template")
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=[(model, model)],
        recipes=[RECIPE],
        generation=Generation(prompts=100, rows=40, sampling=Sampling(max_tokens=48)),
    )
    study = Study(name="large", conditions=conditions, seeds=(0,), samples=2)
    return make(study, Store(str(folder)), [])


# Model, GPUs of the cluster, variables → whether the sweep is refused.
CASES = {
    "no GPU, and nothing declared": ("org/large", 0, CLUSTER, True),
    "a GPU": ("org/large", 1, CLUSTER, False),
    "declared CPUs": ("org/large", 0, {**CLUSTER, "UNDERTOW_CPUS": "1x2"}, False),
    "the user's own machine": ("org/large", 0, {}, False),
    "nano models": ("nano/gpt2-0", 0, CLUSTER, False),
    "models of a provider": ("api:large", 0, CLUSTER, False),
}


@pytest.mark.parametrize(("name", "gpus", "variables", "refused"), CASES.values(), ids=CASES.keys())
def test_models_that_need_gpus_never_start_on_the_cpus_of_a_cluster_by_themselves(
    name: str, gpus: int, variables: dict[str, str], refused: bool, tmp_path: Path
) -> None:
    plan = plan_of(name, tmp_path)
    if not refused:
        check_gpus(plan, gpus, variables)
        return
    with pytest.raises(UserError, match=r"large: the cluster has no GPUs now.*UNDERTOW_GPUS=8x1.*CPUS=4x16"):
        check_gpus(plan, gpus, variables)
