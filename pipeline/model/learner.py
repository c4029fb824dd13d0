"""Loss, optimiser and schedule around a network: what Lightning trains."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from timm.optim import param_groups_weight_decay
from timm.utils import ModelEmaV3

from pipeline.model.augment import augment, seed_of, seeded
from pipeline.model.mixing import Mixing
from pipeline.model.network import Deployable
from pipeline.model.partly import learn_last_blocks, rest_frozen
from pipeline.recipe import TrainPolicy

WARM_UP = 0.1  # share of all steps over which the learning rate rises
MOMENTUM = 0.9
FALL = 0.2  # what a plateau multiplies the learning rate with


class Learner(pl.LightningModule):
    """Loss, optimiser and schedule; every step is a function of seed, epoch and index alone."""

    weights: torch.Tensor | None

    def __init__(
        self, network: Deployable, policy: TrainPolicy, classes: int, weights: npt.NDArray[np.float64] | None = None
    ) -> None:
        """Train a network; (classes,) weights make a class count more or less in the loss."""
        super().__init__()
        self.network = network
        self.policy = policy
        self.mixing = Mixing(policy, classes)
        self.register_buffer(
            "weights", None if weights is None else torch.tensor(weights, dtype=torch.float32), persistent=False
        )
        learn_last_blocks(network.backbone, policy.blocks)
        # Warmed up: the average of a short training would else be mostly of its beginning.
        self.average = ModelEmaV3(network, decay=policy.ema, use_warmup=True) if policy.ema else None
        self.averaged_steps = 0
        self.training_loss = torch.zeros(())
        self.steps = 0
        self.validation_loss = torch.zeros(())  # sum over images
        self.hits = torch.zeros(classes)
        self.support = torch.zeros(classes)
        self.plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self.plateau_before: dict[str, Any] | None = None

    @property
    def judged(self) -> Deployable:
        """The network that validation looks at and that is kept."""
        return self.network if self.average is None else self.average.module

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        """The loss of one batch: pixels (b, size, size, 3) uint8 and labels (b,) int64."""
        head_only = self.current_epoch < self.policy.freeze or self.policy.blocks == 0
        if index == 0:
            rest_frozen(self.network.backbone, all_of_it=head_only)
        pixels, labels = batch
        keys = (self.policy.seed, self.current_epoch, index, self.global_rank)
        torch.manual_seed(seed_of(*keys))  # for dropout: each step draws the same, whatever was before it
        pixels = augment(pixels, self.policy, seeded(*keys))
        pixels, targets = self.mixing(pixels, labels, self.network.mean, seed_of(*keys))
        with torch.set_grad_enabled(not head_only):
            features = self.network.features(pixels)
        logits = self.network.head(features)
        loss = F.cross_entropy(logits, targets, weight=self.weights, label_smoothing=self.policy.label_smoothing)
        self.training_loss = self.training_loss + loss.detach()
        self.steps += 1
        return loss

    def on_train_start(self) -> None:
        """Begin to count steps, after a checkpoint from where it was."""
        self.averaged_steps = self.global_step

    def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
        """Take a step into the moving average."""
        if self.average is not None and self.global_step > self.averaged_steps:
            self.averaged_steps = self.global_step
            self.average.update(self.network, step=self.global_step)

    def take_training_loss(self) -> torch.Tensor:
        """Mean loss of this process's steps since the last call."""
        mean = self.training_loss / max(self.steps, 1)
        self.training_loss, self.steps = torch.zeros((), device=self.device), 0
        return mean

    def on_validation_epoch_start(self) -> None:
        """Count from zero, and let all processes judge one network."""
        if self.trainer.world_size > 1:
            # Each has statistics of the images that it saw: what is judged, and kept, has the mean of them.
            for buffer in self.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.trainer.strategy.reduce(buffer.clone(), reduce_op="mean"))
        self.validation_loss = torch.zeros((), device=self.device)
        self.hits, self.support = (torch.zeros(len(self.hits), device=self.device) for _ in range(2))

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> None:
        """Note loss and accuracy of one batch."""
        pixels, labels = batch
        logits = self.judged.logits(pixels)
        right = (logits.argmax(1) == labels).float()
        whose = F.one_hot(labels, len(self.hits)).float()
        self.hits += right @ whose
        self.support += whose.sum(0)
        self.validation_loss += F.cross_entropy(logits, labels, reduction="sum")

    def on_validation_epoch_end(self) -> None:
        """Note the figures: loss, accuracy, and the mean share of right answers of the classes that are there."""
        # Sums of all processes: Lightning's own mean over unequal parts divides by half an image too few.
        loss = self.trainer.strategy.reduce(self.validation_loss, reduce_op="sum")
        hits = self.trainer.strategy.reduce(self.hits, reduce_op="sum")
        support = self.trainer.strategy.reduce(self.support, reduce_op="sum")
        recall = (hits / support.clamp(min=1))[support > 0]
        self.log("validation_loss", loss / support.sum(), sync_dist=True)
        self.log("validation_accuracy", hits.sum() / support.sum(), sync_dist=True)
        self.log("validation_balanced_accuracy", recall.mean(), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The optimiser, and a learning rate that rises, then falls along a cosine; or falls on a plateau."""
        policy = self.policy
        groups = param_groups_weight_decay(self.network, policy.weight_decay)
        optimizer: torch.optim.Optimizer
        if policy.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=policy.learning_rate, momentum=MOMENTUM, nesterov=True)
        else:
            optimizer = torch.optim.AdamW(groups, lr=policy.learning_rate)
        if policy.schedule == "plateau":
            # Stepped in fell_or_rose: Lightning would do it after the checkpoint of the epoch is written.
            self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer,
                mode="min" if policy.monitor == "loss" else "max",
                factor=FALL,
                patience=max(policy.patience // 2 - 1, 0),
                threshold=0.0,
            )
            if self.plateau_before is not None:
                self.plateau.load_state_dict(self.plateau_before)
            return optimizer
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        rise = max(round(steps * WARM_UP), 1)

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            return 0.5 * (1 + math.cos(math.pi * min((step - rise) / max(steps - rise, 1), 1.0)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def end_epoch(self, monitored: float) -> None:
        """Let the learning rate fall if an epoch's figure stays where it was."""
        if self.plateau is not None:
            self.plateau.step(monitored)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what Lightning does not."""
        if self.plateau is not None:
            checkpoint["plateau"] = self.plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse; comes before the optimiser is made."""
        self.plateau_before = checkpoint.get("plateau")
