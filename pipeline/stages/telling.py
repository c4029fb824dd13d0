"""An epoch that has ended is told: a line in the log, metrics in MLflow and, where it is wanted, TensorBoard."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.stages.workplace import Workplace

if TYPE_CHECKING:
    from pipeline.model.epochs import EpochReport

log = logging.getLogger(__name__)

METRICS = ("training_loss", "validation_loss", "validation_accuracy", "validation_balanced_accuracy", "learning_rate")

OnEpoch = Callable[["EpochReport"], None]


@contextmanager
def telling(place: Workplace, run_id: str) -> Iterator[OnEpoch]:
    """What a training of this run calls after each epoch."""
    with ExitStack() as opened:
        draw = opened.enter_context(_tensorboard(place, run_id)) if place.stream.trainer.tensorboard else None

        def on_epoch(epoch: EpochReport) -> None:
            log.info(
                "epoch %d of %d: training loss %.3f, validation loss %.3f, accuracy %.3f%s (%.1f s)",
                *(epoch.epoch, epoch.epochs, epoch.training_loss, epoch.validation_loss, epoch.validation_accuracy),
                " – best so far" if epoch.best else "",
                epoch.seconds,
            )
            place.registry.log_metrics(run_id, {name: getattr(epoch, name) for name in METRICS}, step=epoch.epoch)
            if draw is not None:
                draw(epoch)

        yield on_epoch


@contextmanager
def _tensorboard(place: Workplace, run_id: str) -> Iterator[OnEpoch]:
    """Writes to ``TIDEMARK_HOME/tensorboard/<stream>/<run>``; a disk that is full ends the writing only."""
    from torch.utils.tensorboard import SummaryWriter

    folder = place.settings.home / "tensorboard" / place.stream.name / run_id
    try:
        writer = SummaryWriter(str(folder))
    except OSError as error:
        log.warning("nothing is written for TensorBoard in %s (%s): make room there", folder, error.strerror or error)
        yield lambda epoch: None
        return
    log.info("for TensorBoard: tensorboard --logdir %s", folder.parents[1])

    def draw(epoch: EpochReport) -> None:
        try:
            for name in METRICS:
                writer.add_scalar(name, getattr(epoch, name), epoch.epoch)
            writer.flush()
        except OSError as error:
            log.warning("TensorBoard misses epoch %d (%s): make room in %s", epoch.epoch, error.strerror, folder)

    try:
        yield draw
    finally:
        _close(writer, folder)


def _close(writer: object, folder: Path) -> None:
    try:
        writer.close()  # type: ignore[attr-defined]
    except OSError as error:
        log.warning("what was written for TensorBoard in %s may not be whole (%s)", folder, error.strerror or error)
