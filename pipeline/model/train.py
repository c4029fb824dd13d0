"""Train a network under Lightning."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from pipeline.errors import ConfigurationError, TrainingImpossible
from pipeline.images.preprocess import Preprocessing
from pipeline.model.dataset import Batches, LabelledPixels, Turns, as_it_is, balancing, stratified_split
from pipeline.model.epochs import EpochReport, Epochs
from pipeline.model.learner import Learner
from pipeline.model.mixing import ImageAugment
from pipeline.model.network import Deployable, build_network, preprocessing_for
from pipeline.model.processors import resolve_threads
from pipeline.model.resume import FILE, Keeper, Progress, WholeFiles, fingerprint, read_progress
from pipeline.model.start import Start
from pipeline.model.surroundings import process_state, told_plainly
from pipeline.recipe import ModelPolicy, TrainPolicy

log = logging.getLogger(__name__)

MIN_IMAGES = 10  # fewer cannot be split into something to learn from and something to stop by
VALIDATION_BATCH = 256
PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}  # in Lightning's words


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
        seconds: Wall clock of the training; of its last part where it was cut off.
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
    start: Start | None = None,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> Trained:
    """Train a network on prepared images; equal arguments on one machine give equal weights.

    A checkpoint is kept in ``work_dir`` after every epoch. One that lies there already is of a training of these images
    that was cut off: it goes on from there, tells of the epochs before again, and ends as if nothing had happened. Who
    needs the folder no more removes it. ``start`` are the champion's weights, for a recipe that begins with them.

    Raises:
        TrainingImpossible: There are too few images, or all are of one class.
        TrainingFailed: The loss is not a number any more, or memory or disk are full.
        ConfigurationError: The architecture, its weights or the size do not work.
        KeyboardInterrupt: Ctrl-C or SIGTERM came.
    """
    _require_data(data, classes, model_policy)
    if train_policy.precision == "16" and not torch.cuda.is_available():
        raise ConfigurationError("train.precision 16 needs a GPU, and there is none: `bf16` works on processors too")
    with process_state(resolve_threads(train_policy.threads)), told_plainly(model_policy, train_policy, work_dir):
        pl.seed_everything(train_policy.seed, verbose=False)
        return _fit(data, tuple(classes), model_policy, train_policy, work_dir, start, on_epoch)


def _fit(
    data: LabelledPixels,
    classes: tuple[str, ...],
    model_policy: ModelPolicy,
    policy: TrainPolicy,
    work_dir: Path,
    start: Start | None,
    on_epoch: Callable[[EpochReport], None],
) -> Trained:
    began = time.monotonic()
    training, validation = stratified_split(data.labels, policy.validation_share, policy.seed)
    if not len(validation):
        raise TrainingImpossible("no class has two labelled training images: add labelled images of each class")
    if policy.fraction < 1:
        training = training[stratified_split(data.labels[training], policy.fraction, policy.seed)[1]]
    network = build_network(model_policy, classes, start)
    if policy.channels_last:
        network = network.to(memory_format=torch.channels_last)
    weights = balancing(data.labels[training], len(classes))
    learner = Learner(network, policy, len(classes), weights if policy.balance == "weights" else None)
    drawn = weights[data.labels[training]] if policy.balance == "sampling" else None
    parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    epochs = Epochs(on_epoch, policy.monitor)
    checkpoint = work_dir / FILE
    mark = fingerprint(data, classes, model_policy, policy, start)
    progress = read_progress(checkpoint, mark)
    if progress is None:
        checkpoint.unlink(missing_ok=True)
    else:
        log.info("a training of these images was cut off: going on after its epoch %d", len(progress.history))
        for report in progress.history:
            on_epoch(report)
    # check_finite is off: it would end the training in silence, Epochs ends it with an error.
    stop = EarlyStopping(
        f"validation_{policy.monitor}",
        mode="min" if policy.monitor == "loss" else "max",
        patience=policy.patience,
        check_finite=False,
        log_rank_zero_only=True,
    )
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=policy.epochs,
        deterministic="warn",
        precision=PRECISIONS[policy.precision],
        accumulate_grad_batches=policy.accumulate,
        use_distributed_sampler=False,
        callbacks=[epochs, stop, Keeper(checkpoint, mark)],
        plugins=[WholeFiles()],
        default_root_dir=work_dir,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    if progress is None or not progress.finished:
        try:
            trainer.fit(
                learner,
                _training_loader(data, training, policy, drawn),
                DataLoader(_as_dataset(Batches(data, validation)), VALIDATION_BATCH, collate_fn=as_it_is),
                ckpt_path=None if progress is None else checkpoint,
                weights_only=True,
            )
        except SystemExit as error:
            # Lightning makes exits of Ctrl-C and SIGTERM, the latter even with status 0, as if all had ended well.
            if isinstance(error, SIGTERMException) or isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        progress = Progress(tuple(epochs.history), epochs.best, finished=True)
    network.load_state_dict(progress.best)
    return Trained(
        network=network.cpu().eval().requires_grad_(True).to(memory_format=torch.contiguous_format),
        classes=classes,
        preprocessing=preprocessing_for(model_policy),
        architecture=model_policy.architecture,
        parameters=parameters,
        training_images=len(training),
        validation_images=len(validation),
        history=progress.history,
        best_epoch=max(item.epoch for item in progress.history if item.best),
        seconds=time.monotonic() - began,
        device=trainer.strategy.root_device.type,
    )


def _training_loader(
    data: LabelledPixels, chosen: npt.NDArray[np.int64], policy: TrainPolicy, drawn: npt.NDArray[np.float64] | None
) -> DataLoader[Any]:
    """Batches of the chosen images, shuffled or drawn by seed and epoch."""
    turns = Turns(len(chosen), policy.seed, drawn)
    alter = ImageAugment(policy.augment, data.pixels.shape[1], policy.seed) if policy.augment else None
    return DataLoader(
        _as_dataset(Batches(data, chosen, alter, turns)),
        batch_size=policy.batch_size,
        sampler=turns,
        # A last, smaller batch is left out: batch normalisation over one or two images says nothing.
        drop_last=len(chosen) > policy.batch_size,
        num_workers=policy.workers,
        collate_fn=as_it_is,
    )


def _as_dataset(batches: Batches) -> Any:
    return batches


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
