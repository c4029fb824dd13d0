"""The part of a training that runs under Lightning: alone, or as one of several processes that learn together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from pipeline.errors import ConfigurationError, TrainingImpossible
from pipeline.model.dataset import Batches, LabelledPixels, Turns, as_it_is, balancing, each_once, stratified_split
from pipeline.model.epochs import EpochReport, Epochs
from pipeline.model.learner import Learner
from pipeline.model.mixing import ImageAugment
from pipeline.model.network import Deployable
from pipeline.model.resume import FILE, Keeper, Progress, WholeFiles, fingerprint, read_progress
from pipeline.model.start import Start
from pipeline.recipe import ModelPolicy, TrainerPolicy, TrainPolicy

log = logging.getLogger(__name__)

VALIDATION_BATCH = 256
PATIENCE_WITH_OTHERS = timedelta(minutes=30)  # that a process waits for the others, as at the start
PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}  # in Lightning's words


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What is to be learnt, and how.

    Attributes:
        data: Prepared images with their labels.
        classes: Names of the labels.
        model: Which network.
        recipe: How it is trained.
        start: The champion's weights, for a recipe that begins with them.
        training: Positions of the images that gradients come from.
        validation: Positions of those that choose the best epoch.
    """

    data: LabelledPixels
    classes: tuple[str, ...]
    model: ModelPolicy
    recipe: TrainPolicy
    start: Start | None
    training: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        data: LabelledPixels,
        classes: tuple[str, ...],
        model: ModelPolicy,
        recipe: TrainPolicy,
        start: Start | None,
    ) -> Lesson:
        """Split the images.

        Raises:
            TrainingImpossible: Nothing is left to validate on.
        """
        training, validation = stratified_split(data.labels, recipe.validation_share, recipe.seed)
        if not len(validation):
            raise TrainingImpossible("no class has two labelled training images: add labelled images of each class")
        if recipe.fraction < 1:
            training = training[stratified_split(data.labels[training], recipe.fraction, recipe.seed)[1]]
        return cls(data, classes, model, recipe, start, training, validation)

    @property
    def mark(self) -> str:
        """What a checkpoint must have been made for to serve this training."""
        return fingerprint(self.data, self.classes, self.model, self.recipe, self.start)


@dataclass(frozen=True, slots=True)
class Seat:
    """Which one of the processes that train together this is."""

    rank: int = 0
    ranks: int = 1
    together: bool = False  # under DDP, be it alone


def require_fair_shares(recipe: TrainPolicy, images: int, ranks: int) -> None:
    """Refuse what cannot be dealt out.

    Raises:
        ConfigurationError: A batch cannot be divided evenly among the processes.
        TrainingImpossible: There are more processes than images.
    """
    if recipe.batch_size % ranks or recipe.batch_size == ranks:
        raise ConfigurationError(
            f"train.batch_size {recipe.batch_size} is divided among {ranks} processes (trainer.devices × "
            f"trainer.nodes): make it a multiple of {ranks}, of two images each at least"
        )
    if (recipe.mixup or recipe.cutmix) and recipe.batch_size // ranks % 2:
        raise ConfigurationError(
            f"mixup and cutmix mix pairs of images: make train.batch_size a multiple of {2 * ranks}, which is two "
            f"for each of {ranks} processes"
        )
    if images < 2 * ranks:
        raise TrainingImpossible(f"{images} training images are too few for {ranks} processes: lower trainer.devices")


