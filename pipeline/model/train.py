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
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader, DistributedSampler

from pipeline.errors import TrainingImpossible
from pipeline.images.preprocess import Preprocessing
from pipeline.model.dataset import Batches, LabelledPixels, as_it_is, stratified_split
from pipeline.model.epochs import EpochReport, Epochs
from pipeline.model.learner import Learner
from pipeline.model.network import Deployable, build_network, preprocessing_for
from pipeline.model.processors import resolve_threads
from pipeline.model.resume import FILE, Keeper, Progress, WholeFiles, fingerprint, read_progress
from pipeline.model.surroundings import process_state, told_plainly
from pipeline.policies import ModelPolicy, TrainPolicy

log = logging.getLogger(__name__)

MIN_IMAGES = 10  # fewer cannot be split into something to learn from and something to stop by
VALIDATION_BATCH = 256


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
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> Trained:
    """Train a network on prepared images; equal arguments on one machine give equal weights.

    A checkpoint is kept in ``work_dir`` after every epoch. One that lies there already is of a training of these images
    that was cut off: it goes on from there, tells of the epochs before again, and ends as if nothing had happened. Who
    needs the folder no more removes it.

    Raises:
        TrainingImpossible: There are too few images, or all are of one class.
        TrainingFailed: The loss is not a number any more, or memory or disk are full.
        ConfigurationError: The architecture, its weights or the size do not work.
        KeyboardInterrupt: Ctrl-C or SIGTERM came.
    """
    _require_data(data, classes, model_policy)
    with process_state(resolve_threads(train_policy.threads)), told_plainly(model_policy, train_policy, work_dir):
        pl.seed_everything(train_policy.seed, verbose=False)
        return _fit(data, tuple(classes), model_policy, train_policy, work_dir, on_epoch)


def _fit(
    data: LabelledPixels,
    classes: tuple[str, ...],
    model_policy: ModelPolicy,
    policy: TrainPolicy,
    work_dir: Path,
    on_epoch: Callable[[EpochReport], None],
) -> Trained:
    began = time.monotonic()
    training, validation = stratified_split(data.labels, policy.validation_share, policy.seed)
    if not len(validation):
        raise TrainingImpossible("no class has two labelled training images: add labelled images of each class")
    network = build_network(model_policy, len(classes))
    epochs = Epochs(on_epoch)
    checkpoint = work_dir / FILE
    mark = fingerprint(data, classes, model_policy, policy)
    progress = read_progress(checkpoint, mark)
    if progress is None:
        checkpoint.unlink(missing_ok=True)
    else:
        log.info("a training of these images was cut off: going on after its epoch %d", len(progress.history))
        for report in progress.history:
            on_epoch(report)
    # check_finite is off: it would end the training in silence, Epochs ends it with an error.
    stop = EarlyStopping("validation_loss", patience=policy.patience, check_finite=False, log_rank_zero_only=True)
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=policy.epochs,
        deterministic="warn",
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
                Learner(network, policy),
                _loader(data, training, policy.batch_size, policy.seed),
                _loader(data, validation, VALIDATION_BATCH, None),
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
        network=network.cpu().eval(),
        classes=classes,
        preprocessing=preprocessing_for(model_policy),
        architecture=model_policy.architecture,
        parameters=sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
        training_images=len(training),
        validation_images=len(validation),
        history=progress.history,
        best_epoch=max(item.epoch for item in progress.history if item.best),
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
