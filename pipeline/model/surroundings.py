"""What surrounds a training: the state of the process, and failures that come from the machine."""

from __future__ import annotations

import contextlib
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


@contextlib.contextmanager
def process_state(threads: int) -> Iterator[None]:
    """Threads, random numbers, determinism, Lightning's log and warnings as training needs them, and back again."""
    logger = logging.getLogger("lightning.pytorch")
    level, before = logger.level, torch.get_num_threads()
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    logger.setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    try:
        with isolate_rng(), warnings.catch_warnings():
            for pattern in EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=pattern)
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
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
