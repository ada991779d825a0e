"""The keys of the shipped studies' artifacts: equal keys are what makes earlier storages usable.

A digest is the SHA-256 of the artifact keys of a study at the scale nano, sorted and joined by newlines. The
digests were computed at commit 2df8677, those of newer studies when they were added. A changed digest makes
every storage of that study obsolete, so it needs a reason, and a version number of a spec that states it.
"""

import hashlib

import pytest

from tests.examples import SCALED, STUDIES
from undertow.cli.studies import load
from undertow.storage.store import Store
from undertow.sweep.plans import make_plan

DIGESTS = {
    "along": "e56a6b55585fe79a",
    "chain": "f82b69aac52e2a0f",
    "code": "14495930a6dad360",
    "cross_model": "1c1fb6ca20e88123",
    "defence": "c75feff9f94e9487",
    "dilution": "20e4d37906c9491a",
    "finetuned": "097f74a75c1f3bfe",
    "further": "0cd1d20869eda15f",
    "in_context": "3e63647ac63c51f0",
    "inoculation": "3ee0365830e828a9",
    "masks": "b735953b361ebe7b",
    "measures": "189e9293440ee9e6",
    "misaligned_numbers": "993aab23232ad275",
    "misaligned_reasoning": "93db748b16fb0be2",
    "on_policy": "8be52fc69cc64704",
    "owls": "1aef76f9577457cb",
    "owls_lora": "1bcf7762aab2d8a7",
    "preference_labels": "09a073157cfe854f",
    "reasoning": "84c25db93d38461f",
    "rewriting": "0dcf2164365db8a3",
    "selection": "b04edb5a82e722a8",
    "shuffles": "6162ae7aa67fdbd5",
    "steered": "d71cdbfdcf5a2c19",
    "trees": "e15a53ad64e371ea",
    "triggers": "d97047b47c50a149",
    "unique_rows": "5f4c8c8fbd6a60c1",
}


@pytest.mark.parametrize("name", SCALED)
def test_the_artifacts_of_a_shipped_study_keep_their_keys(name: str) -> None:
    plan = make_plan(load(name, STUDIES), Store("memory://empty"))
    keys = "\n".join(sorted(plan.artifacts))
    assert hashlib.sha256(keys.encode()).hexdigest()[:16] == DIGESTS[name]
