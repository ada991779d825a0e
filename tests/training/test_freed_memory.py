"""Memory that a training process on a CPU frees stays with the process."""

import platform
import subprocess
import sys

import pytest

JOIN = "from undertow.training.workers import join; join('cpu', 1)"
COUNT = """
import resource, torch
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is a setting of glibc")
def test_a_training_process_reuses_the_pages_of_a_freed_tensor() -> None:
    assert _page_faults("") >= 32  # 64 MiB in pages of at most 2 MiB
    assert _page_faults(JOIN) < 16


def _page_faults(before: str) -> int:
    """Page faults of a tensor of 64 MiB that is made after an equal one was freed, in a new process."""
    done = subprocess.run([sys.executable, "-c", before + COUNT], capture_output=True, text=True, check=True)
    return int(done.stdout)
