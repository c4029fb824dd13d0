"""Train a network under Lightning."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from timm.optim import param_groups_weight_decay
from torch.utils.data import DataLoader, DistributedSampler

from pipeline.errors import TrainingFailed, TrainingImpossible
from pipeline.images.preprocess import Preprocessing
from pipeline.model.augment import augment, seeded
from pipeline.model.dataset import Batches, LabelledPixels, as_it_is, stratified_split
from pipeline.model.network import Deployable, build_network, preprocessing_for
from pipeline.model.processors import resolve_threads
from pipeline.model.surroundings import process_state, told_plainly
from pipeline.policies import ModelPolicy, TrainPolicy

log = logging.getLogger(__name__)

MIN_IMAGES = 10  # fewer cannot be split into something to learn from and something to stop by
WARM_UP = 0.1  # share of all steps over which the learning rate rises
VALIDATION_BATCH = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReport:
    """One finished epoch; epochs count from 1, losses are cross-entropies."""

    epoch: int
    epochs: int
    training_loss: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    best: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What training made.

    Attributes:
        network: On the CPU, in evaluation mode, with the weights of the best epoch.
        classes: Names of the columns of its probabilities.
        preprocessing: What its input went through.
        architecture: Name of the timm model.
        parameters: Number of trainable numbers.
        training_images: Images that gradients came from.
        validation_images: Images that chose the best epoch.
        history: Every epoch that ran.
        best_epoch: The epoch whose weights these are, from 1.
        seconds: Wall clock of the training.
        device: Where it ran, such as ``cpu`` or ``cuda``.
    """

    network: Deployable
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    architecture: str
    parameters: int
    training_images: int
    validation_images: int
    history: tuple[EpochReport, ...]
    best_epoch: int
    seconds: float
    device: str

    @property
    def best(self) -> EpochReport:
        """The report of the best epoch."""
        return self.history[self.best_epoch - 1]


