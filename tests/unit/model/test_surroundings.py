from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from pipeline.model.surroundings import process_state

# In a process of its own: glibc moves a thread whose allocation failed once to another arena, where nothing as large is
# held, and tests of what happens without memory run in this process too. 100 MB is far above what it keeps by itself.
PAGES_HANDED_OUT = """
import resource
import torch
from pipeline.model.surroundings import memory_held

def pages_of_one():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(25_000_000).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with memory_held():
    held = min(pages_of_one() for _ in range(5))  # of a few: other arrays may take of what one left
print(held, pages_of_one(), 100_000_000 // resource.getpagesize())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library is left as it is")
def test_what_one_step_frees_is_there_for_the_next() -> None:
    printed = subprocess.run([sys.executable, "-c", PAGES_HANDED_OUT], check=True, capture_output=True, text=True)
    held, after, pages = map(int, printed.stdout.split())
    assert held < pages / 10
    assert after > held + 10  # and given back afterwards; of a few large pages on some machines


def test_deterministic_steps_do_not_fill_what_they_write_anyway() -> None:
    assert torch.utils.deterministic.fill_uninitialized_memory
    with process_state(1):
        torch.use_deterministic_algorithms(True, warn_only=True)
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()
