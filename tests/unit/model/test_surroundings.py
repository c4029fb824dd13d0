from __future__ import annotations

import platform
import resource

import pytest
import torch

from pipeline.model.surroundings import memory_held, process_state

LARGE = 25_000_000  # float32, 100 MB: far above what glibc keeps by itself
PAGES = LARGE * 4 // resource.getpagesize()


def pages_of_one() -> int:
    """Pages that the kernel hands out for one more large array, which is freed again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(LARGE).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library is left as it is")
def test_what_one_step_frees_is_there_for_the_next() -> None:
    with memory_held():
        held = min(pages_of_one() for _ in range(5))  # of a few: other arrays may take of what one left
    assert held < PAGES / 10
    assert pages_of_one() > held + 10  # and given back afterwards; of a few large pages on some machines


def test_deterministic_steps_do_not_fill_what_they_write_anyway() -> None:
    assert torch.utils.deterministic.fill_uninitialized_memory
    with process_state(1):
        torch.use_deterministic_algorithms(True, warn_only=True)
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()
