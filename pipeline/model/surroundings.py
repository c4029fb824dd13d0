"""What surrounds a training: the state of the process, and failures that come from the machine."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from pipeline.errors import TidemarkError, TrainingFailed
from pipeline.recipe import ModelPolicy, TrainPolicy

# Of Lightning: its advice to use workers, though batches are slices of an array; its own use of an old torch name.
EXPECTED_WARNINGS = (
    r".*_dataloader' does not have many workers.*",
    r".*LeafSpec.* is deprecated.*",
    r"Found \d+ module\(s\) in eval mode.*",  # the moving average of the weights, and what does not learn
)


# Of glibc's malloc.h and malloc.c: parameters of mallopt, and what they are without it.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
TRIM_THRESHOLD, MMAP_MAX = 128 * 1024, 65536
NEVER = 2**31 - 1


@contextlib.contextmanager
def memory_held() -> Iterator[None]:
    """Let the C library hold on to the memory that a step frees, for the next one.

    glibc gives each large array back to the kernel, which hands out zeroed pages for the next, one by one: with images
    of 224 pixels that is a third of a step's processor time. It holds for the main thread, where steps run, while none
    of its allocations failed: other threads are served from arenas that hold nothing as large. Where there is another
    C library, nothing is done.
    """
    library = ctypes.CDLL(None)
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield
        return
    library.mallopt(M_MMAP_MAX, 0)
    library.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        library.mallopt(M_MMAP_MAX, MMAP_MAX)
        library.mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)
        library.malloc_trim(0)


@contextlib.contextmanager
def process_state(threads: int) -> Iterator[None]:
    """Threads, random numbers, determinism, Lightning's log and warnings as training needs them, and back again."""
    logger = logging.getLogger("lightning.pytorch")
    level, before = logger.level, torch.get_num_threads()
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    filled = torch.utils.deterministic.fill_uninitialized_memory
    logger.setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    # Determinism needs no operation to find its memory filled with not-a-number first, at a third more time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        with isolate_rng(), memory_held(), warnings.catch_warnings():
            for pattern in EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=pattern)
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.set_num_threads(before)
        logger.setLevel(level)


@contextlib.contextmanager
def told_plainly(model_policy: ModelPolicy, policy: TrainPolicy, work_dir: Path) -> Iterator[None]:
    """Turn what a machine without memory or disk space raises into a sentence."""
    too_large = (
        f"out of memory with {policy.batch_size} images of {model_policy.image_size} pixels a batch: lower "
        "train.batch_size or model.image_size, or take a smaller model.architecture"
    )
    try:
        yield
    except TidemarkError:
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise TrainingFailed(too_large) from None
    except OSError as error:
        raise TrainingFailed(
            f"checkpoints cannot be written under {work_dir} ({error.strerror or error}): make room there"
        ) from None
    except RuntimeError as error:
        text = str(error)
        if "can't allocate memory" in text or "out of memory" in text:
            raise TrainingFailed(too_large) from None
        if "PytorchStreamWriter" in text:
            raise TrainingFailed(f"checkpoints cannot be written under {work_dir}: make room there") from None
        raise
