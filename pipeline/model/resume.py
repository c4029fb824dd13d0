"""A training that was cut off goes on from its last epoch: one checkpoint, whole or not there."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from pipeline.model.dataset import LabelledPixels
from pipeline.model.epochs import EpochReport, Epochs
from pipeline.model.start import Start
from pipeline.recipe import ModelPolicy, TrainPolicy

log = logging.getLogger(__name__)

FILE = "training.ckpt"
_STATE = "tidemark"  # where the checkpoint holds our own facts


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training came.

    Attributes:
        history: Every epoch that ran.
        best: Weights of the best one, by the names of the network's tensors.
        finished: Whether no epoch is left to run.
    """

    history: tuple[EpochReport, ...]
    best: dict[str, torch.Tensor]
    finished: bool


def fingerprint(
    data: LabelledPixels,
    classes: tuple[str, ...],
    model_policy: ModelPolicy,
    policy: TrainPolicy,
    start: Start | None,
) -> str:
    """SHA-256 of what must be the same for a training to go on: recipe, labels in their order, torch; hexadecimal.

    Pixels are left out: whoever names the checkpoint's folder knows which images they are of.
    """
    begun_with = "" if start is None else start.digest
    facts = [model_policy.model_dump(), policy.model_dump(), classes, begun_with, package_version("torch")]
    return hashlib.sha256(json.dumps(facts).encode() + data.labels.tobytes()).hexdigest()


def read_progress(path: Path, expected: str) -> Progress | None:
    """What a checkpoint holds, or None: there is none, it is damaged or of another training, which a line tells."""
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        facts = content[_STATE]
        epochs = content["callbacks"][Epochs.__qualname__]
        history = tuple(EpochReport(**report) for report in epochs["history"])
        progress = Progress(history, epochs["best"], bool(facts["finished"]))
        same = facts["fingerprint"] == expected
    except Exception as error:  # noqa: BLE001 - a damaged file makes torch raise whatever it may
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        log.warning("the checkpoint %s cannot be read (%s): training begins anew", path, reason)
        return None
    if not same or not history:
        log.warning("the checkpoint %s is of another training: this one begins anew", path)
        return None
    return progress


class Keeper(Checkpoint):
    """Keeps one checkpoint, written after every epoch; the last of the callbacks."""

    def __init__(self, path: Path, mark: str) -> None:
        self.path = path
        self.mark = mark

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what tells a later run whether this is its own."""
        last = trainer.current_epoch + 1 >= int(trainer.max_epochs or 0)
        checkpoint[_STATE] = {"fingerprint": self.mark, "finished": trainer.should_stop or last}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the epoch that has just ended."""
        trainer.save_checkpoint(self.path)


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint so that a kill or a full disk leaves the one before, and nothing in other folders."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the file, then take its place."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # what the disk said, behind torch's own complaint
                raise error.__context__ from None
            raise
        finally:
            partial.unlink(missing_ok=True)
