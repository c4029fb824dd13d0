"""Epochs: what each one tells, and which one is the best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from pipeline.errors import TrainingFailed
from pipeline.model.learner import Learner

Monitor = Literal["loss", "accuracy", "balanced_accuracy"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReport:
    """One finished epoch; epochs count from 1, losses are cross-entropies."""

    epoch: int
    epochs: int
    training_loss: float
    validation_loss: float
    validation_accuracy: float
    validation_balanced_accuracy: float
    learning_rate: float
    seconds: float
    best: bool


class Epochs(Callback):
    """Tells of each epoch, keeps the weights of the best one, and ends a training whose loss is not a number.

    First of the callbacks. Its state goes with the checkpoints, so that a training that was cut off knows what was.
    """

    def __init__(self, on_epoch: Callable[[EpochReport], None], monitor: Monitor = "loss") -> None:
        self.on_epoch = on_epoch
        self.monitor = monitor
        self.began = 0.0
        self.least = math.inf  # of the monitored figure; of one that should rise, its negative
        self.history: list[EpochReport] = []
        self.best: dict[str, torch.Tensor] = {}  # of the network, on the CPU

    def state_dict(self) -> dict[str, Any]:
        """Every epoch so far, and the best one's weights."""
        return {"history": [asdict(report) for report in self.history], "least": self.least, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of state_dict; epochs of the past are not told of again."""
        self.history = [EpochReport(**report) for report in state_dict["history"]]
        self.least, self.best = state_dict["least"], state_dict["best"]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        """Note when the epoch began."""
        # Not at an epoch's start: that hook is left out for the first epoch after a checkpoint.
        if index == 0:
            self.began = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell of the epoch."""
        # Here, before the callbacks that keep checkpoints and stop early, all figures of the epoch are known.
        assert isinstance(pl_module, Learner)
        # Of all processes that train together: what one decides, all decide.
        training_loss = float(trainer.strategy.reduce(pl_module.take_training_loss(), reduce_op="mean"))
        validation_loss = float(trainer.callback_metrics["validation_loss"])
        if not (math.isfinite(training_loss) and math.isfinite(validation_loss)):
            raise TrainingFailed(
                f"the loss is not a finite number after epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: "
                "lower train.learning_rate"
            )
        monitored = float(trainer.callback_metrics[f"validation_{self.monitor}"])
        figure = monitored if self.monitor == "loss" else -monitored
        best = figure < self.least
        if best:
            self.least = figure
            self.best = {name: value.detach().cpu().clone() for name, value in pl_module.judged.state_dict().items()}
        report = EpochReport(
            epoch=trainer.current_epoch + 1,
            epochs=int(trainer.max_epochs or 0),
            training_loss=training_loss,
            validation_loss=validation_loss,
            validation_accuracy=float(trainer.callback_metrics["validation_accuracy"]),
            validation_balanced_accuracy=float(trainer.callback_metrics["validation_balanced_accuracy"]),
            learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
            seconds=time.monotonic() - self.began,
            best=best,
        )
        pl_module.end_epoch(monitored)
        self.history.append(report)
        self.on_epoch(report)
