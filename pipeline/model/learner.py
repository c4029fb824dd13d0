"""Loss, optimiser and schedule around a network: what Lightning trains."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from timm.optim import param_groups_weight_decay

from pipeline.model.augment import augment, seed_of, seeded
from pipeline.model.network import Deployable
from pipeline.policies import TrainPolicy

WARM_UP = 0.1  # share of all steps over which the learning rate rises


class Learner(pl.LightningModule):
    """Loss, optimiser and schedule; every step is a function of seed, epoch and index alone."""

    def __init__(self, network: Deployable, policy: TrainPolicy) -> None:
        super().__init__()
        self.network = network
        self.policy = policy
        self.training_loss = torch.zeros(())
        self.steps = 0

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        """The loss of one batch: pixels (b, size, size, 3) uint8 and labels (b,) int64."""
        pixels, labels = batch
        keys = (self.policy.seed, self.current_epoch, index)
        torch.manual_seed(seed_of(*keys))  # for dropout: each step draws the same, whatever was before it
        pixels = augment(pixels, self.policy, seeded(*keys))
        loss = F.cross_entropy(self.network.logits(pixels), labels, label_smoothing=self.policy.label_smoothing)
        self.training_loss = self.training_loss + loss.detach()
        self.steps += 1
        return loss

    def take_training_loss(self) -> float:
        """Mean loss of the steps since the last call."""
        mean = float(self.training_loss) / max(self.steps, 1)
        self.training_loss, self.steps = torch.zeros((), device=self.device), 0
        return mean

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> None:
        """Note loss and accuracy of one batch."""
        pixels, labels = batch
        logits = self.network.logits(pixels)
        count = len(labels)
        self.log("validation_loss", F.cross_entropy(logits, labels), batch_size=count)
        self.log("validation_accuracy", (logits.argmax(1) == labels).float().mean(), batch_size=count)

    def configure_optimizers(self) -> Any:
        """AdamW, and a learning rate that rises and then falls along a cosine."""
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