def train(
    data: LabelledPixels,
    classes: Sequence[str],
    model_policy: ModelPolicy,
    train_policy: TrainPolicy,
    *,
    work_dir: Path,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> Trained:
    """Train a network on prepared images; equal arguments on one machine give equal weights.

    Checkpoints lie under ``work_dir`` while it runs and are removed at the end.

    Raises:
        TrainingImpossible: There are too few images, or all are of one class.
        TrainingFailed: The loss is not a number any more, or memory or disk are full.
        ConfigurationError: The architecture, its weights or the size do not work.
        KeyboardInterrupt: Ctrl-C or SIGTERM came.
    """
    _require_data(data, classes, model_policy)
    began = time.monotonic()
    checkpoints = work_dir / "checkpoints"
    shutil.rmtree(checkpoints, ignore_errors=True)
    try:
        with process_state(resolve_threads(train_policy.threads)), told_plainly(model_policy, train_policy, work_dir):
            pl.seed_everything(train_policy.seed, verbose=False)
            return _fit(data, tuple(classes), model_policy, train_policy, checkpoints, on_epoch, began)
    finally:
        shutil.rmtree(checkpoints, ignore_errors=True)


def _fit(
    data: LabelledPixels,
    classes: tuple[str, ...],
    model_policy: ModelPolicy,
    policy: TrainPolicy,
    checkpoints: Path,
    on_epoch: Callable[[EpochReport], None],
    began: float,
) -> Trained:
    training, validation = stratified_split(data.labels, policy.validation_share, policy.seed)
    if not len(validation):
        raise TrainingImpossible("no class has two labelled training images: add labelled images of each class")
    network = build_network(model_policy, len(classes))
    history: list[EpochReport] = []

    def report(item: EpochReport) -> None:
        history.append(item)
        on_epoch(item)

    best = ModelCheckpoint(
        checkpoints, filename="best", monitor="validation_loss", mode="min", save_top_k=1, save_weights_only=True
    )
    # check_finite is off: it would end the training in silence, _Reports ends it with an error.
    stop = EarlyStopping("validation_loss", patience=policy.patience, check_finite=False, log_rank_zero_only=True)
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=policy.epochs,
        deterministic="warn",
        callbacks=[_Reports(report), stop, best],
        default_root_dir=checkpoints.parent,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    learner = _Learner(network, policy)
    try:
        trainer.fit(
            learner,
            _loader(data, training, policy.batch_size, policy.seed),
            _loader(data, validation, VALIDATION_BATCH, None),
        )
    except SystemExit as error:
        # Lightning makes exits of Ctrl-C and SIGTERM, the latter even with status 0, as if all had ended well.
        if isinstance(error, SIGTERMException) or isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    learner.load_state_dict(state)
    return Trained(
        network=network.cpu().eval(),
        classes=classes,
        preprocessing=preprocessing_for(model_policy),
        architecture=model_policy.architecture,
        parameters=sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
        training_images=len(training),
        validation_images=len(validation),
        history=tuple(history),
        best_epoch=max(item.epoch for item in history if item.best),
        seconds=time.monotonic() - began,
        device=trainer.strategy.root_device.type,
    )


def _loader(data: LabelledPixels, chosen: np.ndarray[Any, Any], batch_size: int, seed: int | None) -> DataLoader[Any]:
    """Batches of the chosen images: shuffled by seed and epoch for training, in order without a seed."""
    dataset: Any = Batches(data, chosen)
    # Of one replica: a permutation that depends on seed and epoch only, which Lightning sets. The last, smaller batch
    # is left out, because batch normalisation over one or two images says nothing.
    sampler = None if seed is None else DistributedSampler(dataset, num_replicas=1, rank=0, shuffle=True, seed=seed)
    drop_last = seed is not None and len(dataset) > batch_size
    return DataLoader(dataset, batch_size=batch_size, sampler=sampler, drop_last=drop_last, collate_fn=as_it_is)


class _Learner(pl.LightningModule):
    """Loss, optimiser and schedule around the network."""

    def __init__(self, network: Deployable, policy: TrainPolicy) -> None:
        super().__init__()
        self.network = network
        self.policy = policy
        self.training_loss = torch.zeros(())
        self.steps = 0

    def on_train_epoch_start(self) -> None:
        self.training_loss = torch.zeros((), device=self.device)
        self.steps = 0

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        pixels, labels = batch
        pixels = augment(pixels, self.policy, seeded(self.policy.seed, self.current_epoch, index))
        loss = F.cross_entropy(self.network.logits(pixels), labels, label_smoothing=self.policy.label_smoothing)
        self.training_loss += loss.detach()
        self.steps += 1
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> None:
        pixels, labels = batch
        logits = self.network.logits(pixels)
        count = len(labels)
        self.log("validation_loss", F.cross_entropy(logits, labels), batch_size=count)
        self.log("validation_accuracy", (logits.argmax(1) == labels).float().mean(), batch_size=count)

    def configure_optimizers(self) -> Any:
        groups = param_groups_weight_decay(self.network, self.policy.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=self.policy.learning_rate)
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        rise = max(round(steps * WARM_UP), 1)

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            return 0.5 * (1 + math.cos(math.pi * min((step - rise) / max(steps - rise, 1), 1.0)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Reports(Callback):
    """Tells of each epoch, and ends a training whose loss is not a number. First of the callbacks."""

    def __init__(self, on_epoch: Callable[[EpochReport], None]) -> None:
        self.on_epoch = on_epoch
        self.began = 0.0
        self.least = math.inf

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Here, before the callbacks that keep checkpoints and stop early, all figures of the epoch are known.
        assert isinstance(pl_module, _Learner)
        training_loss = float(pl_module.training_loss) / max(pl_module.steps, 1)
        validation_loss = float(trainer.callback_metrics["validation_loss"])
        if not (math.isfinite(training_loss) and math.isfinite(validation_loss)):
            raise TrainingFailed(
                f"the loss is not a finite number after epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: "
                "lower train.learning_rate"
            )
        best = validation_loss < self.least
        self.least = min(self.least, validation_loss)
        self.on_epoch(
            EpochReport(
                epoch=trainer.current_epoch + 1,
                epochs=int(trainer.max_epochs or 0),
                training_loss=training_loss,
                validation_loss=validation_loss,
                validation_accuracy=float(trainer.callback_metrics["validation_accuracy"]),
                learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
                seconds=time.monotonic() - self.began,
                best=best,
            )
        )


def _require_data(data: LabelledPixels, classes: Sequence[str], policy: ModelPolicy) -> None:
    if data.pixels.shape[1] != policy.image_size:
        raise ValueError(f"images of {data.pixels.shape[1]} pixels are not of model.image_size {policy.image_size}")
    if len(data) < MIN_IMAGES:
        raise TrainingImpossible(
            f"{len(data)} labelled training images are too few to train on: add labelled images, at least {MIN_IMAGES}"
        )
    if data.labels.max() >= len(classes):
        raise ValueError(f"label {data.labels.max()} is none of {len(classes)} classes")
    present = np.unique(data.labels)
    if len(present) < 2:
        raise TrainingImpossible(
            f"all {len(data)} labelled training images are of class {classes[present[0]]!r}: "
            "add labelled images of a second class"
        )
