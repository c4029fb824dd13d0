"""Train a network under Lightning."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch

from pipeline.errors import TrainingImpossible
from pipeline.images.preprocess import Preprocessing
from pipeline.model.dataset import LabelledPixels
from pipeline.model.epochs import EpochReport
from pipeline.model.fit import Lesson, fit, require_fair_shares, so_far
from pipeline.model.machine import Machine, machine_for
from pipeline.model.network import Deployable, build_network, preprocessing_for
from pipeline.model.partly import learn_last_blocks
from pipeline.model.processors import resolve_threads
from pipeline.model.ranks import learn_together
from pipeline.model.start import Start
from pipeline.model.surroundings import process_state, told_plainly
from pipeline.naming import quoted
from pipeline.recipe import ModelPolicy, TrainerPolicy, TrainPolicy

log = logging.getLogger(__name__)

MIN_IMAGES = 10  # fewer cannot be split into something to learn from and something to stop by


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
    trainer: TrainerPolicy = TrainerPolicy(),
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> Trained:
    """Train a network on prepared images; equal arguments on one machine give equal weights.

    A checkpoint is kept in ``work_dir`` after every epoch. One that lies there already is of a training of these images
    that was cut off: it goes on from there, tells of the epochs before again, and ends as if nothing had happened. Who
    needs the folder no more removes it. ``start`` are the champion's weights, for a recipe that begins with them.
    ``trainer`` says what it runs on; of several processes only the first one writes.

    Raises:
        TrainingImpossible: There are too few images, or all are of one class.
        TrainingFailed: The loss is not a number any more, or memory or disk are full.
        ConfigurationError: The architecture, its weights or the size do not work.
        KeyboardInterrupt: Ctrl-C or SIGTERM came.
    """
    _require_data(data, classes, model_policy)
    machine = machine_for(trainer, train_policy)
    with process_state(resolve_threads(train_policy.threads)), told_plainly(model_policy, train_policy, work_dir):
        pl.seed_everything(train_policy.seed, verbose=False)
        lesson = Lesson.of(data, tuple(classes), model_policy, train_policy, start)
        require_fair_shares(train_policy, len(lesson.training), machine.ranks)
        return _train(lesson, trainer, machine, work_dir, on_epoch)


def _train(
    lesson: Lesson, trainer: TrainerPolicy, machine: Machine, work_dir: Path, on_epoch: Callable[[EpochReport], None]
) -> Trained:
    began = time.monotonic()
    network = build_network(lesson.model, lesson.classes, lesson.start)
    parameters = _learning(network, lesson.recipe)
    progress = so_far(lesson, work_dir)
    if progress is not None:
        log.info("a training of these images was cut off: going on after its epoch %d", len(progress.history))
        for report in progress.history:
            on_epoch(report)
    if progress is None or not progress.finished:
        if machine.together:
            progress = learn_together(lesson, trainer, machine, work_dir=work_dir, on_epoch=on_epoch)
        else:
            progress = fit(lesson, network, trainer, work_dir=work_dir, progress=progress, on_epoch=on_epoch)
    network.load_state_dict(progress.best)
    return Trained(
        network=network.cpu().eval().requires_grad_(True).to(memory_format=torch.contiguous_format),
        classes=lesson.classes,
        preprocessing=preprocessing_for(lesson.model),
        architecture=lesson.model.architecture,
        parameters=parameters,
        training_images=len(lesson.training),
        validation_images=len(lesson.validation),
        history=progress.history,
        best_epoch=max(item.epoch for item in progress.history if item.best),
        seconds=time.monotonic() - began,
        device=machine.device,
    )


def _learning(network: Deployable, recipe: TrainPolicy) -> int:
    """How many numbers learn."""
    learn_last_blocks(network.backbone, recipe.blocks)
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


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
            f"all {len(data)} labelled training images are of class {quoted(classes[present[0]])}: "
            "add labelled images of a second class"
        )