def fit(
    lesson: Lesson,
    network: Deployable,
    trainer_policy: TrainerPolicy,
    *,
    work_dir: Path,
    progress: Progress | None,
    seat: Seat = Seat(),
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> Progress:
    """Train a network, on from ``progress`` where that is not None; the checkpoint in ``work_dir`` follows.

    Every process of a training calls it with the same arguments but for its seat, and gets the same epochs.

    Raises:
        TrainingFailed: The loss is not a number any more.
        KeyboardInterrupt: Ctrl-C or SIGTERM came.
    """
    policy, data, checkpoint = lesson.recipe, lesson.data, work_dir / FILE
    if policy.channels_last:
        network = network.to(memory_format=torch.channels_last)
    weights = balancing(data.labels[lesson.training], len(lesson.classes))
    learner = Learner(network, policy, len(lesson.classes), weights if policy.balance == "weights" else None)
    epochs = Epochs(on_epoch, policy.monitor)
    # check_finite is off: it would end the training in silence, Epochs ends it with an error.
    stop = EarlyStopping(
        f"validation_{policy.monitor}",
        mode="min" if policy.monitor == "loss" else "max",
        patience=policy.patience,
        check_finite=False,
        log_rank_zero_only=True,
    )
    trainer = pl.Trainer(
        **_machine(trainer_policy, policy, seat),
        max_epochs=policy.epochs,
        deterministic="warn",
        precision=PRECISIONS[policy.precision],
        accumulate_grad_batches=policy.accumulate,
        use_distributed_sampler=False,
        callbacks=[epochs, stop, Keeper(checkpoint, lesson.mark)],
        default_root_dir=work_dir,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    try:
        trainer.fit(
            learner,
            _training_loader(lesson, seat, weights[data.labels[lesson.training]]),
            _validation_loader(lesson, seat),
            ckpt_path=None if progress is None else checkpoint,
            weights_only=True,
        )
    except SystemExit as error:
        # Lightning makes exits of Ctrl-C and SIGTERM, the latter even with status 0, as if all had ended well.
        if isinstance(error, SIGTERMException) or isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    return Progress(tuple(epochs.history), epochs.best, finished=True)


def so_far(lesson: Lesson, work_dir: Path) -> Progress | None:
    """How far a training came that was cut off; a checkpoint that does not serve is removed."""
    checkpoint = work_dir / FILE
    progress = read_progress(checkpoint, lesson.mark)
    if progress is None:
        checkpoint.unlink(missing_ok=True)
    return progress


def _machine(policy: TrainerPolicy, recipe: TrainPolicy, seat: Seat) -> dict[str, Any]:
    """What the training runs on, in Lightning's words."""
    common = {"accelerator": policy.accelerator, "plugins": [WholeFiles()]}
    if not seat.together:
        return {**common, "devices": 1}
    return {
        **common,
        "devices": seat.ranks // policy.nodes,
        "num_nodes": policy.nodes,
        # While the head alone learns, the rest has no gradients to be exchanged.
        "strategy": DDPStrategy(find_unused_parameters=recipe.freeze > 0, timeout=PATIENCE_WITH_OTHERS),
        "plugins": [WholeFiles(), TorchElasticEnvironment()],
    }


def _training_loader(lesson: Lesson, seat: Seat, drawn: npt.NDArray[np.float64]) -> DataLoader[Any]:
    """Batches of the chosen images, shuffled or drawn by seed and epoch; of each, every process has its part."""
    policy, count = lesson.recipe, len(lesson.training)
    turns = Turns(count, policy.seed, drawn if policy.balance == "sampling" else None)
    turns.share(seat.rank, seat.ranks)
    alter = ImageAugment(policy.augment, lesson.data.pixels.shape[1], policy.seed) if policy.augment else None
    return DataLoader(
        _as_dataset(Batches(lesson.data, lesson.training, alter, turns)),
        batch_size=policy.batch_size // seat.ranks,
        sampler=turns,
        # A last, smaller batch is left out: batch normalisation over one or two images says nothing.
        drop_last=len(turns) > policy.batch_size // seat.ranks,
        num_workers=policy.workers,
        collate_fn=as_it_is,
    )


def _validation_loader(lesson: Lesson, seat: Seat) -> DataLoader[Any]:
    batches = each_once(len(lesson.validation), seat.rank, seat.ranks, VALIDATION_BATCH)
    return DataLoader(_as_dataset(Batches(lesson.data, lesson.validation)), batch_sampler=batches, collate_fn=as_it_is)


def _as_dataset(batches: Batches) -> Any:
    return batches
